"""One node's part of ``ha-agent setup``: what it is now, what would change, changing it, and taking that back.

``setup`` runs it on both nodes: on its own as a function, on the peer over ssh as ``ha-agent setup-node``, with JSON on
standard input and output.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from typing import Any

from ha_agent import __version__
from ha_agent.adapters.addresses import find_address
from ha_agent.adapters.files import make_dir, read_or_none, write_atomic
from ha_agent.adapters.keepalived_conf import HOOK_PATH, render_keepalived
from ha_agent.adapters.machine import Machine
from ha_agent.adapters.resources import find_resource
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.adapters.supervisord import Supervisord, SupervisordDown
from ha_agent.adapters.terminal import complain
from ha_agent.cli.lint_cmd import read_registry
from ha_agent.core.listener_conf import GROUP, LISTENER_CONF, render_listener
from ha_agent.core.main_conf import UnusableConf, has_own_programs, included_patterns, parse_main_conf, replace_include
from ha_agent.core.places import DEFAULT_STATE_DIR, RunPlaces, StatePlaces
from ha_agent.core.schema import NAME, SettingsError
from ha_agent.core.settings import LinkSettings, Settings, check_settings
from ha_agent.core.settings_sample import flat_values, sample_toml
from ha_agent.core.setup_plan import (
    PENDING_KEY,
    FileChange,
    add_peer_key,
    is_public_key,
    merge_settings,
    pin_host_key,
    remove_peer_key,
    unpin_host_key,
)
from ha_agent.core.vip import find_prefix
from ha_agent.core.words import Exit

_PLACES = StatePlaces(DEFAULT_STATE_DIR)
RECORD = _PLACES.setup_record
KEY = "/etc/ha-agent/ssh/id_ed25519"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
AUTHORIZED = "/root/.ssh/authorized_keys"
KEEPALIVED = "/etc/keepalived/keepalived.conf"
DROP_INS = ("supervisor.service.d", "keepalived.service.d")
SAVED = ".before-ha-agent"
REGISTRY = "/etc/supervisor/conf.d"
UNDONE = _PLACES.undone
"""Where an undo puts confs that setup had brought into the registry."""

PEER = "peer_name"
"""What the record of changes has beside its paths: under which name the peer's host key is pinned."""

COMMAND_S = 60.0


class SetupFailed(Exception):
    """This node's part cannot be done; the text says what, and what to do."""


def run_part(part: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs one part; returns its answer. "facts" and "plan" change nothing. Raises ``SetupFailed`` and ``OSError``."""
    if os.geteuid() != 0:
        raise SetupFailed("setup must run as root on both nodes: it writes their configuration and starts services")
    parts = {
        "facts": _facts,
        "plan": _plan,
        "key": _key,
        "apply": _apply,
        "service": _service,
        "address": _address,
        "undo": _undo,
    }
    return parts[part](request)


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
        answer = {"failure": str(error)}
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


def _text(path: str) -> str | None:
    raw = read_or_none(path)
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


# ---- what is there ---------------------------------------------------------------------------------------------


def _facts(_request: dict[str, Any]) -> dict[str, Any]:
    """What the other side must know of this node; ``key`` is empty where the agent has none yet."""
    host_key = _text(HOST_KEY)
    if host_key is None:
        raise SetupFailed(f"{HOST_KEY} is missing: is openssh-server installed? (ssh-keygen -A makes it)")
    permits = _run("sshd", "-T").stdout.lower()
    return {
        "version": __version__,
        "name": os.uname().nodename.split(".")[0],
        "addresses": _addresses(),
        "key": (_text(f"{KEY}.pub") or "").strip() if os.path.exists(KEY) else "",
        "host_key": " ".join(host_key.split()[:2]),
        "root_login": next((line.split()[1] for line in permits.splitlines() if line.startswith("permitrootlogin ")), "?"),
        "confs": sorted(read_registry(REGISTRY)),
        "running": _running(),
        "agent": _run("systemctl", "is-active", "ha-agent").stdout.strip(),
        "keepalived": _run("systemctl", "is-active", "keepalived").stdout.strip(),
    }


def _key(_request: dict[str, Any]) -> dict[str, Any]:
    """The agent's public key; made where there is none."""
    if not os.path.exists(KEY):
        make_dir(os.path.dirname(KEY), 0o700)
        _must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ha-agent@{os.uname().nodename}", "-f", KEY)
    return {"key": (_text(f"{KEY}.pub") or "").strip()}


def _addresses() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for link in json.loads(_must("ip", "-j", "addr", "show")):
        own = [f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", ()) if a.get("scope") == "global"]
        if own:
            found[str(link["ifname"])] = own
    return found


def _running() -> list[str]:
    try:
        return sorted(
            i.full_name for i in Supervisord("/run/supervisor.sock", 5.0).read_processes() if i.pid and i.group != GROUP
        )
    except SupervisordDown:
        return []


# ---- what is to be ----------------------------------------------------------------------------------------------


def _settings(request: dict[str, Any]) -> tuple[Settings, str]:
    """The settings of this node and the text of agent.toml: what is asked for, over what an operator has set already."""
    present = _text(DEFAULT_PATH)
    raw: dict[str, Any] = {}
    if present is not None:
        try:
            raw = tomllib.loads(present)
        except tomllib.TOMLDecodeError as error:
            raise SetupFailed(f"{DEFAULT_PATH}: {error}; correct it, or move it away") from None
    merged = merge_settings(raw, request["settings"])
    settings = check_settings(merged)
    if present is not None and raw == merged:
        return settings, present
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
    return [
        (AUTHORIZED, add_peer_key(_text(AUTHORIZED), request["peer_key"]), 0o600),
        (known_hosts, pin_host_key(_text(known_hosts), name, request["peer_host_key"]), 0o600),
    ]


def _configured_peer() -> str | None:
    """The peer's name in agent.toml; None where that says none. Raises ``SetupFailed``."""
    try:
        found = tomllib.loads(_text(DEFAULT_PATH) or "").get("peer", {}).get("name")
    except (tomllib.TOMLDecodeError, AttributeError):
        raise SetupFailed(f"{DEFAULT_PATH} cannot be read: ha-agent config check says more") from None
    return None if found is None else str(found)


def _known_peer(name: str) -> str:
    """``name``, unless agent.toml knows the peer by another one. Raises ``SetupFailed``."""
    known = _configured_peer()
    if known not in (None, name):
        raise SetupFailed(
            f"the peer calls itself {name!r:.80}, and {DEFAULT_PATH} says that it is {known!r:.80}: which one?"
        )
    return name


def _changes(request: dict[str, Any]) -> list[FileChange]:
    """Every file of this node, changed or not; those of the trust alone where there are no ``settings``."""
    if "settings" not in request:
        wanted = trusted_files(request, LinkSettings().known_hosts, _known_peer(str(request["peer_name"])))
        return [FileChange(path, _text(path), new, mode) for path, new, mode in wanted]
    settings, text_of_settings = _settings(request)
    main = settings.supervisor.config
    text = _text(main)
    if text is None:
        raise SetupFailed(f"{main} is missing: is supervisor installed?")
    active = RunPlaces(settings.paths.run_dir).active_pattern
    wanted = [
        (DEFAULT_PATH, text_of_settings, 0o644),
        *trusted_files(request, settings.link.known_hosts, settings.peer.name),
        (main, replace_include(text, active), 0o644),
        (KEEPALIVED, render_keepalived(settings, HOOK_PATH), 0o644),
        (LISTENER_CONF, render_listener(), 0o644),
    ]
    wanted += _moved(text, settings)
    for name in DROP_INS:
        with open(find_resource(f"systemd/{name}/ha-agent.conf"), encoding="utf-8") as file:
            wanted.append((f"/etc/systemd/system/{name}/ha-agent.conf", file.read(), 0o644))
    return [FileChange(path, _text(path), new, mode) for path, new, mode in wanted]


def _moved(main: str, settings: Settings) -> list[tuple[str, str, int]]:
    """Confs that supervisord has included from elsewhere, as confs of the registry: they are not included any more.

    Raises ``SetupFailed`` where two would have the same name, or the main conf has programs of its own.
    """
    if has_own_programs(main):
        raise SetupFailed(
            f"{settings.supervisor.config} has programs of its own, which would run on both nodes: move each into a conf of "
            f"{settings.registry.path} (or of /etc/supervisor/local.d, if that is meant), supervisorctl update, and again"
        )
    registry = os.path.realpath(settings.registry.path)
    kept = (registry, "/etc/supervisor/local.d", RunPlaces(os.path.realpath(settings.paths.run_dir)).active_set)
    found: dict[str, str] = {}
    for pattern in included_patterns(parse_main_conf(main), settings.supervisor.config):
        for path in sorted(glob.glob(pattern)):
            folder, name = os.path.split(os.path.realpath(path))
            if folder in kept or folder.startswith(registry + "/"):
                continue
            target = os.path.join(registry, name)
            if not name.endswith((".conf", ".ini")):
                raise SetupFailed(f"{path} is included and is no *.conf or *.ini: give it such a name, and again")
            if target in found or (os.path.exists(target) and _text(target) != _text(path)):
                raise SetupFailed(f"{path} would become {target}, which is there already: rename one of them, and again")
            found[target] = _text(path) or ""
    return [(target, content, 0o644) for target, content in found.items()]


def _plan(request: dict[str, Any]) -> dict[str, Any]:
    return {"changes": [change.to_dict() for change in _changes(request)]}


def _apply(request: dict[str, Any]) -> dict[str, Any]:
    """Changes what is due; what stood there is kept beside it, and the record says so before anything is changed."""
    if request["peer_key"] == PENDING_KEY:
        raise SetupFailed("the peer's key is not made yet")
    due = [change for change in _changes(request) if change.is_due]
    record = _read_record()
    trust = [change.path for change in due if is_of_trust(change.path)]
    record.update(dict.fromkeys(trust))
    if trust:
        record[PEER] = str(request["peer_name"] if "settings" not in request else request["settings"]["peer"]["name"])
    for change in due:
        if change.path not in record:
            saved = None if change.old is None else change.path + SAVED
            if saved is not None and change.old is not None:
                write_atomic(saved, change.old.encode("utf-8", "surrogateescape"), os.stat(change.path).st_mode & 0o777)
            record[change.path] = saved
    if due:
        make_dir(os.path.dirname(RECORD), 0o700)
        write_atomic(RECORD, json.dumps(record, indent=1).encode())
    for change in due:
        os.makedirs(os.path.dirname(change.path), mode=0o700 if change.path == AUTHORIZED else 0o755, exist_ok=True)
        # A main conf with a password in it is nobody else's to read, before and after.
        mode = change.mode if change.old is None else os.stat(change.path).st_mode & 0o777
        write_atomic(change.path, change.new.encode("utf-8", "surrogateescape"), mode)
    if "settings" in request:
        os.makedirs("/etc/supervisor/local.d", exist_ok=True)
        os.makedirs(_settings(request)[0].registry.path, exist_ok=True)
        _must("systemctl", "daemon-reload")
    return {"changed": [change.path for change in due]}


def is_of_trust(path: str) -> bool:
    """Whether ``path`` says whose key is let in, or known: nothing of it that was taken back since may return."""
    return os.path.basename(path) in ("authorized_keys", "known_hosts")


def _read_record() -> dict[str, str | None]:
    raw = read_or_none(RECORD)
    return dict(json.loads(raw)) if raw else {}


def _service(request: dict[str, Any]) -> dict[str, Any]:
    """Enables a unit and has it run with what is configured now; ``changed``: it must be started again for that."""
    if request["unit"] == "listener":
        # supervisord runs with its old configuration; of the new one only the listener's group is taken up here.
        return {"said": _must("supervisorctl", "update", GROUP)}
    unit = {"agent": "ha-agent", "keepalived": "keepalived", "supervisor": "supervisor"}[str(request["unit"])]
    _must("systemctl", "enable", unit)
    active = _run("systemctl", "is-active", unit).stdout.strip() == "active"
    if unit == "ha-agent" and not active:
        # The programs were here before the agent, which must not take them for what an agent before it has lost.
        run = RunPlaces(read_places(DEFAULT_PATH)[0])
        make_dir(run.run_dir, 0o755)
        write_atomic(run.adopt, b"", durable=False)
    if not active or request.get("changed"):
        _must("systemctl", "restart", unit)
    return {"was_active": active}


def _address(_request: dict[str, Any]) -> dict[str, Any]:
    """Gives the VIP that is here before keepalived the prefix length that keepalived gives it; at no moment is it gone.

    keepalived leaves an address of another prefix length here at a role change, but takes its removal, once it is MASTER,
    for the loss of its own.
    """
    settings = load_settings(DEFAULT_PATH)
    vip, interface = settings.vrrp.vip, settings.vrrp.interface
    held = ipaddress.ip_interface(find_prefix(vip, settings.node.address))
    present = {one.prefix_length for one in find_address(vip) if one.interface == socket.if_nametoindex(interface)}
    others = sorted(present - {held.network.prefixlen})
    if not others or _run("systemctl", "is-active", "keepalived").stdout.strip() == "active":
        return {"replaced": []}
    if held.network.prefixlen not in present:
        _must("ip", "addr", "add", str(held), "dev", interface)
    if not asyncio.run(Machine().remove_address(vip, interface, keep=held.network.prefixlen)):
        raise SetupFailed(f"{held.ip}/{others[0]} cannot be taken off {interface}: ip addr del says why")
    return {"replaced": [f"{held.ip}/{n} dev {interface}" for n in others]}


# ---- and back ---------------------------------------------------------------------------------------------------


def _undo(_request: dict[str, Any]) -> dict[str, Any]:
    """Puts back what stood there before the first setup. The agent goes first, so that no program stops."""
    record = _read_record()
    if not record:
        return {"restored": []}
    for unit in ("ha-agent", "keepalived"):
        _run("systemctl", "disable", "--now", unit)
    if PEER not in record:
        # It is of a version that did not note it.
        record[PEER] = _configured_peer()
    run_dir, _ = read_places(DEFAULT_PATH)
    for path in RunPlaces(run_dir).role_files:
        # An agent that is set up again must not continue as the active one, find no keepalived, and stop everything.
        _remove(path)
    put_back(record, REGISTRY)
    _remove(RECORD)
    # Its conf is gone by now; where supervisord does not run, there is nothing to take out.
    _run("supervisorctl", "update", GROUP)
    _must("systemctl", "daemon-reload")
    restored = sorted(path for path in record if path != PEER)
    return {"restored": restored, "confs": sorted(read_registry(REGISTRY)), "running": _running()}


def put_back(record: Mapping[str, str | None], registry: str) -> None:
    """Puts back the files that ``record`` names; where each one's former content is kept, None for one that was not there.

    Of the files of trust the peer's own line is taken out of what they are now. Raises ``OSError``.
    """
    for path, saved in record.items():
        if path == PEER:
            continue
        if is_of_trust(path):
            _distrust(path, str(record.get(PEER) or ""))
            _remove(path + SAVED)
        elif saved is None and path.endswith((".conf", ".ini")) and path.startswith(registry + "/"):
            # It may have been edited since it came into the registry.
            os.makedirs(UNDONE, mode=0o700, exist_ok=True)
            if os.path.exists(path):
                shutil.move(path, os.path.join(UNDONE, os.path.basename(path)))
        elif saved is None:
            _remove(path)
        elif os.path.exists(saved):
            os.replace(saved, path)


def _distrust(path: str, peer: str) -> None:
    text = _text(path)
    if text is None:
        return
    left = remove_peer_key(text) if os.path.basename(path) == "authorized_keys" else unpin_host_key(text, peer)
    if left:
        write_atomic(path, left.encode("utf-8", "surrogateescape"), os.stat(path).st_mode & 0o777)
    else:
        _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
