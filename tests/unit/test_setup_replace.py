"""A new machine in the place of a dead one: nothing of the node that works changes but whom it takes for its peer."""

from __future__ import annotations

import pathlib
import tomllib
from typing import Any

import pytest

from ha_agent.cli.setup_cmd import make_requests
from ha_agent.cli.setup_node import SetupFailed, trusted_files
from ha_agent.cli.setup_replace import adapt_requests, check_survivor, lower_priority, survivor_vrrp
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.settings_edit import changed_values, set_values
from ha_agent.core.setup_plan import PENDING_KEY, merge_settings
from tests.unit.test_setup_node import facts_of

RAW: dict[str, Any] = {
    "node": {"name": "node-a", "address": "192.0.2.11"},
    "peer": {"name": "node-b", "address": "192.0.2.12", "ssh_port": 2222},
    "vrrp": {"vip": "192.0.2.10/24", "interface": "eth0", "router_id": 77, "priority": 110, "advert_int_s": 0.5},
    "takeover": {"on_interlock_timeout": "hold", "fence_command": ["/usr/bin/fence", "node-b"]},
    "registry": {"path": "/etc/supervisord.d"},
}


def settings_of(**vrrp: Any) -> Settings:
    return check_settings({**RAW, "vrrp": {**RAW["vrrp"], **vrrp}})


def seen(role: str = "active", *, reachable: bool = False) -> list[Any]:
    return [{"name": "node-a", "role": role}, {"name": "node-b", "reachable": reachable}]


def requests_for(settings: Settings, name: str = "node-b", address: str = "192.0.2.12", *, known: bool = False) -> Any:
    facts = {"own": facts_of("192.0.2.11/24", "host-a", "192.0.2.10/32"), "peer": facts_of(f"{address}/24", name)}
    vrrp = settings.vrrp
    requests = make_requests(facts, list(vrrp.all_vips), None, vrrp.router_id, 22, survivor_vrrp(settings))
    return adapt_requests(requests, settings, "node-b", 22, is_known=known)


def test_the_node_that_works_keeps_everything_but_its_peer() -> None:
    settings = settings_of()
    own = requests_for(settings, "node-c", "192.0.2.13")["own"]
    changed = changed_values(RAW, merge_settings(RAW, own["settings"]))
    changed = {key: value for key, value in changed.items() if key not in ("supervisor.config",)}
    assert changed == {"peer.name": "node-c", "peer.address": "192.0.2.13", "peer.ssh_port": 22}


def test_the_new_one_gets_what_both_must_have_alike_and_no_command() -> None:
    peer = requests_for(settings_of())["peer"]["settings"]
    made = check_settings(peer)
    assert (made.node.name, made.node.address, made.peer.name, made.peer.address) == (
        "node-b",
        "192.0.2.12",
        "node-a",
        "192.0.2.11",
    )
    assert (made.vrrp.vip, made.vrrp.router_id, made.vrrp.advert_int_s, made.vrrp.priority) == (
        "192.0.2.10/24",
        77,
        0.5,
        100,
    )
    assert made.takeover.on_interlock_timeout == "hold" and made.takeover.fence_command == ()
    assert made.registry.path == "/etc/supervisord.d"


def test_its_key_is_made_anew_unless_a_run_before_has_done_so() -> None:
    first, again = (requests_for(settings_of(), known=known)["own"] for known in (False, True))
    assert first["peer_key"] == PENDING_KEY and first["anew"]
    assert again["peer_key"] != PENDING_KEY and "anew" not in again


def test_the_dead_ones_keys_are_let_in_and_known_nowhere(tmp_path: pathlib.Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("node-b ssh-ed25519 OLD\n")
    request = {"peer_key": "ssh-ed25519 NEWA", "peer_host_key": "ssh-ed25519 NEWH", "former_peer": "node-b"}
    (_, keys, _), (_, hosts, _) = trusted_files(request, str(known), "node-c")
    assert hosts == "node-c ssh-ed25519 NEWH\n" and keys.count("ha-agent-peer") == 1 and "NEWA" in keys


@pytest.mark.parametrize("priority", [1, 5, 10, 11, 100, 254])
def test_the_priorities_differ_and_are_allowed(priority: int) -> None:
    made = lower_priority(priority)
    assert made != priority and settings_of(priority=made).vrrp.priority == made
    assert made < priority or priority <= 10


def test_it_is_refused_where_this_nodes_confs_would_not_count_or_the_other_lives() -> None:
    settings = settings_of()
    check_survivor(seen(), settings, "node-b", is_known=False)
    check_survivor(seen(reachable=True), settings, "node-b", is_known=True)
    for accounts, node, said in (
        (seen(), "node-a", "run this on the node that works"),
        (seen("standby"), "node-b", "not active"),
        (seen("taking_over"), "node-b", "takeover --peer-is-off"),
        (seen(reachable=True), "node-b", "answers over the link"),
    ):
        with pytest.raises(SetupFailed, match=said):
            check_survivor(accounts, settings, node, is_known=False)


def test_the_file_of_the_node_that_works_keeps_its_comments() -> None:
    text = '[node]\nname = "node-a" # mine\naddress = "192.0.2.11"\n[peer]\nname = "node-b"\naddress = "192.0.2.12"\n'
    raw = tomllib.loads(text)
    merged = merge_settings(raw, {"peer": {"name": "node-c", "address": "192.0.2.12"}})
    assert set_values(text, changed_values(raw, merged)) == text.replace("node-b", "node-c")
