"""A failover-test on one node: when a fault is made, and that whatever was begun comes to an end without its command."""

from __future__ import annotations

import asyncio
import json
import pathlib
import signal
from collections.abc import Callable

import pytest

from ha_agent.adapters.reports import read_reports
from ha_agent.core.kinship import UNKNOWN_GROUP, Marked
from ha_agent.core.requests import CountRequest, DrillBeginRequest, DrillFaultRequest, DrillRequest, Malformed, ReportRequest
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.drill import ANSWER_FIRST_S, LONGEST_S, DrillRefused
from tests.unit.fakes_operations import Node, on_node, operator, program_conf

CONFS = {"web.conf": program_conf("web")}


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came")


def test_only_one_test_at_a_time_and_none_during_maintenance(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.maintenance.begin(60.0, "", "alice")
        with pytest.raises(DrillRefused, match="maintenance"):
            node.drill.begin("x", 60.0, "alice")
        node.maintenance.end("alice")
        node.drill.begin("x", 60.0, "alice")
        with pytest.raises(DrillRefused, match="of alice is under way"):
            node.drill.begin("y", 60.0, "bob")
        node.drill.begin("x", 1e9, "alice")
        assert node.drill.record is not None and node.drill.record.until_mono == node.clock() + LONGEST_S

    on_node(tmp_path, work, confs=CONFS, active=True)


@pytest.mark.parametrize(
    ("role", "identifier", "mode", "reason"),
    [
        (Role.ACTIVE, "other", "agent-kill", "not under way"),
        (Role.STANDBY, "x", "agent-kill", "not active"),
        (Role.TAKING_OVER, "x", "agent-kill", "not active"),
        (Role.ACTIVE, "x", "power", "--yes-really"),
        (Role.ACTIVE, "x", "link-down", "--yes-really"),
        (Role.ACTIVE, "x", "flood", "no mode"),
    ],
)
def test_a_fault_is_made_on_the_active_node_for_the_test_under_way_alone(
    tmp_path: pathlib.Path, role: Role, identifier: str, mode: str, reason: str
) -> None:
    async def work(node: Node) -> None:
        node.standing.become(role)
        node.drill.begin("x", 60.0, "alice")
        with pytest.raises(DrillRefused, match=reason):
            await node.drill.make_fault(identifier, mode, 5.0, really=False)
        assert node.drill.record is not None and node.drill.record.mode is None
        await asyncio.sleep(0.005)
        assert node.keepalived.sent == node.process.sent == [] and "drill-fault" not in node.codes()

    on_node(tmp_path, work)


def test_maintenance_that_was_begun_after_the_test_keeps_its_fault_away(tmp_path: pathlib.Path) -> None:
    """In maintenance nobody would take over: the fault would be an outage."""

    async def work(node: Node) -> None:
        node.standing.become(Role.ACTIVE)
        node.drill.begin("one", 60.0, "alice")
        node.maintenance.begin(60.0, "", "bob")
        with pytest.raises(DrillRefused, match="maintenance is on"):
            await node.drill.make_fault("one", "keepalived-kill", 5.0, really=False)
        assert "drill-fault" not in node.codes()

    on_node(tmp_path, work)


def test_keepalived_is_killed_after_the_answer_and_started_again_when_the_fault_has_had_its_time(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        at = await node.drill.make_fault("x", "keepalived-kill", 5.0, really=False)
        assert at == node.wall() + ANSWER_FIRST_S and node.keepalived.sent == []
        await until(lambda: node.keepalived.sent == [signal.SIGKILL])
        assert ANSWER_FIRST_S in node.pauses
        node.keepalived.alive = False
        await asyncio.sleep(0.005)
        assert "drill-undone" not in node.codes()
        node.clock.now += ANSWER_FIRST_S + 5.0
        await until(lambda: "drill-undone" in node.codes())
        assert node.drill.record is not None, "the test goes on without its fault"

    on_node(tmp_path, work, confs=CONFS, active=True)


@pytest.mark.parametrize(
    ("mode", "addresses", "router"), [("partition", "192.0.2.2", 51), ("witness-cut", "127.0.0.9", None)]
)
def test_a_cut_is_made_with_its_end_and_ended_by_the_node_where_that_comes_first(
    tmp_path: pathlib.Path, mode: str, addresses: str, router: int | None
) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", mode, 20.0, really=False)
        await until(lambda: bool(node.voters.cuts))
        (cut,) = [one for one in node.voters.cuts if one is not None]
        assert cut[:2] == ([addresses], router) and cut[2] == pytest.approx(ANSWER_FIRST_S + 20.0)
        node.clock.now += ANSWER_FIRST_S + 20.0
        await until(lambda: "drill-undone" in node.codes())
        assert node.voters.cuts[1:] == [None]

    on_node(tmp_path, work, confs=CONFS, active=True)


@pytest.mark.parametrize(
    ("change", "hold_s", "reason"),
    [
        ({"witness_hosts": ()}, 20.0, "needs a pair with a witness"),
        ({"promised": ("a", "b")}, 20.0, "only a, b votes for this node"),
        ({"promised": ()}, 20.0, "only nobody votes"),
        ({"has_nft": False}, 20.0, "apt install nftables"),
        ({}, 5000.0, "are the longest"),
    ],
)
def test_a_cut_is_refused_where_it_would_stop_the_programs_or_cannot_be_made(
    tmp_path: pathlib.Path, change: dict[str, object], hold_s: float, reason: str
) -> None:
    async def work(node: Node) -> None:
        for name, value in change.items():
            setattr(node.voters, name, value)
        # What was promised is looked at when it is asked for.
        node.drill.begin("x", 60.0, "alice")
        node.drill.voters = node.voters.make()
        with pytest.raises(DrillRefused, match=reason):
            await node.drill.make_fault("x", "partition", hold_s, really=True)
        await asyncio.sleep(0.005)
        assert node.voters.cuts == [] and node.drill.record is not None and node.drill.record.mode is None

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_a_cut_that_the_kernel_does_not_take_is_told(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.voters.failure = OSError("nft: no such thing")
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", "partition", 20.0, really=False)
        await until(lambda: "drill-failed" in node.codes())

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_a_test_that_was_ended_before_its_fault_makes_none(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", "supervisord-kill", 5.0, really=False)
        await node.drill.end("x")
        await asyncio.sleep(0.01)
        assert node.process.sent == [] and node.drill.record is None

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_what_cannot_be_undone_is_told_and_tried_again_also_after_the_command_has_gone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", "keepalived-kill", 5.0, really=False)
        node.keepalived.alive = False
        (tmp_path / "keepalived-is-broken").touch()
        await until(lambda: node.keepalived.sent == [signal.SIGKILL])
        await node.drill.end("x")
        assert node.drill.record is not None and "drill-failed" in node.codes()
        (tmp_path / "keepalived-is-broken").unlink()
        node.clock.now += 60.0
        await until(lambda: node.drill.record is None)
        assert node.codes()[-2:] == ["drill-undone", "drill-abandoned"]

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_a_test_whose_command_never_comes_back_is_forgotten_with_its_files(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await until(lambda: (node.run_dir / "drill-samples.jsonl").exists())
        node.clock.now += 60.0
        await until(lambda: node.drill.record is None)
        assert "drill-abandoned" in node.codes()
        await until(lambda: not list(node.run_dir.glob("drill*")))

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_an_agent_that_is_started_again_goes_on_with_the_test_and_ends_its_fault(tmp_path: pathlib.Path) -> None:
    async def first(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", "agent-kill", 5.0, really=False)
        for task in node.tasks:
            task.cancel()

    async def again(node: Node) -> None:
        node.drill.resume()
        record = node.drill.record
        assert record is not None and (record.id, record.by, record.mode) == ("x", "alice", "agent-kill")
        node.clock.now += 10.0
        await until(lambda: "drill-undone" in node.codes())
        node.clock.now += 60.0
        await until(lambda: node.drill.record is None)

    on_node(tmp_path, first, confs=CONFS, active=True)
    on_node(tmp_path, again)


@pytest.mark.parametrize("raw", ["", "[]", '{"id": 1}', "{"])
def test_a_record_that_cannot_be_read_is_forgotten(tmp_path: pathlib.Path, raw: str) -> None:
    async def work(node: Node) -> None:
        node.drill.resume()
        assert node.drill.record is None
        (node.run_dir / "drill.json").write_text(raw)
        node.drill.resume()
        assert node.drill.record is None and not (node.run_dir / "drill.json").exists()

    on_node(tmp_path, work)


def test_every_change_of_what_runs_and_of_the_role_is_seen_once(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        samples = node.run_dir / "drill-samples.jsonl"

        def lines() -> int:
            return len(samples.read_text().splitlines()) if samples.exists() else 0

        node.table.left = [Marked(77, 1, 5, "web", "web"), Marked(78, 1, 5, UNKNOWN_GROUP, "process 78")]
        node.drill.begin("x", 60.0, "alice")
        await until(lambda: lines() == 1)
        await asyncio.sleep(0.01)
        node.standing.become(Role.RELEASING)
        await until(lambda: lines() == 2)
        node.table.left.clear()
        await until(lambda: lines() == 3)
        seen = await node.drill.end("x")
        assert [(row["running"], row["role"]) for row in seen] == [
            (["web"], "active"),
            (["web"], "releasing"),
            ([], "releasing"),
        ]
        assert not samples.exists() and await node.drill.end("x") == []

    on_node(tmp_path, work, confs=CONFS, active=True)


# ---- as operations --------------------------------------------------------------------------------------------


def test_a_test_is_begun_broken_and_ended_by_requests(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        drills = node.drills
        refused = await drills.make_fault(DrillFaultRequest("x", "keepalived-kill", 5.0), operator())
        assert refused["outcome"] is Outcome.REFUSED
        begun = await drills.begin(DrillBeginRequest("x" * 100, 60.0), operator())
        assert begun == {"outcome": Outcome.BEGUN, "at": node.wall()}
        assert (await drills.begin(DrillBeginRequest("y", 60.0), operator()))["outcome"] is Outcome.REFUSED
        fault = await drills.make_fault(DrillFaultRequest("x" * 64, "keepalived-kill", 5.0), operator())
        assert fault == {"outcome": Outcome.BEGUN, "at": node.wall() + ANSWER_FIRST_S}
        assert (await drills.end(DrillRequest("y"), operator())) == {"samples": []}
        assert node.drill.record is not None
        await drills.end(DrillRequest("x" * 64), operator())
        assert node.drill.record is None

    on_node(tmp_path, work, confs=CONFS, active=True)


def test_reports_are_kept_up_to_their_number_and_listed_as_many_as_are_asked_for(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        names = [f"20260101T00000{number}-abcd" for number in range(3)]
        for name in names:
            answer = await node.drills.save_report(ReportRequest({"id": name, "summary": "s" * 1000}), operator())
            assert answer == {"outcome": Outcome.SAVED}
        for count, wanted in ((0, []), (-1, []), (1, names[2:]), (9, names[1:])):
            found = await node.drills.list_reports(CountRequest(count), operator())
            assert [report["id"] for report in found["reports"]] == wanted
        told = [event for event in node.told if event["code"] == "drill-report"]
        assert [event["drill"] for event in told] == names and len(str(told[0]["text"])) == 500
        (node.state_dir / "drills" / f"{names[2]}.json").write_text("{")
        assert [report["id"] for report in read_reports(str(node.state_dir), 9)] == names[1:2]

    on_node(tmp_path, work)


@pytest.mark.parametrize("identifier", [None, 3, "", "../../etc/passwd", "20260101T000000-abcd/../x"])
def test_a_report_by_a_name_that_is_none_is_malformed_and_writes_nothing(tmp_path: pathlib.Path, identifier: object) -> None:
    async def work(node: Node) -> None:
        with pytest.raises(Malformed):
            await node.drills.save_report(ReportRequest({"id": identifier}), operator())
        assert not (node.state_dir / "drills").exists() and node.told == []

    on_node(tmp_path, work)


def test_a_record_on_the_disk_says_all_that_the_next_agent_needs(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.drill.begin("x", 60.0, "alice")
        await node.drill.make_fault("x", "keepalived-kill", 5.0, really=False)
        assert json.loads((node.run_dir / "drill.json").read_text()) == {
            "id": "x",
            "by": "alice",
            "until_mono": 1060.0,
            "mode": "keepalived-kill",
            "undo_mono": 1000.0 + ANSWER_FIRST_S + 5.0,
            "interface": None,
        }

    on_node(tmp_path, work, confs=CONFS, active=True)
