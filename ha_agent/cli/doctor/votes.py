"""What a pair with a witness needs besides: a third machine, reached on a way of its own and in time, a keeper that is
ready, clocks of one rate, and nobody who is surprised by a kill."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from ha_agent.adapters.keeper import KeeperFailed
from ha_agent.cli.doctor.context import Check, Context, error, ok, warning
from ha_agent.cli.lint_cmd import read_registry
from ha_agent.core.findings import Finding
from ha_agent.core.vote_checks import (
    find_slow_stops,
    is_rate_odd,
    is_rate_wrong,
    say_rates,
    shared_gateway,
    time_to_kill_s,
)
from ha_agent.core.witness_settings import witness_hosts

KEEPER_UNIT = "ha-agent-keeper"
SLOW_PART = 0.5
"""Of ``answer_s``: a witness that needs more at rest will be too late under load."""
MOST_NAMED = 5


def check_witness(context: Context) -> Iterator[Finding]:
    """The witness's machines, and what the configuration leaves to the agent. Silence is the pair's own finding."""
    settings = context.settings
    witness = settings.witness
    if not witness.kind:
        return
    own = {settings.node.address, settings.peer.address}
    hosts = witness_hosts(witness)
    on_pair = [host for host in hosts if resolve(host) & own]
    if len(on_pair) * 2 >= len(hosts):
        text = f"the witness is on a machine of the pair ({', '.join(on_pair)}): it is no third opinion"
        yield error("witness-on-node", text, "put it on a third machine, behind another switch than either node")
    elif not witness.required:
        text = "witness.required is false: where the agent hangs, nobody may kill what runs when its votes end"
        yield warning("keeper-optional", text, "set it to true; systemctl enable --now ha-agent-keeper")
    else:
        yield ok("witness", f"{', '.join(hosts)} ({witness.kind}), and the keeper is required")


def resolve(host: str) -> frozenset[str]:
    """The addresses of ``host``; none where it has none."""
    with contextlib.suppress(OSError):
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return frozenset()


def check_answer(context: Context) -> Iterator[Finding]:
    """Whether the witness answers this node, and how fast; each node asks for itself (``--peer``)."""
    witness = context.settings.witness
    if not witness.kind or not context.is_root:
        return
    tried = context.try_witness()
    if tried.problem:
        text = f"the witness ({witness.kind}) does not answer this node: {tried.problem}"
        yield error(
            "witness-silent", text, "ha-agent witness test; the key, the pinned host key and the way there must be right"
        )
        return
    took_ms = sorted(tried.took_ms)[len(tried.took_ms) // 2]
    if took_ms > witness.answer_s * 1000 * SLOW_PART:
        text = f"the witness answers in {took_ms:g} ms, and answer_s leaves it {witness.answer_s * 1000:g} ms"
        yield warning("witness-slow", text, "a faster witness, or a longer answer_s and ttl_s on both nodes")
    else:
        yield ok("witness-answers", f"the witness answers this node in {took_ms:g} ms")


def check_ways(context: Context) -> Iterator[Finding]:
    """Whether one gateway leads to both other voters: its loss would leave each node with its own vote alone."""
    settings = context.settings
    hosts = witness_hosts(settings.witness)
    peer = context.way_to(settings.peer.address) if hosts else None
    if peer is None:
        return
    ways = {host: way for host in hosts for address in sorted(resolve(host)) if (way := context.way_to(address)) is not None}
    shared = [host for host, way in ways.items() if shared_gateway(peer, way)]
    if ways and len(shared) == len(ways):
        named = ", ".join(shared)
        text = f"{named} and the peer are both reached over the gateway {peer.gateway}: with it go two votes at once"
        yield warning("witness-same-way", text, "put the witness where another way leads to it")
    elif ways:
        said = ", ".join(f"{host} over {way.gateway or way.device}" for host, way in ways.items())
        yield ok("witness-way", f"{said}, the peer over {peer.gateway or peer.device}")


def check_keeper(context: Context) -> Iterator[Finding]:
    """Whether the keeper is armed where it must be, and whether the system has let it be what it needs to be."""
    if not context.settings.witness.kind or not context.is_root:
        return
    if context.has_systemd and context.run("systemctl", "is-enabled", KEEPER_UNIT).output.strip() in ("disabled", ""):
        yield error("unit-disabled", f"{KEEPER_UNIT} is not started at boot", f"systemctl enable --now {KEEPER_UNIT}")
    nodes, _ = context.status()
    votes = nodes[0].get("votes") if nodes and nodes[0]["reachable"] else None
    try:
        state = context.keeper_state()
    except KeeperFailed as problem:
        # What the agent says of it is the pair's own finding.
        if votes is None:
            yield error(
                "keeper-down", f"the keeper of the votes' deadline: {problem}", f"systemctl enable --now {KEEPER_UNIT}"
            )
        return
    if votes and votes["used"] and state.word != "armed":
        text = f"programs run by votes, and the keeper is {state.word}: nobody kills them where the agent hangs"
        yield error("keeper-unarmed", text, f"journalctl -u {KEEPER_UNIT}; ha-agent witness status")
    elif not (state.is_locked and state.is_realtime):
        wanted = (("locked in memory", state.is_locked), ("real-time", state.is_realtime))
        lacking = " and ".join(what for what, is_there in wanted if not is_there)
        text = f"the keeper is not {lacking}: on a machine that is short of either it may act late"
        yield warning("keeper-soft", text, f"install the unit of the package; systemctl show {KEEPER_UNIT} -p LimitMEMLOCK")
    else:
        yield ok("keeper", f"the keeper is {state.word}, locked in memory and real-time")


def check_rates(context: Context) -> Iterator[Finding]:
    """Whether the clocks by which both nodes count promises run at one rate. The witness counts no time."""
    settings = context.settings
    if not settings.witness.kind:
        return
    rates = context.clock_rates()
    said = say_rates(rates, settings.peer.name)
    remedy = "chronyc tracking, adjtimex --print, and the clock source (dmesg | grep -i clocksource) of both machines"
    if is_rate_wrong(rates):
        yield error("clock-rate", f"{said}: beyond the tenth that kill_margin_s covers, two nodes may hold at once", remedy)
    elif is_rate_odd(rates):
        yield warning("clock-rate", f"{said}: a good clock is off by less than 0.05 %", remedy)
    else:
        yield ok("clock-rate", said)


def check_stops(context: Context) -> Iterator[Finding]:
    """Which programs would not be given the time that their confs ask for, should two votes be lost at once."""
    settings = context.settings
    if not settings.witness.kind:
        return
    limit_s = time_to_kill_s(settings.witness.terms)
    slow = find_slow_stops(read_registry(settings.registry.path), limit_s)
    if slow:
        longest = sorted(slow.items(), key=lambda one: -one[1])
        named = ", ".join(f"{name} ({seconds} s)" for name, seconds in longest[:MOST_NAMED])
        more = f" and {len(slow) - MOST_NAMED} more" if len(slow) > MOST_NAMED else ""
        text = f"where two votes are lost at once, what runs is killed after {limit_s:g} s, whatever stopwaitsecs says: "
        remedy = "raise witness.ttl_s on both nodes (a crash costs as much more then), or see that they bear SIGKILL"
        yield warning("votes-kill", f"{text}{named}{more}", remedy)
    else:
        yield ok("votes-kill", f"no program has a stopwaitsecs of its own beyond the {limit_s:g} s that lost votes leave")


CHECKS: dict[str, Check] = {
    "witness": check_witness,
    "witness-answers": check_answer,
    "witness-way": check_ways,
    "keeper": check_keeper,
    "clock-rate": check_rates,
    "votes-kill": check_stops,
}
"""By name, in the order in which they are made."""
