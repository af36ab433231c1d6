"""``ha-agent witness install``: makes any third host the pair's witness, over ssh with an operator's own means, and back.

The host gets one file that its own python3 runs, a user, and a line of authorized_keys for each node; both nodes get the
host's key pinned, and ``[witness]`` in agent.toml. No agent is restarted: that is the operator's, the standby first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.resources import read_module_text
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.terminal import complain, is_yes
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands
from ha_agent.cli.remote import RemoteFailed, ask_node, connect
from ha_agent.cli.setup_node import SetupFailed, run_part
from ha_agent.cli.setup_sides import Ask, changes_of, guarded
from ha_agent.core.setup_plan import PENDING_KEY, FileChange, is_public_key
from ha_agent.core.visible import visible
from ha_agent.core.witness_plan import (
    FOLDER,
    OLDEST_PYTHON,
    PROGRAM,
    RECORDS,
    HostFiles,
    NotOurs,
    keys_of,
    plan_host,
    plan_host_removal,
)
from ha_agent.core.witness_settings import WitnessSettings
from ha_agent.core.words import Exit

if TYPE_CHECKING:
    import paramiko

HOST_S = 60.0
AGAIN = "run the same again: what was written is known, and the rest is done"


def add_install(parts: Commands) -> None:
    """Adds the command's grammar."""
    summary = "make a third host the pair's witness over ssh, for both nodes; --remove takes it back"
    parser = parts.add("install", summary, "ha-agent witness install 192.0.2.21 --user admin", run)
    parser.add_argument("host", metavar="HOST", help="name or address of the host, by which both nodes reach it")
    user = "for this command's own connection: root, or one who may run sudo without a password (default root)"
    parser.add_argument("--user", default="root", metavar="USER", help=user)
    parser.add_argument("--port", type=int, default=22, metavar="N", help="port of its sshd (default 22)")
    known = "the host's key, where there is nobody to ask"
    parser.add_argument("--fingerprint", metavar="SHA256:...", help=known)
    parser.add_argument("--peer-user", default="root", metavar="USER", help="the same for the other node (default root)")
    parser.add_argument("--peer-port", type=int, default=22, metavar="N", help="port of the other node's sshd (default 22)")
    parser.add_argument("--peer-fingerprint", metavar="SHA256:...", help="the other node's host key")
    alone = "this node's part alone; run it on the other node, too, where no operator's ssh leads from one to the other"
    parser.add_argument("--this-node", action="store_true", help=alone)
    replace = "other keys reach the pair's record there: they are former ones of this pair, and go"
    parser.add_argument("--replace", action="store_true", help=replace)
    parser.add_argument("--remove", action="store_true", help="take it back on the host and on both nodes")
    parser.add_argument("--dry-run", action="store_true", help="show everything, change nothing")
    parser.add_argument("--yes", action="store_true", help="do it without asking")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    return guarded(lambda: _run(options), AGAIN)


def _run(options: argparse.Namespace) -> int:
    settings = load_settings(DEFAULT_PATH)
    check_settings_allow(settings.witness, options.host, options.port, remove=options.remove)
    with (
        _sides(settings.peer.address, options) as sides,
        _host(options) as host,
    ):
        seen = {side: ask("witness", {"step": "look"}) for side, ask in sides.items()}
        check_sides(seen, options.host, options.port, remove=options.remove)
        there = host.ask("look", {"user": seen["own"]["user"], "program": PROGRAM})
        check_host(there, host, seen)
        if options.remove:
            return _remove(options, sides, host, seen, there, Nodes(settings))
        return _install(options, sides, host, seen, there)


# ---- who is who -------------------------------------------------------------------------------------------------


def check_settings_allow(witness: WitnessSettings, host: str, port: int, *, remove: bool) -> None:
    """Whether ``host`` may become the witness, or stop to be it, as far as agent.toml says. Raises ``SetupFailed``."""
    if witness.kind not in ("", "ssh"):
        raise SetupFailed(f"the witness is of kind {witness.kind} ({DEFAULT_PATH}): nothing is installed for that")
    if witness.kind and (witness.host, witness.ssh_port) != (host, port) and not remove:
        raise SetupFailed(
            f"the witness is {witness.host} port {witness.ssh_port} ({DEFAULT_PATH}): while one node asks one host and the "
            "other node another one, a vote would count twice. Take [witness] out on both nodes, restart both agents, "
            "the standby's first, and again"
        )


def check_sides(seen: dict[str, dict[str, Any]], host: str, port: int, *, remove: bool) -> None:
    """Whether the two are each other's peers, with the same record, user and witness. Raises ``SetupFailed``."""
    for side, look in seen.items():
        if look["kind"] and (look["kind"], look["host"], look["port"]) != ("ssh", host, port) and not remove:
            raise SetupFailed(f"{look['name']} has another witness: {look['kind']} {look['host']} port {look['port']}")
        other = seen.get({"own": "peer", "peer": "own"}[side])
        if other is None:
            continue
        if look["peer"] != other["name"]:
            raise SetupFailed(f"{look['name']} has {look['peer']} for its peer, and this is {other['name']}")
        if (look["record"], look["user"]) != (other["record"], other["user"]):
            raise SetupFailed(
                "witness.record and witness.ssh_user must be the same on both nodes: ha-agent config diff --peer"
            )


def check_host(there: dict[str, Any], host: WitnessHostSide, seen: dict[str, dict[str, Any]]) -> None:
    """Whether the host can be a third opinion. Raises ``SetupFailed``."""
    for look in seen.values():
        if host.address in look["addresses"] or (look["host_key"] and look["host_key"] == host.key):
            raise SetupFailed(f"{host.name} is a node of the pair: a witness there is no third opinion, and is lost with it")
    if tuple(there["version"]) < OLDEST_PYTHON:
        oldest, found = (".".join(map(str, v)) for v in (OLDEST_PYTHON, there["version"]))
        raise SetupFailed(f"{host.name} has Python {found}, and {oldest} is the oldest that will do")
    if there["boot_id"] and any(there["boot_id"] == look["boot_id"] for look in seen.values()):
        print(f"note: {host.name} runs on the same kernel as a node: a container there is lost with that machine")


# ---- there ------------------------------------------------------------------------------------------------------


def _install(
    options: argparse.Namespace,
    sides: dict[str, Ask],
    host: WitnessHostSide,
    seen: dict[str, dict[str, Any]],
    there: dict[str, Any],
) -> int:
    plan = HostPlan(seen, there, replace=options.replace)
    keys = {side: look["key"] or PENDING_KEY for side, look in seen.items()}
    node = {"step": "plan", "host": options.host, "host_key": host.key, "port": options.port}
    changes = plan.changes(keys)
    due = {side: [c for c in changes_of(ask("witness", node)) if c.is_due] for side, ask in sides.items()}
    _show(host.name, changes)
    for side, found in due.items():
        _show(seen[side]["name"], found)
    makes_user = not there["has_user"]
    if makes_user:
        print(visible(f"{host.name}: user {plan.user} is made, with {RECORDS} for its records"))
    if any(c.is_due for c in changes) or any(due.values()) or makes_user:
        if not _may_write(options, f"Write this on {host.name} and on {_names(seen)}?"):
            return Exit.DONE if options.dry_run else Exit.REFUSED
        keys = {side: ask("witness", {"step": "key"})["key"] for side, ask in sides.items()}
        written = [c.to_dict() for c in plan.changes(keys) if c.is_due]
        host.ask("apply", {"user": plan.user, "make_user": makes_user, "changes": written})
        for ask in sides.values():
            ask("witness", {**node, "step": "apply"})
    else:
        print(f"{host.name} is the witness of {_names(seen)} already")
        if options.dry_run:
            return Exit.DONE
    return _try(sides, seen)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What the host needs, for keys that may be made only when it is done. With ``replace`` other keys of the record go."""

    seen: dict[str, dict[str, Any]]
    there: dict[str, Any]
    replace: bool

    @property
    def user(self) -> str:
        return str(self.seen["own"]["user"])

    def changes(self, keys: dict[str, str]) -> list[FileChange]:
        """The host's files, changed or not. Raises ``SetupFailed``."""
        there, own = self.there, self.seen["own"]
        files = HostFiles(there["python"], there["authorized_path"], there["authorized"], there["program"])
        stays: list[str] = []
        if "peer" not in self.seen:
            stays = find_line_of_peer(keys_of(there["authorized"] or "", str(own["record"])), keys["own"])
        try:
            return plan_host(
                files,
                read_module_text("witness_entry"),
                str(own["record"]),
                list(keys.values()),
                stays=stays,
                replace=self.replace,
            )
        except (NotOurs, ValueError) as error:
            raise SetupFailed(str(error)) from None


def find_line_of_peer(present: list[str], own: str) -> list[str]:
    """Of the record's keys the one that may be the other node's: neither ``own`` nor a former key of this node, which has
    its comment. None where there are several: whose they are is not known."""
    others = [key for key in present if key.split()[:2] != own.split()[:2] and key.split()[2:] != own.split()[2:]]
    return others if len(others) == 1 else []


def _try(sides: dict[str, Ask], seen: dict[str, dict[str, Any]]) -> int:
    """Has each node ask the witness; says what is left to do."""
    bad = False
    for side, ask in sides.items():
        tried = ask("witness", {"step": "test"})
        print(visible(f"{seen[side]['name']}: {tried['said']}", "\n"))
        bad = bad or bool(tried["problem"])
    if bad:
        complain("the witness is installed, and does not answer; nothing uses it before the agents are restarted")
        return Exit.FAILED
    if "peer" not in sides:
        print(f"now the same on {seen['own']['peer']}")
    print("the agents use it when they are started again: on both nodes systemctl enable --now ha-agent-keeper, then")
    print("systemctl restart ha-agent on the standby, and some seconds later on the active node; ha-agent doctor --peer")
    return Exit.DONE


# ---- and back ---------------------------------------------------------------------------------------------------


def _remove(
    options: argparse.Namespace,
    sides: dict[str, Ask],
    host: WitnessHostSide,
    seen: dict[str, dict[str, Any]],
    there: dict[str, Any],
    nodes: Nodes,
) -> int:
    if users := who_uses(nodes):
        complain(
            f"refused: {' and '.join(users)} works with this witness; take [witness] out of {DEFAULT_PATH} on both nodes, "
            "restart both agents, the standby's first, and again"
        )
        return Exit.REFUSED
    record, user = str(seen["own"]["record"]), str(seen["own"]["user"])
    files = HostFiles(there["python"], there["authorized_path"], there["authorized"], there["program"])
    changes = [c for c in plan_host_removal(files, record) if c.is_due]
    node = {"step": "plan", "host": options.host, "port": options.port, "remove": True}
    due = {side: [c for c in changes_of(ask("witness", node)) if c.is_due] for side, ask in sides.items()}
    _show(host.name, changes)
    for side, found in due.items():
        _show(seen[side]["name"], found)
    print(visible(f"{host.name}: the record {record} goes, and the user {user} with the last one"))
    if not _may_write(options, f"Take this back on {host.name} and on {_names(seen)}?"):
        return Exit.DONE if options.dry_run else Exit.REFUSED
    for ask in sides.values():
        ask("witness", {**node, "step": "apply"})
    request = {
        "user": user,
        "record": record,
        "changes": [c.to_dict() for c in changes],
        "folders": [FOLDER, f"{RECORDS}/.ssh"],
        "remove_user": user == WitnessSettings().ssh_user,
    }
    for text in host.ask("remove", request)["said"]:
        print(visible(f"{host.name}: {text}"))
    print(f"{host.name} is no witness of this pair any more")
    return Exit.DONE


def who_uses(nodes: Nodes) -> list[str]:
    """The nodes whose agents work with a witness now. Where an agent does not run, nothing of its does."""
    try:
        return [str(node["name"]) for node in nodes.status() if node["reachable"] and node.get("votes")]
    except (NoDaemon, CommandFailed, TimeoutError):
        return []


# ---- the ways ---------------------------------------------------------------------------------------------------


def _show(node: str, changes: list[FileChange]) -> None:
    for change in changes:
        print("\n".join(visible(line, "\t") for line in change.diff(node)))


def _names(seen: dict[str, dict[str, Any]]) -> str:
    return " and ".join(str(look["name"]) for look in seen.values())


def _may_write(options: argparse.Namespace, question: str) -> bool:
    if options.dry_run:
        print("nothing was changed")
        return False
    if options.yes or is_yes(question):
        return True
    complain("nothing was changed; --yes does it without asking")
    return False


@contextlib.contextmanager
def _sides(peer: str, options: argparse.Namespace) -> Iterator[dict[str, Ask]]:
    """This node, and the peer while there is a connection to it."""
    if options.this_node:
        yield {"own": run_part}
        return
    client = connect(peer, options.peer_port, options.peer_user, options.peer_fingerprint)
    try:
        yield {"own": run_part, "peer": lambda part, request: ask_node(client, part, request)}
    finally:
        client.close()


class WitnessHostSide:
    """The host over one connection. ``key``: the type and the host key that it has proven; ``address``: where that leads."""

    def __init__(self, name: str, client: paramiko.SSHClient, user: str) -> None:
        self.name, self._client, self._user = name, client, user
        transport = client.get_transport()
        if transport is None:
            raise RemoteFailed(f"{name}: the connection is gone")
        key = transport.get_remote_server_key()
        self.key = f"{key.get_name()} {key.get_base64()}"
        self.address = str(transport.getpeername()[0])
        if not is_public_key(self.key):
            raise RemoteFailed(f"{name} has a host key of a kind that is not known here: {key.get_name()}")

    def ask(self, part: str, request: dict[str, Any]) -> dict[str, Any]:
        """Has the host do one part. Raises ``RemoteFailed``."""
        words = ["python3", "-I", "-c", read_module_text("witness_host"), part]
        words = words if self._user == "root" else ["sudo", "-n", *words]
        stdin, stdout, stderr = self._client.exec_command(shlex.join(words), timeout=HOST_S)
        stdin.write(json.dumps(request))
        stdin.channel.shutdown_write()
        text, errors = stdout.read().decode("utf-8", "replace"), stderr.read().decode("utf-8", "replace")
        code = stdout.channel.recv_exit_status()
        try:
            answer = dict(json.loads(text))
        except ValueError:
            said = (errors or text).strip()[-300:]
            why = "python3 is missing there" if code == 127 else said or "no answer"
            raise RemoteFailed(f"{self.name}: {words[0]} ended with {code}: {why}") from None
        if "failure" in answer:
            raise RemoteFailed(f"{self.name}: {answer['failure']}")
        return answer


@contextlib.contextmanager
def _host(options: argparse.Namespace) -> Iterator[WitnessHostSide]:
    client = connect(options.host, options.port, options.user, options.fingerprint)
    try:
        yield WitnessHostSide(options.host, client, options.user)
    finally:
        client.close()
