"""``ha-agent failover-test``: makes a fault for real, watches what the pair does, and reports it against the objectives."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ha_agent import __version__
from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.terminal import complain, finding_lines, is_yes
from ha_agent.cli.drill_report import render_html, render_list, render_text
from ha_agent.cli.history_cmd import event_line, read_both
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.cli.probes import BadProbe, ProbeRun, parse_probe
from ha_agent.cli.registry_cmd import compare_registries
from ha_agent.cli.switchover_cmd import hand_over
from ha_agent.core.drill import CUTS, MODES, MOVES, Sightings, build_report, cut_lasts_s
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.history import Event
from ha_agent.core.node_json import NodeJson
from ha_agent.core.prechecks import find_active, find_obstacles, find_standby
from ha_agent.core.problems import failed_programs
from ha_agent.core.settings import Settings
from ha_agent.core.settings_sample import settings_as_dict
from ha_agent.core.supervisor_words import UNSETTLED_STATES, State
from ha_agent.core.witness_settings import witness_hosts
from ha_agent.core.words import CommandOutcome, Exit, Outcome

SCHEMA = 1
BASELINE_S = 1.0
POLL_S = 0.1
HOLD_S = 20.0
"""Faults that last end by themselves after this time, whatever becomes of the command."""

GRACE_S = 180.0
VOTERS = ("self", "peer", "witness")
OFFSET_TRIES = 5

WHAT = {
    "switchover": "{source} hands over to {target}, nothing fails",
    "keepalived-kill": "keepalived is killed on {source} (SIGKILL) and started again afterwards; {target} must take over",
    "agent-kill": "the agent is killed on {source} (SIGKILL); systemd starts it again, and no program may notice",
    "supervisord-kill": "supervisord is killed on {source} (SIGKILL) and started again by systemd; the agent does the rest",
    "link-down": "the interface of {source} goes down and comes up again {hold:g} s later; {target} must take over",
    "partition": "{source} is cut off from {target}, not from the witness, for {hold:g} s: it must go on, and {target} must "
    "start nothing; ssh sessions between the two hang as long",
    "witness-cut": "{source} is cut off from the witness for {hold:g} s: nothing may happen; ssh sessions between these two "
    "hang as long",
    "power": "{source} is reset as by a power cut (reboot(2) without any shutdown); {target} must take over",
}


class CannotDrill(Exception):
    """The test could not be made or finished; the text says why. Whatever it began ends by itself."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "make a fault for real and report what it cost: the test of a failover"
    example = "ha-agent failover-test --mode keepalived-kill --probe redis://192.0.2.10:6379 --and-back --report drill.html"
    parser = commands.add("failover-test", summary, example, run)
    parser.add_argument("--mode", choices=MODES, default="switchover", help="the fault (default: switchover)")
    parser.add_argument("--and-back", action="store_true", help="hand over back to the first node at the end")
    parser.add_argument(
        "--probe",
        action="append",
        default=[],
        metavar="URL",
        help="tcp://VIP:PORT, http://VIP/... or redis://VIP:PORT; several",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and show what would be done; change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--yes-really", action="store_true", help="needed for the modes power and link-down")
    parser.add_argument("--timeout", type=duration, default=90.0, metavar="S", help="seconds for the failover (default 90)")
    parser.add_argument(
        "--return-timeout", type=duration, default=600.0, metavar="S", help="seconds for a node to come back (default 600)"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON (docs/json.md)")
    parser.add_argument("--report", metavar="FILE", help="write the report as an HTML page, with the time line as a picture")
    parser.add_argument("--list", action="store_true", help="compare the reports kept on this node")
    parser.add_argument("--show", metavar="ID", help="show a kept report again (with --report: as a page)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    nodes = Nodes(settings_of(options))
    if options.list or options.show:
        return _show_kept(nodes, options)
    try:
        probes = [ProbeRun(text, parse_probe(text)) for text in options.probe]
    except BadProbe as error:
        complain(str(error))
        return Exit.USAGE
    if options.json and not (options.yes or options.yes_really or options.dry_run):
        complain("--json asks nothing: add --yes (or --dry-run)")
        return Exit.USAGE
    if options.report:
        # A report that cannot be written is found out before anything is broken for it.
        with open(options.report, "a", encoding="utf-8"):
            pass
    say: Callable[[str], None] = (lambda _text: None) if options.json else print
    code = _check(nodes, options, say)
    if code is not None:
        return code
    test = FailoverTest(nodes, options, probes, say)
    try:
        report = test.run()
    except CannotDrill as error:
        test.abandon()
        complain(str(error))
        return Exit.FAILED
    except KeyboardInterrupt:
        complain("interrupted: " + test.abandon())
        return 130
    except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError):
        test.abandon()
        raise
    print(json.dumps(report, indent=2) if options.json else "\n" + render_text(report))
    if options.report:
        write_page(options.report, report)
    return Exit.DONE if report["passed"] else Exit.FAILED


def write_page(path: str, report: Mapping[str, Any]) -> None:
    """Writes the report as an HTML page. Raises ``OSError``."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(render_html(report))


def _show_kept(nodes: Nodes, options: argparse.Namespace) -> int:
    reports = nodes.ask_own({"op": "report-list", "count": 1000})["reports"]
    if options.list:
        if options.json:
            print(json.dumps({"schema": SCHEMA, "reports": reports}, indent=2))
        else:
            print(render_list(reports))
        return Exit.DONE
    report = next((r for r in reports if r["id"] == options.show), None)
    if report is None:
        complain(f"there is no report {options.show} on this node; see ha-agent failover-test --list")
        return Exit.FAILED
    if options.report:
        write_page(options.report, report)
    print(json.dumps(report, indent=2) if options.json else render_text(report))
    return Exit.DONE


def _check(nodes: Nodes, options: argparse.Namespace, say: Callable[[str], None]) -> int | None:
    """Checks, shows, asks. None where the test may be made."""
    seen = nodes.drained_status()
    obstacles = find_obstacles(seen)
    for finding in obstacles:
        say("\n".join(finding_lines(finding)))
    active, standby = find_active(seen), find_standby(seen)
    if active is None or standby is None or any(f.severity is Severity.ERROR for f in obstacles):
        if options.json:
            print(_document(CommandOutcome.REFUSED, obstacles))
        complain("refused: a failover-test needs a healthy pair; nothing was changed")
        return Exit.PEER_UNREACHABLE if any(f.code == "peer-lost" for f in obstacles) else Exit.REFUSED
    source, target = str(active["name"]), str(standby["name"])
    if options.mode in ("power", "link-down") and source == nodes.own_name:
        complain(f"refused: {options.mode} would cut this node off; run it on {target}")
        return Exit.REFUSED
    if options.mode in ("power", "link-down") and not (options.yes_really or nodes.settings.drill.dangerous_modes):
        complain(f"refused: --mode {options.mode} breaks {source} for real; add --yes-really if that is meant")
        return Exit.REFUSED
    if options.mode in CUTS and (refused := why_no_cut(nodes.settings, options, seen, os.environ)) is not None:
        complain(f"refused: {refused}; nothing was changed")
        return Exit.REFUSED
    say(WHAT[options.mode].format(source=source, target=target, hold=hold_s(nodes.settings, options.mode)))
    if options.and_back:
        say(f"afterwards {source} becomes the active node again")
    if options.dry_run:
        if options.json:
            print(_document(CommandOutcome.WOULD_DO, obstacles))
        say("dry run: nothing was changed")
        return Exit.DONE
    if not (options.yes or options.yes_really or is_yes("Do it?")):
        complain("nothing was done; --yes does it without asking")
        return Exit.REFUSED
    return None


def hold_s(settings: Settings, mode: str) -> float:
    """Seconds that a fault of ``mode`` lasts where it does not end at once."""
    return cut_lasts_s(HOLD_S, settings.witness.ttl_s) if mode in CUTS else HOLD_S


def why_no_cut(
    settings: Settings, options: argparse.Namespace, seen: Sequence[NodeJson], environ: Mapping[str, str]
) -> str | None:
    """Why a mode that takes a vote away is not done; None where it may be."""
    if not settings.witness.kind:
        return f"{options.mode} needs a pair with a witness (docs/votes.md): without one both nodes would run the programs"
    active = find_active(list(seen))
    votes = active.get("votes") if active is not None else None
    if not votes or len(votes["promised"]) < len(VOTERS):
        return f"{options.mode} takes one of the three votes away, and not all three are there: ha-agent witness status"
    client = environ.get("SSH_CONNECTION", "").split(" ")[0]
    cut = {*settings.node.paths, *settings.peer.paths} if options.mode == "partition" else _addresses_of_witness(settings)
    if client in cut and not options.yes_really:
        hold = hold_s(settings, options.mode)
        return f"your own session comes from {client}, and may hang for {hold:g} s; add --yes-really if that is meant"
    return None


def _addresses_of_witness(settings: Settings) -> set[str]:
    found: set[str] = set()
    for host in witness_hosts(settings.witness):
        with contextlib.suppress(OSError):
            found |= {str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    return found


def _document(outcome: CommandOutcome, obstacles: Sequence[Finding]) -> str:
    """The document of ``--json`` where nothing was done."""
    return json.dumps({"schema": SCHEMA, "outcome": outcome, "obstacles": [f.to_dict() for f in obstacles]}, indent=2)


class FailoverTest:
    """One test. What it begins on the nodes ends there by itself, should this object not live to end it."""

    def __init__(
        self, nodes: Nodes, options: argparse.Namespace, probes: Sequence[ProbeRun], say: Callable[[str], None]
    ) -> None:
        self._nodes, self._options, self._probes, self._say = nodes, options, probes, say
        self._id = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + secrets.token_hex(2)
        self._offset_s = self._offset_error_s = 0.0
        self._told: set[str] = set()
        self._began = time.time()
        self._fault_at = 0.0

    def run(self) -> dict[str, Any]:
        """Makes the test and returns its report, which is also kept on this node. Raises ``CannotDrill``."""
        options, nodes = self._options, self._nodes
        before = self._status()
        active, standby = find_active(list(before.values())), find_standby(list(before.values()))
        if active is None or standby is None:
            raise CannotDrill("the roles have changed meanwhile; see ha-agent status")
        source, target = str(active["name"]), str(standby["name"])
        self._measure_offset()
        seen = Sightings(options.mode, source, target, 0.0)
        with self._watching():
            self._await_baseline()
            self._begin(source, target)
            self._fault_at = seen.fault_at = self._make_fault(source)
            seen.settled = self._follow(source, target)
            if seen.settled:
                # The programs' own start-up is part of what is judged.
                self._tell(f"settled: {target if options.mode in MOVES else source} is active")
            seen.recovered, samples = self._recover(source, target)
            if not samples.get(source):
                # What it saw itself went with its power: it is known what ran there until then.
                running = [p["name"] for p in active["programs"] if p["state"] == State.RUNNING]
                samples[source] = [{"at": self._began, "running": running}]
            seen.samples = samples
        after = self._status()
        seen.ended_at = time.time()
        now_active = find_active(list(after.values()))
        seen.failed = (
            {p["name"]: str(p.get("problem") or p["state"]) for p in failed_programs(now_active)} if now_active else {}
        )
        seen.registry_equal = self._compare()
        seen.attempts = {probe.name: list(probe.attempts) for probe in self._probes}
        seen.events = self._events(self._began)
        limits = settings_as_dict(nodes.settings)["objective"]
        report = {**self._head(), **build_report(seen, limits)}
        report["outcome"] = CommandOutcome.PASSED if report["passed"] else CommandOutcome.FAILED
        if options.and_back:
            report["back"] = self._hand_back(source, target)
        report["summary"] = _summarise(report)
        with contextlib.suppress(CommandFailed, NoDaemon, TimeoutError):
            nodes.ask_own({"op": "report-save", "report": report})
        return report

    def abandon(self) -> str:
        """Ends what can be ended now; says how things are."""
        texts = []
        for node in (self._nodes.own_name, self._nodes.peer_name):
            try:
                self._nodes.ask(node, {"op": "drill-end", "drill": self._id}, 15.0)
                role = {n["name"]: n.get("role") for n in self._nodes.status()}.get(node)
                texts.append(f"{node} is {role}")
            except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError) as error:
                texts.append(f"{node} ends the fault by itself ({error})")
        return "the fault is over; " + ", ".join(texts)

    # ---- steps --------------------------------------------------------------------------------------------

    def _head(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "id": self._id,
            "version": __version__,
            "asked_on": self._nodes.own_name,
            "clock_offset_s": round(self._offset_s, 4),
            "clock_error_s": round(self._offset_error_s, 4),
            "objective": dict(settings_as_dict(self._nodes.settings)["objective"]),
        }

    def _measure_offset(self) -> None:
        """How far the peer's clock is ahead, by the quickest of a few questions; the error is half its round trip."""
        best: tuple[float, float] | None = None
        for _ in range(OFFSET_TRIES):
            began = time.time()
            at = float(self._nodes.ask_peer({"op": "history", "count": 1})["at"])
            took = time.time() - began
            if best is None or took / 2 < best[1]:
                best = (at - (began + took / 2), took / 2)
        assert best is not None
        self._offset_s, self._offset_error_s = best

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        for probe in self._probes:
            probe.start()
        try:
            yield
        finally:
            for probe in self._probes:
                probe.stop()

    def _await_baseline(self) -> None:
        """A probe that is not answered before the fault would tell nothing."""
        time.sleep(BASELINE_S)
        for probe in self._probes:
            if not probe.is_answered():
                raise CannotDrill(f"refused: {probe.name} does not answer even now; nothing was changed")

    def _begin(self, source: str, target: str) -> None:
        for node in (target, source):
            for_s = self._options.timeout + self._options.return_timeout + GRACE_S
            answer = self._nodes.ask(node, {"op": "drill-begin", "drill": self._id, "for_s": for_s})
            if answer["outcome"] != Outcome.BEGUN:
                raise CannotDrill(f"refused by {node}: {answer.get('reason')}")
        time.sleep(0.2)

    def _make_fault(self, source: str) -> float:
        """Makes the fault; returns when, by this node's clock."""
        mode = self._options.mode
        if mode == "switchover":
            answer = self._nodes.ask(source, {"op": "hand-over", "force": False}, 40.0)
        else:
            message = {
                "op": "drill-fault",
                "drill": self._id,
                "mode": mode,
                "hold_s": hold_s(self._nodes.settings, mode),
                "really": self._options.yes_really,
            }
            answer = self._nodes.ask(source, message)
        if answer["outcome"] != Outcome.BEGUN:
            raise CannotDrill(f"refused by {source}: {answer.get('reason')}")
        at = float(answer["at"]) - (self._offset_s if source == self._nodes.peer_name else 0.0)
        self._say(f"{time.strftime('%H:%M:%S', time.localtime(at))}  {mode} on {source}")
        return at

    def _follow(self, source: str, target: str) -> bool:
        """Waits until the pair is as it must be after the fault; says whether that came in time."""
        deadline = time.monotonic() + self._options.timeout
        active = target if self._options.mode in MOVES else source
        # What the fault brings about needs a moment to begin; a cut is to bring about nothing for as long as it lasts.
        lasts_s = hold_s(self._nodes.settings, self._options.mode) if self._options.mode in CUTS else 0.0
        deadline += lasts_s
        while (left_s := self._fault_at + lasts_s + 0.3 - time.time()) > 0:
            self._show_events()
            time.sleep(min(left_s, POLL_S if lasts_s else left_s))
        while time.monotonic() < deadline:
            self._show_events()
            node = self._status().get(active)
            if node is not None and self._is_settled(node) and all(probe.is_answered() for probe in self._probes):
                return True
            time.sleep(POLL_S)
        return False

    def _is_settled(self, node: NodeJson) -> bool:
        if not node["reachable"] or node["role"] != "active" or node["supervisord"] != "up" or not node["vip"]:
            return False
        if any(p["state"] in UNSETTLED_STATES for p in node["programs"]):
            return False
        if self._options.mode in CUTS:
            return True
        # What was done about the fault ends with a line in the history; before that all may look well.
        wanted = "agent-resumed" if self._options.mode == "agent-kill" else "takeover-verified"
        return any(e["code"] == wanted and e["node"] == node["name"] for e in self._events(self._fault_at))

    def _recover(self, source: str, target: str) -> tuple[bool, dict[str, list[dict[str, Any]]]]:
        """Ends the fault, waits until the pair is whole again, and fetches what the nodes saw."""
        samples: dict[str, list[dict[str, Any]]] = {}
        deadline = time.monotonic() + (
            self._options.return_timeout if self._options.mode == "power" else self._options.timeout
        )
        told = False
        while time.monotonic() < deadline:
            self._show_events()
            for node in (source, target):
                if node not in samples:
                    with contextlib.suppress(PeerUnreachable, CommandFailed, NoDaemon, TimeoutError):
                        samples[node] = self._corrected(
                            node, self._nodes.ask(node, {"op": "drill-end", "drill": self._id}, 35.0)
                        )
            nodes = list(self._status().values())
            whole = not any(f.severity is Severity.ERROR for f in find_obstacles(nodes))
            if len(samples) == 2 and whole:
                self._show_events()
                return True, samples
            if not told and source not in samples:
                self._tell(f"waiting for {source} to come back, {deadline - time.monotonic():.0f} s at most")
                told = True
            time.sleep(POLL_S)
        return False, samples

    def _corrected(self, node: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
        shift = self._offset_s if node == self._nodes.peer_name else 0.0
        return [{**sample, "at": float(sample["at"]) - shift} for sample in answer["samples"]]

    def _compare(self) -> bool | None:
        try:
            return not compare_registries(self._nodes)
        except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError):
            return None

    def _hand_back(self, source: str, target: str) -> dict[str, Any]:
        """Makes ``source`` active again, unless it is."""
        if self._options.mode not in MOVES:
            return {"outcome": CommandOutcome.NOT_NEEDED, "took_s": 0.0, "problem": None}
        self._say(f"\nand back: {target} hands over to {source}")
        result = hand_over(self._nodes, self._options.timeout, force=False, say=self._say)
        return {"outcome": result.outcome, "took_s": result.took_s, "problem": result.problem}

    # ---- looking ------------------------------------------------------------------------------------------

    def _status(self) -> dict[str, NodeJson]:
        try:
            return {str(n["name"]): n for n in self._nodes.status()}
        except (NoDaemon, TimeoutError, CommandFailed):
            return {}

    def _events(self, since: float) -> list[Event]:
        """Both nodes' events since a moment of this node's clock, with the times of this node's clock."""
        try:
            events, _ = read_both(self._nodes, 2000, since - 1.0 - abs(self._offset_s))
        except (NoDaemon, TimeoutError, CommandFailed):
            return []
        shift = {self._nodes.peer_name: self._offset_s}
        corrected = [{**e, "at": round(float(e["at"]) - shift.get(str(e["node"]), 0.0), 3)} for e in events]
        return sorted((e for e in corrected if e["at"] >= since), key=lambda e: float(e["at"]))

    def _show_events(self) -> None:
        for event in self._events(self._fault_at):
            key = json.dumps(event, sort_keys=True)
            if key not in self._told:
                self._told.add(key)
                self._say(f"{float(event['at']) - self._fault_at:+8.3f} s  " + event_line(event).split("  ", 1)[1])

    def _tell(self, text: str) -> None:
        self._say(f"{time.time() - self._fault_at:+8.3f} s  {text}")


def _summarise(report: Mapping[str, Any]) -> str:
    outages = report["outage_s"] or report["program_gap_s"]
    worst = f"{max(outages.values()):.2f} s out of service" if outages else "no program ran"
    verdict = "passed" if report["passed"] else "FAILED"
    return f"failover-test {report['mode']} from {report['from']}: {verdict}, {worst}"
