"""``ha-agent setup``: makes a pair of this node and another one, from either nothing or a server that runs already."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ha_agent.adapters.files import read_or_none
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.terminal import complain, is_yes, paint
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands
from ha_agent.cli.remote import RemoteFailed
from ha_agent.cli.setup_node import SetupFailed, main_remote
from ha_agent.cli.setup_replace import adapt_requests, check_survivor, survivor_vrrp
from ha_agent.cli.setup_sides import AGAIN, Ask, add_way, both_sides, changes_of, guarded, make_keys, show_diffs
from ha_agent.cli.setup_undo import dissolve, undo
from ha_agent.core.keepalived_plan import adopted_settings, compare_instances, instance_from
from ha_agent.core.names import is_loadable_name
from ha_agent.core.node_json import NodeJson
from ha_agent.core.settings import RegistrySettings, SupervisorSettings, check_settings
from ha_agent.core.setup_plan import PENDING_KEY, FileChange, find_address, find_host_key, find_interface
from ha_agent.core.vip import bare, is_same_address, join
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit

HEALTHY_S = 60.0
REPLACE_AGAIN = "this node works on; run the same again"
WITH_PREFIX = "with its prefix length, such as 192.0.2.10/24"


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "make a pair of this node, which becomes active, and another one"
    parser = commands.add("setup", summary, "ha-agent setup --peer node-b --vip 192.0.2.10/24", run)
    parser.add_argument("--peer", metavar="HOST", help="the other node: a name or an address that ssh reaches")
    vip_help = "the virtual address with its prefix length; again for each further one, IPv4 or IPv6"
    parser.add_argument("--vip", action="append", metavar="ADDRESS/BITS", help=vip_help)
    path_help = "a further network between the nodes, as 198.51.100.0/24; again for each"
    parser.add_argument("--path", action="append", default=[], metavar="NETWORK", help=path_help)
    parser.add_argument("--interface", metavar="NAME", help="interface of the VIP (default: the one in its network)")
    parser.add_argument("--router-id", type=int, default=51, metavar="N", help="virtual_router_id, unique in the network")
    add_way(parser)
    parser.add_argument("--adopt-instance", metavar="NAME", help="take over this VRRP instance of keepalived.conf")
    parser.add_argument("--replace-notify", action="store_true", help="take out the adopted instance's own notify scripts")
    parser.add_argument("--replace-keepalived", action="store_true", help="keep nothing of keepalived.conf but a copy")
    parser.add_argument("--move-programs", action="store_true", help="move programs of supervisord's main conf to confs")
    parser.add_argument("--start-all", action="store_true", help="start also what supervisord includes and does not run now")
    parser.add_argument(
        "--leave-supervisords", action="store_true", help="other supervisords run beside the pair's, and are left alone"
    )
    parser.add_argument("--dry-run", action="store_true", help="show everything, change nothing")
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    parser.add_argument("--undo", action="store_true", help="put back what stood there before, on both nodes")
    summary = "on the active node: it goes on without a pair, and the other one stops and is clean"
    parser.add_argument("--dissolve", action="store_true", help=summary)
    parser.add_argument(
        "--replace", metavar="NODE", help="on the node that works: a new machine takes the place of the dead NODE"
    )
    part = commands.add("setup-node", "one node's part of setup, which runs it", "ha-agent setup-node facts", _run_part)
    part.add_argument("part", choices=("facts", "plan", "key", "keys", "apply", "service", "undo", "witness"))


def _run_part(options: argparse.Namespace) -> int:
    return main_remote(options.part)


def run(options: argparse.Namespace) -> int:
    """Runs ``setup``."""
    if options.replace:
        return guarded(lambda: _replace(options), REPLACE_AGAIN)
    return guarded(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.dissolve:
        return dissolve(options)
    host = options.peer or _ask("The other node's name or address")
    with both_sides(host, options) as sides:
        return undo(sides, options) if options.undo else _set_up(sides, options)


def _ask(question: str) -> str:
    if sys.stdin.isatty():
        answer = input(f"{question}: ").strip()
        if answer:
            return answer
    raise SetupFailed(f"{question.lower()} is needed; ha-agent setup --help names the options")


# ---- the way there ---------------------------------------------------------------------------------------------


def _set_up(sides: dict[str, Ask], options: argparse.Namespace) -> int:
    wants = {"leave_supervisords": options.leave_supervisords}
    facts = {side: ask("facts", {**wants, "active": side == "own"}) for side, ask in sides.items()}
    _check_nodes(facts)
    given = options.vip or []
    adopted = adopt_settings(facts, options.adopt_instance, given[0] if given else None) if options.adopt_instance else {}
    vips = list_vips(adopted["own"]) if adopted else given or _ask(f"The virtual address {WITH_PREFIX}").split()
    requests = make_requests(facts, vips, options.interface, options.router_id, options.ssh_port, adopted, options.path)
    requests["own"] |= {"active": True, "start_all": options.start_all, "move_programs": options.move_programs}
    for request in requests.values():
        request |= {name: getattr(options, name) for name in ("adopt_instance", "replace_notify", "replace_keepalived")}
    return _carry_out(sides, options, facts, requests, AGAIN)


def _replace(options: argparse.Namespace) -> int:
    """A new machine in the place of the peer, which is dead."""
    settings = load_settings(DEFAULT_PATH)
    seen = Nodes(settings).status()
    # Before anybody is asked for a password.
    check_survivor(seen, settings, options.replace, is_known=True)
    with both_sides(options.peer or settings.peer.address, options) as sides:
        facts = {side: ask("facts", {"active": side == "own"}) for side, ask in sides.items()}
        known = (read_or_none(settings.link.known_hosts) or b"").decode("utf-8", "surrogateescape")
        is_known = find_host_key(known, settings.peer.name) == facts["peer"]["host_key"]
        check_survivor(seen, settings, options.replace, is_known=is_known)
        _check_nodes(facts)
        vrrp = settings.vrrp
        requests = make_requests(facts, list(vrrp.all_vips), None, vrrp.router_id, options.ssh_port, survivor_vrrp(settings))
        requests = adapt_requests(requests, settings, options.replace, options.ssh_port, is_known=is_known)
        requests["own"] |= {"active": True}
        return _carry_out(sides, options, facts, requests, REPLACE_AGAIN)


def _carry_out(
    sides: dict[str, Ask],
    options: argparse.Namespace,
    facts: dict[str, dict[str, Any]],
    requests: dict[str, dict[str, Any]],
    again: str,
) -> int:
    """Checks, shows, asks and does what ``requests`` say; ``again``: what to do where it could not be done."""
    _check(facts, requests)
    plans = {side: ask("plan", requests[side]) for side, ask in sides.items()}
    _refuse(facts, {side: plan["refused"] for side, plan in plans.items()})
    due = {side: [c for c in changes_of(plan) if c.is_due] for side, plan in plans.items()}
    if options.path and (why := find_path_problem(facts, due, plans)):
        raise SetupFailed(f"{why}; nothing was changed")
    _show(facts, due, requests, {side: plan["said"] for side, plan in plans.items()})
    if options.dry_run:
        print("nothing was changed")
        return Exit.DONE
    if any(due.values()) and not options.yes and not is_yes("Do all this on both nodes?"):
        complain("nothing was changed; --yes does it without asking")
        return Exit.REFUSED
    try:
        make_keys(sides, requests)
        for side, ask in sides.items():
            ask("apply", requests[side])
        _start(sides, facts, order_steps(facts, due, plans, list_vips(requests["own"]["settings"]["vrrp"])[0]))
    except (SetupFailed, RemoteFailed) as error:
        raise SetupFailed(f"{error}\n{again}") from None
    print(paint("the pair is at work", "green"), flush=True)
    # Its exit status is a Nagios plugin's: 2 is an error.
    found = subprocess.call([sys.executable, "-m", "ha_agent", "doctor", "--peer"])
    return Exit.DONE if found < 2 else Exit.INCOMPLETE


def make_requests(
    facts: dict[str, dict[str, Any]],
    vips: list[str],
    interface: str | None,
    router_id: int,
    ssh_port: int,
    adopted: Mapping[str, dict[str, Any]] = MappingProxyType({}),
    paths: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """What each side is asked to make, from what both said of themselves; ``adopted``: [vrrp] of an adopted instance.

    The network of the first VIP says which interface and which own address are meant, ``paths`` are further networks.

    Raises ``SetupFailed`` and ``SettingsError``.
    """
    nodes: dict[str, dict[str, Any]] = {}
    interfaces: dict[str, list[str]] = {}
    for side, fact in facts.items():
        ends = [_find_end(fact, vips[0], adopted.get(side, {}).get("interface") or interface)]
        ends += [_find_end(fact, network, None) for network in paths]
        addresses, interfaces[side] = [address for address, _ in ends], [name for _, name in ends]
        nodes[side] = {"name": fact["name"], **({"addresses": addresses} if paths else {"address": addresses[0]})}
    requests = {}
    for side, other in (("own", "peer"), ("peer", "own")):
        settings: dict[str, dict[str, Any]] = {
            "node": dict(nodes[side]),
            "peer": dict(nodes[other]),
            "vrrp": {
                **({"vips": vips} if len(vips) > 1 else {"vip": vips[0]}),
                "interface": interfaces[side][0],
                **({"path_interfaces": interfaces[side][1:]} if paths else {}),
                "router_id": router_id,
                "priority": 110 if side == "own" else 100,
                **adopted.get(side, {}),
            },
        }
        if side == "own" and ssh_port != 22:
            settings["peer"]["ssh_port"] = ssh_port
        # Which directory the registry is must be the same on both.
        registry = {"registry": facts["own"]["places"]["registry"]} if "places" in facts["own"] else {}
        settings |= _places({**facts[side].get("places", {}), **registry})
        check_settings(settings)
        requests[side] = {
            "settings": settings,
            "peer_key": facts[other]["key"] or PENDING_KEY,
            "peer_host_key": facts[other]["host_key"],
        }
    return requests


def _find_end(fact: dict[str, Any], network: str, interface: str | None) -> tuple[str, str]:
    """A node's own address in a network, which an address with its prefix length names, and its interface."""
    try:
        chosen = interface or find_interface(fact["addresses"], network)
        address = find_address(fact["addresses"], chosen, network) if chosen else None
    except ValueError as error:
        raise SetupFailed(f"{network}: {error}; write it as 192.0.2.10/24") from None
    if chosen is None or address is None:
        has = ", ".join(f"{a} on {i}" for i, own in fact["addresses"].items() for a in own) or "none"
        raise SetupFailed(f"{fact['name']} has no address in the network of {network} (it has {has})")
    return address, chosen


def adopt_settings(facts: dict[str, dict[str, Any]], name: str, vip: str | None) -> dict[str, dict[str, Any]]:
    """[vrrp] of each node for the instance that is adopted. Raises ``SetupFailed``."""
    made: dict[str, dict[str, Any]] = {}
    found = {}
    for side, fact in facts.items():
        if name not in fact["instances"]:
            has = ", ".join(sorted(fact["instances"])) or "none"
            raise SetupFailed(f"keepalived.conf of {fact['name']} has no vrrp_instance {name} (it has {has})")
        found[side] = instance_from(fact["instances"][name])
        # Both begin with the same one: it is the one that is told in adverts.
        first = next(iter(list_vips(made["own"])), None) if "own" in made else None
        try:
            made[side] = adopted_settings(found[side], vip or (first if first in found[side].addresses else None))
        except ValueError as error:
            raise SetupFailed(f"{fact['name']}: {error}") from None
    if different := compare_instances(found["own"], found["peer"]):
        raise SetupFailed("\n".join([*different, "make it the same on both nodes, and again; nothing was changed"]))
    vip = list_vips(made["own"])[0]
    if not _holds(facts["own"], vip) and _holds(facts["peer"], vip):
        raise SetupFailed(
            f"{vip} is on {facts['peer']['name']}: run setup there, so that it becomes the active node, "
            "or move the address here first"
        )
    return made


def list_vips(vrrp: Mapping[str, Any]) -> list[str]:
    """The virtual addresses in the table [vrrp] of a configuration."""
    return list(vrrp["vips"]) if "vips" in vrrp else [vrrp["vip"]]


def _holds(fact: dict[str, Any], vip: str) -> bool:
    return any(is_same_address(a, vip) for own in fact["addresses"].values() for a in own)


def _places(found: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Where supervisord is on a node, as far as that is not what agent.toml says without a word."""
    supervisor = SupervisorSettings()
    usual = {
        ("supervisor", "socket"): supervisor.socket,
        ("supervisor", "config"): supervisor.config,
        ("registry", "path"): RegistrySettings().path,
    }
    tables: dict[str, dict[str, Any]] = {}
    for (section, key), default in usual.items():
        path = found.get("registry" if section == "registry" else key)
        if path and path != default:
            tables.setdefault(section, {})[key] = path
    return tables


def _check_nodes(facts: dict[str, dict[str, Any]]) -> None:
    """What each node must be before a pair can be made of the two. Raises ``SetupFailed``."""
    own, peer = facts["own"], facts["peer"]
    if own["version"] != peer["version"]:
        raise SetupFailed(f"ha-agent is {own['version']} here and {peer['version']} on {peer['name']}: install the same one")
    for fact in (own, peer):
        if fact["root_login"] == "no":
            raise SetupFailed(
                f"sshd on {fact['name']} has PermitRootLogin no; forced-commands-only is enough: it lets in the agent's "
                "restricted key and nothing else"
            )
    _refuse(facts, {side: fact["obstacles"] for side, fact in facts.items()})


def _check(facts: dict[str, dict[str, Any]], requests: dict[str, dict[str, Any]]) -> None:
    """What must be right of the pair that is to be. Raises ``SetupFailed``."""
    own, peer = facts["own"], facts["peer"]
    working = peer["agent"] == "active"
    if peer["running"] and not working:
        raise SetupFailed(
            f"{peer['name']} runs programs ({', '.join(peer['running'][:5])}): run setup there, so that it becomes the "
            "active node and they run on, or stop them first"
        )
    for vip in map(bare, list_vips(requests["own"]["settings"]["vrrp"])):
        if (
            not any(_holds(fact, vip) for fact in (own, peer))
            and subprocess.call(["ping", "-c", "1", "-W", "1", vip], stdout=subprocess.DEVNULL) == 0
        ):
            raise SetupFailed(f"{vip} answers already, and it is neither of the two nodes: choose a free address")


def find_path_problem(
    facts: dict[str, dict[str, Any]], due: dict[str, list[FileChange]], plans: dict[str, dict[str, Any]]
) -> str | None:
    """Why a further path cannot come in now: an instance that joins a group begins as BACKUP, and its node would release."""
    changed = any({c.path for c in due[side]} & set(plan["keepalived_files"]) for side, plan in plans.items())
    if not changed or facts["own"]["agent"] != "active" or facts["own"]["keepalived"] != "active":
        return None
    return (
        "the pair is at work, and the node that is active would stop and start its programs when a path comes in: write it "
        "into both agent.toml, then keepalived write, reload and a restart of the agent on the standby, a switchover, and "
        "the same on the other node (docs/install.md)"
    )


def _refuse(facts: dict[str, dict[str, Any]], refused: dict[str, Sequence[str]]) -> None:
    """Ends here where something is refused on either node, with all of it at once. Raises ``SetupFailed``."""
    found = [f"{facts[side]['name']}: {text}" for side, texts in refused.items() for text in texts]
    if found:
        raise SetupFailed("\n".join([*(visible(text) for text in found), "nothing was changed"]))


def _show(
    facts: dict[str, dict[str, Any]],
    due: dict[str, list[FileChange]],
    requests: dict[str, dict[str, Any]],
    said: dict[str, Sequence[str]],
) -> None:
    own, peer = facts["own"], facts["peer"]
    show_diffs(facts, due)
    for side, texts in said.items():
        for text in texts:
            print(visible(f"{facts[side]['name']}: {text}"))
    if not any(due.values()):
        print("every file is as it must be")
    lost = sorted(set(peer["confs"]) - set(own["confs"]))
    if lost:
        names = ", ".join(lost)
        note = f"{peer['name']} has confs that {own['name']} has not; what is here replaces them, and they are kept: {names}"
        print(visible(note))
    if own["running"]:
        print(f"{own['name']} runs {count_text(len(own['running']), 'program')} already; nothing is restarted")
    vips = join(list_vips(requests["own"]["settings"]["vrrp"]))
    confs = count_text(_count_confs(own, due["own"]), "conf")
    print(f"{own['name']} becomes active with {vips} and {confs}, {peer['name']} stands by")


def _count_confs(own: dict[str, Any], due: list[FileChange]) -> int:
    """How many confs are live on the active node afterwards."""
    registry = own["places"]["registry"]
    live = {f"{registry}/{name}" for name in own["confs"]}
    for change in due:
        if change.is_conf and is_loadable_name(change.path):
            live = live | {change.path} if change.new is not None else live - {change.path}
    return len(live)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of bringing the pair to work, on the node ``side``: a request about a unit, or something to wait for."""

    side: str
    unit: str
    how: str = "run"
    """"run"; "changed": with what is configured now; "stop"; "address", "active" and "pair" are no units' steps."""


def order_steps(
    facts: dict[str, dict[str, Any]], due: dict[str, list[FileChange]], plans: dict[str, dict[str, Any]], vip: str
) -> list[Step]:
    """Agents first, so that they know each other; then keepalived where the address is, and there when that is active.

    supervisord is started where it is not running; it is never restarted: what it includes is read again by the agent. Where
    keepalived runs on both nodes already and its conf changes, it is stopped first where the address is not: two that run
    with different confs would both become MASTER, and one of them would run its old scripts.
    """
    changed = {side: {c.path for c in found} for side, found in due.items()}
    first = "peer" if _holds(facts["peer"], vip) and not _holds(facts["own"], vip) else "own"
    other = "own" if first == "peer" else "peer"
    conf_changed = {side: bool(changed[side] & set(plan["keepalived_files"])) for side, plan in plans.items()}
    steps = []
    if any(conf_changed.values()) and facts[other]["keepalived"] == "active" and not plans[other]["is_added"]:
        steps.append(Step(other, "keepalived", "stop"))
    for side in ("own", "peer"):
        steps.append(Step(side, "supervisor"))
        steps.append(Step(side, "agent", "changed" if DEFAULT_PATH in changed[side] else "run"))
    steps.append(Step("own", "", "address"))
    for side, awaited in ((first, "active"), (other, "pair")):
        steps.append(Step(side, "keepalived", "changed" if conf_changed[side] else "run"))
        steps.append(Step(side, "", awaited))
    return [*steps, Step("own", "listener"), Step("peer", "listener")]


def _start(sides: dict[str, Ask], facts: dict[str, dict[str, Any]], steps: list[Step]) -> None:
    for step in steps:
        name, ask = facts[step.side]["name"], sides[step.side]
        if step.how == "address":
            _say_replaced(ask("address", {})["replaced"])
        elif step.how == "active":
            _await(name, lambda s: any(n.get("role") == "active" for n in s))
        elif step.how == "pair":
            _await(name, lambda s: sorted(str(n.get("role")) for n in s) == ["active", "standby"] and _in_sync(s))
        else:
            ask("service", {"unit": step.unit, "changed": step.how == "changed", "stop": step.how == "stop"})


def _say_replaced(addresses: list[str]) -> None:
    for address in addresses:
        print(
            f"{address} was here before keepalived, which has the virtual address from now on; take it out of "
            "/etc/network/interfaces, or of what else brings it up at a boot"
        )


def _in_sync(seen: list[NodeJson]) -> bool:
    return any(n["replication"]["state"] == "in_sync" for n in seen if n["reachable"] and n["role"] == "active")


def _await(name: str, look: Callable[[list[NodeJson]], bool]) -> None:
    from ha_agent.adapters.control import CommandFailed, NoDaemon

    nodes = Nodes(load_settings(DEFAULT_PATH))
    deadline = time.monotonic() + HEALTHY_S
    seen: list[NodeJson] = []
    while time.monotonic() < deadline:
        try:
            seen = nodes.status()
        except (NoDaemon, CommandFailed, TimeoutError):
            seen = []
        if look(seen):
            return
        time.sleep(0.2)
    roles = {n.get("name"): n.get("role") or n.get("problem") for n in seen}
    raise SetupFailed(f"{name} did not come so far within {HEALTHY_S:g} s ({roles}); ha-agent doctor --peer says why")
