"""Makes the report of a failover-test of what was seen: pure data in, pure data out.

All times of the inputs are wall clock seconds; what comes from the peer has been corrected by the clocks' difference. All
times of the report are seconds after the fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODES = (
    "switchover",
    "keepalived-kill",
    "agent-kill",
    "supervisord-kill",
    "link-down",
    "power",
    "partition",
    "witness-cut",
)

MOVES = frozenset({"switchover", "keepalived-kill", "link-down", "power"})
"""Modes after which the other node must be active; after the others the same one is."""

CUTS = frozenset({"partition", "witness-cut"})
"""Modes of a pair with a witness that leave the active node two votes: nothing may stop, and nothing may run twice."""

CUT_LASTS_TTLS = 4
"""A cut lasts so many times ``witness.ttl_s`` at least: every promise from before it has ended by then."""


def cut_lasts_s(usual_s: float, ttl_s: float) -> float:
    """Seconds that a cut is left alone; ``usual_s`` is what other faults last."""
    return max(usual_s, CUT_LASTS_TTLS * ttl_s)


Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a probe: when it began, how long it took, and whether it was answered."""

    at: float
    took_s: float
    ok: bool


@dataclass(slots=True)
class Sightings:
    """Everything that was seen of one test."""

    mode: str
    source: str
    target: str
    fault_at: float
    events: Sequence[Event] = ()
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By node: every change of what ran there, of role, VRRP state and VIP."""
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    """By probe."""
    ended_at: float = 0.0
    settled: bool = False
    recovered: bool = False
    registry_equal: bool | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


def find_outage(attempts: Sequence[Attempt], fault_at: float) -> tuple[float, float] | None:
    """Begin and length of the longest time without a good answer that ends after the fault; None where there was none.

    It begins with the last good answer before a failed attempt and ends with the next good answer. One that has no end
    counts until the last attempt.
    """
    longest: tuple[float, float] | None = None
    last_good: float | None = None
    failing = False
    for attempt in attempts:
        end = attempt.at + attempt.took_s
        if not attempt.ok:
            failing = True
            continue
        if failing and last_good is not None and end > fault_at:
            gap = (last_good, end - last_good)
            longest = gap if longest is None or gap[1] > longest[1] else longest
        last_good, failing = end, False
    if failing and attempts and last_good is not None:
        gap = (last_good, attempts[-1].at + attempts[-1].took_s - last_good)
        longest = gap if longest is None or gap[1] > longest[1] else longest
    return longest


def find_stretches(samples: Iterable[Mapping[str, Any]], until: float) -> dict[str, list[tuple[float, float]]]:
    """By program the stretches of time in which it was seen on one node; a sample holds until the next one."""
    stretches: dict[str, list[tuple[float, float]]] = {}
    open_since: dict[str, float] = {}
    for sample in samples:
        at, running = float(sample["at"]), set(sample["running"])
        for program in [p for p in open_since if p not in running]:
            stretches.setdefault(program, []).append((open_since.pop(program), at))
        for program in running:
            open_since.setdefault(program, at)
    for program, since in open_since.items():
        stretches.setdefault(program, []).append((since, max(since, until)))
    return stretches


def find_overlaps(
    here: Mapping[str, Sequence[tuple[float, float]]], there: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, float]:
    """By program the seconds for which it was seen on both nodes at once; only programs with such a time."""
    found: dict[str, float] = {}
    for program in here.keys() & there.keys():
        both = sum(
            max(0.0, min(a_end, b_end) - max(a_begin, b_begin))
            for a_begin, a_end in here[program]
            for b_begin, b_end in there[program]
        )
        if both > 0:
            found[program] = round(both, 3)
    return found


def find_program_gaps(stretches: Sequence[Mapping[str, Sequence[tuple[float, float]]]], fault_at: float) -> dict[str, float]:
    """By program the longest time after the fault in which it ran nowhere, between two times in which it did."""
    gaps: dict[str, float] = {}
    programs: set[str] = set()
    for node in stretches:
        programs.update(node)
    for program in programs:
        spans = sorted(span for node in stretches for span in node.get(program, ()))
        reached, longest = spans[0][1], 0.0
        for begin, end in spans[1:]:
            if begin > reached and begin >= fault_at:
                longest = max(longest, begin - max(reached, fault_at))
            reached = max(reached, end)
        gaps[program] = round(longest, 3)
    return gaps


def build_report(seen: Sightings, objectives: Mapping[str, float]) -> dict[str, Any]:
    """The report's measured part, with the verdict against ``objectives`` (``failover_s``, ``overlap_s``)."""
    events = sorted((e for e in seen.events if e["at"] >= seen.fault_at - 0.5), key=lambda e: float(e["at"]))
    stretches = {
        node: find_stretches(seen.samples[node], _known_until(seen, node))
        for node in (seen.source, seen.target)
        if node in seen.samples
    }
    here, there = stretches.get(seen.source, {}), stretches.get(seen.target, {})
    overlaps = find_overlaps(here, there)
    gaps = find_program_gaps([here, there], seen.fault_at)
    outages = {name: find_outage(attempts, seen.fault_at) for name, attempts in seen.attempts.items()}
    figures = _measure(seen, events, stretches)
    outage_s = {name: round(gap[1], 3) if gap else 0.0 for name, gap in outages.items()}
    report: dict[str, Any] = {
        "mode": seen.mode,
        "from": seen.source,
        "to": seen.target if seen.mode in MOVES else seen.source,
        "fault_at": round(seen.fault_at, 3),
        "figures": figures,
        "outage_s": outage_s,
        "program_gap_s": gaps,
        "overlap_s": overlaps,
        "order": _find_order(seen, events),
        "failed": dict(seen.failed),
        "registry_equal": seen.registry_equal,
        "settled": seen.settled,
        "recovered": seen.recovered,
        "timeline": _timeline(seen, events),
        "stretches": {
            node: {p: [[round(a - seen.fault_at, 3), round(b - seen.fault_at, 3)] for a, b in s] for p, s in by.items()}
            for node, by in stretches.items()
        },
        "ended_s": round(seen.ended_at - seen.fault_at, 3),
    }
    if seen.mode in CUTS:
        figures["cut_s"] = _cut_s(seen, events)
        figures["vip_both_s"] = _vip_on_both_s(seen)
        # What a witness is for is no matter of objectives.
        objectives = {**objectives, "overlap_s": 0.0}
    report["objectives"] = _judge(report, objectives)
    if seen.mode in CUTS:
        report["objectives"].append(_judge_stay(gaps, here))
    report["passed"] = all(row["met"] for row in report["objectives"])
    return report


def _known_until(seen: Sightings, node: str) -> float:
    """Until when a node's last sample counts: a node whose power was cut ran nothing from then on."""
    return seen.fault_at if seen.mode == "power" and node == seen.source else seen.ended_at


def _measure(
    seen: Sightings, events: Sequence[Event], stretches: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> dict[str, float | None]:
    active = seen.target if seen.mode in MOVES else seen.source
    at = seen.fault_at
    done = _first(events, active, "takeover-done", at)
    plan: Event = done or {}
    steps = {s["step"]: float(s.get("took_s", 0.0)) for s in plan.get("steps", ())}
    master = next((e for e in events if e["node"] == active and e.get("vrrp_state") == "MASTER" and e["at"] >= at), None)
    began = next((e for e in events if e["node"] == active and e.get("to") == "taking_over" and e["at"] >= at), None)
    noticed = master if seen.mode in MOVES else (began or _first(events, active, "agent-started", at))
    verified = _first(events, active, "takeover-verified", at) or _first(events, active, "agent-resumed", at)
    vip = [s["at"] for s in seen.samples.get(active, ()) if s.get("vip") and s["at"] >= at] if seen.mode in MOVES else []
    starts = [begin for spans in stretches.get(active, {}).values() for begin, _ in spans if begin >= at]
    released = _first(events, seen.source, "released", at) if seen.mode in MOVES else None

    def after(moment: float | None) -> float | None:
        return None if moment is None else round(moment - at, 3)

    return {
        "detection_s": after(float(noticed["at"]) if noticed else None),
        "vip_moved_s": after(min(vip) if vip else None),
        "released_s": after(float(released["at"]) if released else None),
        "interlock_s": steps.get("interlock"),
        "load_s": steps.get("load"),
        "takeover_done_s": after(float(done["at"]) if done else None),
        "first_program_s": after(min(starts) if starts else None),
        "last_program_s": after(max(starts) if starts else None),
        "all_running_s": after(float(verified["at"]) if verified else None),
    }


def _cut_s(seen: Sightings, events: Sequence[Event]) -> float | None:
    """How long the cut lasted, by the node that made it."""
    over = _first(events, seen.source, "drill-undone", seen.fault_at)
    return None if over is None else round(float(over["at"]) - seen.fault_at, 3)


def _vip_on_both_s(seen: Sightings) -> float:
    """Seconds for which both nodes had the VIP: keepalived knows of no votes, and the agent has it give up again."""
    holds = {
        node: [{"at": s["at"], "running": ["vip"] if s.get("vip") else []} for s in seen.samples.get(node, ())]
        for node in (seen.source, seen.target)
    }
    here, there = (find_stretches(rows, seen.ended_at) for rows in holds.values())
    return find_overlaps(here, there).get("vip", 0.0)


def _find_order(seen: Sightings, events: Sequence[Event]) -> dict[str, Any] | None:
    """What programs that wait for others cost: seconds after the load, each wait, and the chain that determined the time."""
    done = _first(events, seen.target if seen.mode in MOVES else seen.source, "order-done", seen.fault_at)
    return {key: done.get(key) for key in ("took_s", "waits", "path")} if done is not None else None


def _first(events: Sequence[Event], node: str, code: str, at: float) -> Event | None:
    return next((e for e in events if e["node"] == node and e["code"] == code and e["at"] >= at), None)


def _timeline(seen: Sightings, events: Sequence[Event]) -> list[dict[str, Any]]:
    rows = [
        {
            "s": round(float(e["at"]) - seen.fault_at, 3),
            "node": e["node"],
            "code": e["code"],
            "text": (f"{e['from']} -> {e['to']}: " if "from" in e and "to" in e else "") + str(e["text"]),
            **({"alias": e["alias"]} if "alias" in e else {}),
        }
        for e in events
    ]
    for name, attempts in seen.attempts.items():
        gap = find_outage(attempts, seen.fault_at)
        if gap is not None:
            begin = gap[0] - seen.fault_at
            rows.append({"s": round(begin, 3), "node": "probe", "code": "probe-lost", "text": f"{name}: last good answer"})
            back = {"s": round(begin + gap[1], 3), "node": "probe", "code": "probe-back", "text": f"{name} answers again"}
            rows.append(back)
    return sorted(rows, key=lambda r: float(r["s"]))


def _judge_stay(gaps: Mapping[str, float], here: Mapping[str, object]) -> dict[str, Any]:
    """The row of a cut: with two votes left every program of ``here`` ran all the time."""
    worst = max(gaps.values(), default=None)
    return {
        "name": "stay_s",
        "text": "a program that did not run meanwhile, with two votes left",
        "limit": 0.0,
        "measured": worst,
        "met": bool(here) and worst == 0.0,
    }


def _judge(report: Mapping[str, Any], objectives: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row an objective: what was measured against what was wanted."""
    outages = report["outage_s"] or report["program_gap_s"]
    worst = max(outages.values(), default=None)
    by = "probes" if report["outage_s"] else "programs"
    overlap = max(report["overlap_s"].values(), default=0.0)
    failover = objectives["failover_s"]
    return [
        {
            "name": "failover_s",
            "text": f"out of service, worst of the {by}",
            "limit": failover,
            "measured": worst,
            "met": report["settled"] and worst is not None and worst <= failover,
        },
        {
            "name": "overlap_s",
            "text": "a program seen on both nodes",
            "limit": objectives["overlap_s"],
            "measured": overlap,
            "met": overlap <= objectives["overlap_s"],
        },
        {
            "name": "settled",
            "text": "the roles are as they must be after this fault",
            "limit": None,
            "measured": report["settled"],
            "met": report["settled"],
        },
        {
            "name": "programs",
            "text": "programs that do not run afterwards",
            "limit": 0,
            "measured": len(report["failed"]),
            "met": not report["failed"],
        },
        {
            "name": "registry",
            "text": "both registries equal afterwards",
            "limit": None,
            "measured": report["registry_equal"],
            "met": report["registry_equal"] is True,
        },
        {
            "name": "recovered",
            "text": "what was broken for the test works again",
            "limit": None,
            "measured": report["recovered"],
            "met": report["recovered"],
        },
    ]
