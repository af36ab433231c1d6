"""``ha-agent keepalived render``: keepalived.conf of this node, from the agent's own configuration."""

from __future__ import annotations

from string import Template

from ha_agent.adapters.resources import find_resource
from ha_agent.core.places import RunPlaces
from ha_agent.core.settings import Settings
from ha_agent.core.vip import find_prefix

HOOK_PATH = "/usr/lib/ha-agent/ha-agent-notify"


def render_keepalived(settings: Settings, hook: str = HOOK_PATH) -> str:
    """The text of keepalived.conf for this node. Raises ``FileNotFoundError`` where the template is not installed."""
    with open(find_resource("keepalived/keepalived.conf.template"), encoding="utf-8") as file:
        template = Template(file.read())
    vrrp = settings.vrrp
    return template.substitute(
        node=settings.node.name,
        address=settings.node.address,
        peer_address=settings.peer.address,
        startup_delay=f"{vrrp.startup_delay_s:g}",
        instance=vrrp.instance,
        interface=vrrp.interface,
        router_id=vrrp.router_id,
        priority=vrrp.priority,
        advert_int=f"{vrrp.advert_int_s:g}",
        nopreempt="    nopreempt" if vrrp.nopreempt else "    # preempt: the higher priority always gets the VIP back",
        nopreempt_remark=", which nopreempt requires" if vrrp.nopreempt else "; the priorities decide",
        vip=find_prefix(vrrp.vip, settings.node.address),
        track_file=RunPlaces(settings.paths.run_dir).track_file,
        hook=hook,
    )
