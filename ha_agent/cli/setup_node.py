"""One node's part of ``ha-agent setup``: what it is now, what would change, changing it, and taking that back.

``setup`` runs it on both nodes: on its own as a function, on the peer over ssh as ``ha-agent setup-node``, with JSON on
standard input and output.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field, replace
from typing import Any

from ha_agent import __version__
from ha_agent.adapters.addresses import find_address
from ha_agent.adapters.files import make_dir, write_atomic
from ha_agent.adapters.keepalived_conf import KEEPALIVED_CONF, plan_conf, read_conf
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.resources import find_resource
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.adapters.setup_changes import ADOPTING, PEER, RAN_BEFORE, SetupChanges, is_of_trust
from ha_agent.adapters.supervisord import Fault, RereadRefused, Supervisord, SupervisordDown
from ha_agent.adapters.terminal import complain
from ha_agent.cli.lint_cmd import read_registry
from ha_agent.cli.setup_dissolve import find_left_out, include_left_out, keep_address, put_registry_aside
from ha_agent.cli.setup_keys import AUTHORIZED, KeysFailed, run_keys_part
from ha_agent.cli.setup_look import (
    ConfPlan,
    Look,
    links_as_files,
    look_at_supervisord,
    plan_confs,
    read_running,
    read_text,
)
from ha_agent.cli.setup_witness import WitnessPartFailed, run_witness_part
from ha_agent.core.host_profile import DEBIAN, LOCAL_DIR
from ha_agent.core.keepalived_plan import KeepalivedPlan, describe_instances
from ha_agent.core.listener_conf import GROUP, LISTENER_CONF, render_listener
from ha_agent.core.main_conf import UnusableConf, has_own_programs, replace_include
from ha_agent.core.names import PARKED
from ha_agent.core.places import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, RunPlaces, StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.schema import NAME, SettingsError
from ha_agent.core.settings import LinkSettings, Settings, SupervisorSettings, VrrpSettings, check_settings
from ha_agent.core.settings_edit import UneditableText, changed_values, dropped_values, set_values
from ha_agent.core.settings_sample import flat_values, sample_toml
from ha_agent.core.setup_plan import (
    PENDING_KEY,
    FileChange,
    add_peer_key,
    is_public_key,
    merge_settings,
    pin_host_key,
    unpin_host_key,
)
from ha_agent.core.supervisor_survey import find_obstacles
from ha_agent.core.vip import find_prefix
from ha_agent.core.words import Exit

_PLACES = StatePlaces(DEFAULT_STATE_DIR)
CHANGES = SetupChanges(_PLACES.setup_record, _PLACES.undone)
KEY = "/etc/ha-agent/ssh/id_ed25519"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
UNITS = "/etc/systemd/system"

COMMAND_S = 60.0


class SetupFailed(Exception):
    """This node's part cannot be done; the text says what, and what to do."""


def run_part(part: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs one part; returns its answer. "facts" and "plan" change nothing. Raises ``SetupFailed`` and ``SettingsError``.

    What was changed before a failure is in the record: the same again continues, "undo" leads back.
    """
    if os.geteuid() != 0:
        raise SetupFailed("setup must run as root on both nodes: it writes their configuration and starts services")
    parts = {
        "facts": _facts,
        "plan": _plan,
        "key": _key,
        "keys": run_keys_part,
        "apply": _apply,
        "service": _service,
        "address": _address,
        "undo": _undo,
        "witness": run_witness_part,
    }
    try:
        return parts[part](request)
    except (OSError, UnusableConf, KeysFailed, WitnessPartFailed) as error:
        raise SetupFailed(reason_of(error)) from None


def main_remote(part: str) -> int:
    """``ha-agent setup-node PART``: the request on standard input, the answer on standard output."""
    try:
        request = json.load(sys.stdin)
    except ValueError:
        complain("setup-node is run by ha-agent setup, which sends it a request; run ha-agent setup --peer NODE")
        return Exit.USAGE
    try:
        answer = run_part(part, request)
    except (SetupFailed, UnusableConf, SettingsError, OSError, KeyError, ValueError) as error:
        answer = {"failure": reason_of(error)}
    json.dump(answer, sys.stdout)
    return 0


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S)
    except FileNotFoundError:
        raise SetupFailed(f"{words[0]} is missing on this node") from None
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"{' '.join(words)}: no end within {COMMAND_S:g} s") from None


def _must(*words: str) -> str:
    done = _run(*words)
    if done.returncode != 0:
        raise SetupFailed(f"{' '.join(words)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


# ---- what is there ---------------------------------------------------------------------------------------------


def _facts(request: dict[str, Any]) -> dict[str, Any]:
    """What the other side must know of this node; ``key`` is empty where the agent has none yet.

    ``obstacles``: what keeps a pair from being made of its supervisord, one sentence each.
    """
    host_key = read_text(HOST_KEY)
    if host_key is None:
        raise SetupFailed(f"{HOST_KEY} is missing: is openssh-server installed? (ssh-keygen -A makes it)")
    permits = _run("sshd", "-T").stdout.lower()
    look = _look()
    instances, unreadable = _instances()
    survey = look.survey if request.get("active") else replace(look.survey, has_confs=False)
    return {
        "version": __version__,
        "name": os.uname().nodename.split(".")[0],
        "addresses": _addresses(),
        "key": (read_text(f"{KEY}.pub") or "").strip() if os.path.exists(KEY) else "",
        "host_key": " ".join(host_key.split()[:2]),
        "root_login": next((line.split()[1] for line in permits.splitlines() if line.startswith("permitrootlogin ")), "?"),
        "confs": sorted(path for path in read_registry(look.registry) if not path.endswith(PARKED)),
        "running": read_running(look),
        "agent": _run("systemctl", "is-active", "ha-agent").stdout.strip(),
        "keepalived": _run("systemctl", "is-active", "keepalived").stdout.strip(),
        "instances": instances,
        "made_by_setup": bool(CHANGES.read()),
        "obstacles": unreadable + find_obstacles(survey, leave_others=bool(request.get("leave_supervisords"))),
        "places": {"config": survey.main_conf, "socket": survey.door.socket, "registry": look.registry},
    }


def _instances() -> tuple[dict[str, Any], list[str]]:
    """keepalived's VRRP instances by name, and what keeps keepalived.conf from being read."""
    try:
        whole, _ = read_conf(KEEPALIVED_CONF)
    except ValueError as error:
        text = f"{KEEPALIVED_CONF} cannot be read ({error}): correct it until keepalived -t takes it, and again"
        return {}, [text]
    return {name: found.to_dict() for name, found in describe_instances(whole).items()}, []


def _configured(section: str, key: str) -> str | None:
    """What agent.toml says; None where it says nothing. Raises ``SetupFailed``."""
    try:
        found = tomllib.loads(read_text(DEFAULT_PATH) or "").get(section, {}).get(key)
    except (tomllib.TOMLDecodeError, AttributeError):
        raise SetupFailed(f"{DEFAULT_PATH} cannot be read: ha-agent config check says more") from None
    return None if found is None else str(found)


def _look() -> Look:
    active = RunPlaces(_configured("paths", "run_dir") or DEFAULT_RUN_DIR).active_pattern
    return look_at_supervisord(_configured("supervisor", "config"), _configured("registry", "path"), active, CHANGES)


def _key(request: dict[str, Any]) -> dict[str, Any]:
    """The agent's public key; made where there is none, and ``anew`` also where there is one."""
    if request.get("anew"):
        for path in (KEY, f"{KEY}.pub"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    if not os.path.exists(KEY):
        make_dir(os.path.dirname(KEY), 0o700)
        _must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ha-agent@{os.uname().nodename}", "-f", KEY)
    return {"key": (read_text(f"{KEY}.pub") or "").strip()}


def _addresses() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for link in json.loads(_must("ip", "-j", "addr", "show")):
        own = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a.get("scope") == "global"]
        if own:
            found[str(link["ifname"])] = own
    return found


# ---- what is to be ----------------------------------------------------------------------------------------------


def _settings(request: dict[str, Any]) -> tuple[Settings, str]:
    """The settings of this node and the text of agent.toml: what is asked for, over what an operator has set already."""
    present = read_text(DEFAULT_PATH)
    raw: dict[str, Any] = {}
    if present is not None:
        try:
            raw = tomllib.loads(present)
        except tomllib.TOMLDecodeError as error:
            raise SetupFailed(f"{DEFAULT_PATH}: {error}; correct it, or move it away") from None
    before = raw
    if request.get("adopt_instance") and isinstance(raw.get("vrrp"), dict):
        # The instance says what it has, whatever was written here before.
        raw = {**raw, "vrrp": {k: v for k, v in raw["vrrp"].items() if k not in request["settings"]["vrrp"]}}
    merged = merge_settings(raw, request["settings"])
    settings = check_settings(merged)
    if present is not None and before == merged:
        return settings, present
    if present is not None:
        # What somebody has written besides stays, comments and all, where the file can be changed line by line.
        with contextlib.suppress(UneditableText):
            return settings, set_values(present, changed_values(raw, merged), dropped_values(before, merged))
    return settings, sample_toml(flat_values(merged))


def trusted_files(request: dict[str, Any], known_hosts: str, name: str) -> list[tuple[str, str, int]]:
    """The files by which the peer's agent may reach this agent's forced command, and by which its host key is known.

    Raises ``SetupFailed`` where the peer gives itself a name or a key of another form: each becomes a line of such a file.
    """
    if NAME[0](name) is not None:
        raise SetupFailed(f"the peer calls itself {name!r:.80}, which is not the name of a node ({NAME[1]})")
    for what in ("peer_key", "peer_host_key"):
        if not is_public_key(str(request[what])):
            raise SetupFailed(f"{what} is not a public key: {str(request[what])[:60]!r}")
    hosts = read_text(known_hosts)
    if hosts is not None and request.get("former_peer"):
        hosts = unpin_host_key(hosts, str(request["former_peer"]))
    return [
        (AUTHORIZED, add_peer_key(read_text(AUTHORIZED), request["peer_key"]), 0o600),
        (known_hosts, pin_host_key(hosts, name, request["peer_host_key"]), 0o600),
    ]


def _known_peer(name: str) -> str:
    """``name``, unless agent.toml knows the peer by another one. Raises ``SetupFailed``."""
    known = _configured("peer", "name")
    if known not in (None, name):
        raise SetupFailed(
            f"the peer calls itself {name!r:.80}, and {DEFAULT_PATH} says that it is {known!r:.80}: which one?"
        )
    return name


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Every file of this node, changed or not, what people are told besides, and what is refused."""

    changes: list[FileChange]
    said: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    keepalived: KeepalivedPlan = field(default_factory=KeepalivedPlan)


def _make_plan(request: dict[str, Any]) -> NodePlan:
    """The plan for this node; that of the trust alone where there are no ``settings``."""
    if "settings" not in request:
        wanted = trusted_files(request, LinkSettings().known_hosts, _known_peer(str(request["peer_name"])))
        return NodePlan([_file(*one) for one in wanted])
    settings, text_of_settings = _settings(request)
    look = replace(_look(), registry=settings.registry.path)
    main = settings.supervisor.config
    text = read_text(main)
    if text is None:
        raise SetupFailed(f"{main} is missing: is supervisor installed?")
    confs = _plan_confs(look, settings, request, text)
    keepalived = plan_conf(
        settings,
        runs=_is_active("keepalived"),
        adopt=bool(request.get("adopt_instance")),
        replace_notify=bool(request.get("replace_notify")),
        replace_all=bool(request.get("replace_keepalived")),
    )
    active = RunPlaces(settings.paths.run_dir).active_pattern
    changes = [_file(DEFAULT_PATH, text_of_settings, 0o644)]
    changes += [_file(*one) for one in trusted_files(request, settings.link.known_hosts, settings.peer.name)]
    # Confs first: whatever starts supervisord in between, it finds those that it had.
    changes += confs.changes
    changes += [
        _file(main, replace_include(confs.main, active), 0o644),
        _file(LISTENER_CONF, render_listener(), 0o644),
    ]
    changes += [_file(path, text, 0o644) for path, text in keepalived.files.items()]
    changes += [_file(path, text, 0o644) for path, text in drop_ins(look.unit, settings.supervisor)]
    return NodePlan(changes, confs.said + keepalived.said, confs.refused + keepalived.refused, keepalived)


def _plan_confs(look: Look, settings: Settings, request: dict[str, Any], main: str) -> ConfPlan:
    if not look.is_adopting:
        return ConfPlan(main=main)
    if request.get("active"):
        wants = {name: bool(request.get(name)) for name in ("start_all", "move_programs")}
        return plan_confs(look, settings, **wants)
    if has_own_programs(look.original):
        text = (
            f"{settings.supervisor.config} has programs of its own, which would run beside those of the pair: take them out"
        )
        return ConfPlan(refused=(text,), main=main)
    return ConfPlan(tuple(links_as_files(look)), main=main)


def _file(path: str, new: str, mode: int) -> FileChange:
    return FileChange(path, read_text(path), new, mode)


def drop_ins(unit: str, supervisor: SupervisorSettings) -> list[tuple[str, str]]:
    """The units' drop-ins, as paths and texts, for a supervisord that is called ``unit``.

    Where it is not Debian's, the agent's own units are told where it is, too.
    """
    texts = {}
    for name in (f"{DEBIAN.unit}.service.d", "keepalived.service.d"):
        with open(find_resource(f"systemd/{name}/ha-agent.conf"), encoding="utf-8") as file:
            text = re.sub(rf"\b{DEBIAN.unit}\.service\b", f"{unit}.service", file.read())
        texts[name.replace(f"{DEBIAN.unit}.", f"{unit}.")] = text
    usual = SupervisorSettings()
    if (unit, supervisor.socket, supervisor.config) != (DEBIAN.unit, usual.socket, usual.config):
        texts["ha-agent.service.d"] = f"# Drop-in for a supervisord that is no Debian's.\n[Unit]\nAfter={unit}.service\n"
        told = {"UNIT": unit, "SOCKET": supervisor.socket, "CONF": supervisor.config}
        lines = [f'Environment="HA_AGENT_SUPERVISOR_{key}={value}"\n' for key, value in told.items()]
        texts["ha-agent-fence.service.d"] = "# Where the fence finds supervisord.\n[Service]\n" + "".join(lines)
    return [(f"{UNITS}/{name}/ha-agent.conf", text) for name, text in texts.items()]


def _plan(request: dict[str, Any]) -> dict[str, Any]:
    plan = _make_plan(request)
    return {
        "changes": [change.to_dict() for change in plan.changes],
        "said": plan.said,
        "refused": plan.refused,
        "keepalived_files": sorted(plan.keepalived.files),
        "is_added": plan.keepalived.is_added,
    }


def _apply(request: dict[str, Any]) -> dict[str, Any]:
    """Changes what is due; what stood there is kept beside it, and the record says so before anything is changed."""
    if request["peer_key"] == PENDING_KEY:
        raise SetupFailed("the peer's key is not made yet")
    plan = _make_plan(request)
    if plan.refused:
        raise SetupFailed("; ".join(plan.refused))
    words: dict[str, str] = {}
    if any(change.is_due and is_of_trust(change.path) for change in plan.changes):
        words[PEER] = str(request["peer_name"] if "settings" not in request else request["settings"]["peer"]["name"])
    if "settings" in request:
        settings = _settings(request)[0]
        if _look().is_adopting:
            words[ADOPTING] = settings.supervisor.config
        if not CHANGES.read() and _is_active("keepalived"):
            words[RAN_BEFORE] = "keepalived"
    changed = CHANGES.apply(plan.changes, **words)
    if "settings" in request:
        os.makedirs(LOCAL_DIR, exist_ok=True)
        os.makedirs(settings.registry.path, exist_ok=True)
        _must("systemctl", "daemon-reload")
    return {"changed": changed}


def _service(request: dict[str, Any]) -> dict[str, Any]:
    """Enables a unit and has it run with what is configured now; ``changed``: it must be started again for that."""
    if request["unit"] == "listener":
        # supervisord runs with its old configuration; of the new one only the listener's group is taken up here.
        _take_up_listener(_look().client)
        CHANGES.note(ADOPTING, None)
        return {}
    unit = {"agent": "ha-agent", "keepalived": "keepalived", "supervisor": ""}[str(request["unit"])] or _look().unit
    if request.get("stop"):
        _must("systemctl", "stop", unit)
        return {}
    _must("systemctl", "enable", unit)
    active = _is_active(unit)
    if unit == "ha-agent" and not active:
        # The programs were here before the agent, which must not take them for what an agent before it has lost.
        run = RunPlaces(read_places(DEFAULT_PATH)[0])
        make_dir(run.run_dir, 0o755)
        write_atomic(run.adopt, b"", durable=False)
    if unit == "keepalived" and active and request.get("changed"):
        # A restart would give up every address, and tell so to scripts that are not ours.
        _must("systemctl", "reload", unit)
    elif not active or request.get("changed"):
        _must("systemctl", "restart", unit)
    return {"was_active": active}


def _is_active(unit: str) -> bool:
    return _run("systemctl", "is-active", unit).stdout.strip() == "active"


def _take_up_listener(client: Supervisord) -> None:
    """Has supervisord load the event listener as its conf is now, or unload it. Raises ``SetupFailed``."""
    try:
        added, changed, removed = client.reread()
        calls = [("stopProcessGroup", [GROUP]), ("removeProcessGroup", [GROUP])] if GROUP in changed + removed else []
        calls += [("addProcessGroup", [GROUP])] if GROUP in added + changed else []
        faults = [fault.text for fault in client.batch(calls) if isinstance(fault, Fault)]
    except (SupervisordDown, RereadRefused) as error:
        raise SetupFailed(f"supervisord cannot be told of the event listener: {error}") from None
    if faults:
        raise SetupFailed(f"supervisord refuses the event listener: {faults[0]}")


def _address(_request: dict[str, Any]) -> dict[str, Any]:
    """Gives each VIP that is here before keepalived the prefix length that keepalived gives it; at no moment is it gone.

    keepalived leaves an address of another prefix length here at a role change, but takes its removal, once it is MASTER,
    for the loss of its own.
    """
    settings = load_settings(DEFAULT_PATH)
    replaced: list[str] = []
    for vip in settings.vrrp.all_vips if not _is_active("keepalived") else ():
        replaced += _replace_prefix(vip, settings.vrrp.interface, settings.node.address)
    return {"replaced": replaced}


def _replace_prefix(vip: str, interface: str, own: str) -> list[str]:
    held = ipaddress.ip_interface(find_prefix(vip, own))
    present = {one.prefix_length for one in find_address(vip) if one.interface == socket.if_nametoindex(interface)}
    others = sorted(present - {held.network.prefixlen})
    if not others:
        return []
    if held.network.prefixlen not in present:
        _must("ip", "addr", "add", str(held), "dev", interface)
    if not asyncio.run(Machine().remove_address(vip, interface, keep=held.network.prefixlen)):
        raise SetupFailed(f"{held.ip}/{others[0]} cannot be taken off {interface}: ip addr del says why")
    return [f"{held.ip}/{n} dev {interface}" for n in others]


# ---- and back ---------------------------------------------------------------------------------------------------


def _undo(request: dict[str, Any]) -> dict[str, Any]:
    """Puts back what stood there before the first setup. The agent goes first, so that no program stops.

    ``clean``: what replication brought is put aside, too. ``goes_on``: the virtual address stays here, as a plain one, and
    the main conf includes every conf of the registry.
    """
    if not CHANGES.read():
        return {"restored": [], "aside": []}
    look = _look()
    vip, interface = _configured("vrrp", "vip"), _configured("vrrp", "interface")
    stays = CHANGES.read().get(RAN_BEFORE) == "keepalived"
    for unit in ("ha-agent",) if stays else ("ha-agent", "keepalived"):
        _run("systemctl", "disable", "--now", unit)
    # An agent that is set up again must not continue as the active one, find no keepalived, and stop everything.
    for path in RunPlaces(_configured("paths", "run_dir") or DEFAULT_RUN_DIR).role_files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    answer: dict[str, Any] = {}
    if request.get("goes_on") and not stays and vip:
        answer["address_problem"] = keep_address(vip, interface or VrrpSettings(vip=vip).interface)
    done = CHANGES.undo(_configured("peer", "name") or "")
    # Its conf is gone by now; where supervisord does not run, there is nothing to take out.
    with contextlib.suppress(SetupFailed):
        _take_up_listener(look.client)
    _must("systemctl", "daemon-reload")
    if stays:
        # It ran before there was a pair, with what is its conf again.
        _run("systemctl", "reload-or-restart", "keepalived")
    present = sorted(read_registry(look.registry))
    if request.get("clean"):
        folder = f"{_PLACES.undone}/registry"
        answer["moved"] = put_registry_aside(look.registry, present, done.restored, folder)
        answer["moved_to"] = folder
        present = sorted(read_registry(look.registry))
    left = [path for path in present if not path.endswith(PARKED)]
    if request.get("goes_on"):
        look = _look()
        left_out = [os.path.join(look.registry, p) for p in find_left_out(look.registry, present, look.patterns)]
        answer["included"] = include_left_out(look.survey.main_conf, left_out)
    answer |= {"restored": sorted(done.restored), "aside": done.aside, "confs": left, "running": read_running(look)}
    return answer
