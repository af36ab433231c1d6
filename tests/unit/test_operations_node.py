"""Operations on one node and on the pair: what they say of it, what they change, and how they refuse."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import pathlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ha_agent.adapters.kept import Kept, write_kept
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.runner import ProgramMissing
from ha_agent.adapters.store import PAGE_BYTES
from ha_agent.adapters.supervisord import ProcessInfo
from ha_agent.core.account import DrillAccount, NodeAccount, PushAccount, Window
from ha_agent.core.account_json import describe_account
from ha_agent.core.events import StateEvent
from ha_agent.core.frames import Message, encode_frame
from ha_agent.core.guard import Access
from ha_agent.core.manifest import EMPTY
from ha_agent.core.orders import Orders
from ha_agent.core.requests import (
    AlertTestRequest,
    AtPeerRequest,
    ContentsRequest,
    CountRequest,
    EventsRequest,
    HandOverRequest,
    HistoryRequest,
    JudgeRequest,
    KeptPruneRequest,
    KeptReadRequest,
    MaintenanceRequest,
    Malformed,
    ManifestRequest,
    NotPermitted,
    ReleaseRequest,
    Request,
    RestoreRequest,
    StatusRequest,
    SummaryRequest,
    SupervisorRequest,
    SyncRequest,
    TransactionRequest,
)
from ha_agent.core.settings import SinkSettings
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Outcome, Role, VrrpState
from ha_agent.daemon.operations.alerts import MAX_EVENTS
from ha_agent.daemon.operations.call import Call, call_of_peer
from ha_agent.daemon.operations.node import MAX_CONTENT_BYTES
from tests.unit.fakes_operations import Node, no_progress, on_node, operator, program_conf, reader

CONFS = {"web.conf": program_conf("web"), "db.conf": program_conf("db")}
PLAIN, STATUS = Request(), StatusRequest()


def on_active(base: pathlib.Path, work: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    on_node(base, work, **{"confs": CONFS, "active": True, **options})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# ---- node -----------------------------------------------------------------------------------------------------


def test_the_history_is_as_much_of_the_newest_as_was_asked_for(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for number in range(3):
            node.events.add(f"e{number}", "x")
        found = await node.operations.history(HistoryRequest(2), reader())
        assert [event["code"] for event in found["events"]] == ["e1", "e2"] and found["at"] == node.wall()
        assert (await node.operations.history(HistoryRequest(-5), reader()))["events"] == []
        assert len((await node.operations.history(HistoryRequest(10**9), reader()))["events"]) == 3
        assert (await node.operations.history(HistoryRequest(9, 9e9), reader()))["events"] == []
        for wrong in ("x", "1", "1:2:3", "a:b"):
            with pytest.raises(Malformed, match="before"):
                await node.operations.history(HistoryRequest(9, 0.0, wrong), reader())


def test_a_history_that_fits_into_no_answer_is_had_answer_by_answer(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for number in range(5):
            node.events.add("code", "x" * (PAGE_BYTES // 3), number=number)
        found: list[int] = []
        before: str | None = ""
        while before is not None:
            answer = await node.operations.history(HistoryRequest(10**9, 0.0, before), reader())
            assert len(encode_frame(dict(answer))) < 2 * PAGE_BYTES
            found, before = [e["number"] for e in answer["events"]] + found, answer["older"]
        assert found == list(range(5))

    on_node(tmp_path, work)


def test_contents_are_those_of_the_registry_and_what_does_not_fit_is_left_to_be_asked_again(tmp_path: pathlib.Path) -> None:
    half = "x" * (MAX_CONTENT_BYTES // 2 + 1)

    async def work(node: Node) -> None:
        asked = ContentsRequest(("a.conf", "../../etc/passwd", "none.conf", "b.conf", "c.conf"))
        found = (await node.operations.contents(asked, operator()))["contents"]
        assert list(found) == ["a.conf", "../../etc/passwd", "none.conf"]
        assert found["a.conf"] == encoded(half) and found["../../etc/passwd"] is found["none.conf"] is None
        again = (await node.operations.contents(ContentsRequest(("b.conf", "a.conf")), operator()))["contents"]
        assert list(again) == ["b.conf"]

    on_active(tmp_path, work, confs={"a.conf": half, "b.conf": half, "c.conf": "x"})


def at_peer(by: str, **message: object) -> Call:
    """The call of the peer's agent with such a message."""
    return call_of_peer({"by": by, **message}, no_progress)


def test_what_is_in_closed_directories_is_said_to_root_and_the_peers_agent_alone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        callers = [operator(), operator("root", 0), call_of_peer({}, no_progress), at_peer("alice", access="operate")]
        node.checker.for_strangers.clear()
        for call in [*callers, at_peer("root", access="operate", root=True), at_peer("?", access="operate")]:
            await node.operations.judge(JudgeRequest({"a.conf": program_conf("a")}), call)
        assert node.checker.for_strangers == [True, False, False, True, False, True]

    on_active(tmp_path, work)


def test_texts_are_judged_without_being_in_the_registry(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        confs = {"new.conf": program_conf("new", "; lacks /bin/new"), "bad.conf": "broken"}
        found = await node.operations.judge(JudgeRequest(confs), operator())
        assert found["failure"] is None and found["verdicts"]["bad.conf"]["problem"] == "it is broken"
        (program,) = found["verdicts"]["new.conf"]["programs"]
        assert program["name"] == "new" and list(program["missing"]) == ["/bin/new"]
        node.checker.failure = "no parser"
        assert await node.operations.judge(JudgeRequest(confs), operator()) == {"failure": "no parser", "verdicts": {}}
        for odd in ({"a.conf": 1}, {"a.conf": "x" * (MAX_CONTENT_BYTES + 1)}):
            with pytest.raises(Malformed):
                await node.operations.judge(JudgeRequest(odd), operator())
        assert node.conf_names() == sorted(CONFS)

    on_active(tmp_path, work)


def test_a_view_needs_one_look_at_supervisord_and_says_of_one_that_is_silent_that_it_is(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.add("local")
        found = await node.operations.view(PLAIN, reader())
        assert [(row["name"], row["kind"]) for row in found["programs"]] == [
            ("db", "registry"),
            ("local", "local"),
            ("web", "registry"),
        ]
        assert [row["name"] for row in found["node"]["programs"]] == ["db", "web"]
        assert found["alerts"]["node"] == "a" and found["figures"]["started"] == node.wall()
        assert len(node.client.named("getAllProcessInfo")) == 1
        node.client.problem = "refused"
        node.clock.now += 60.0
        found = await node.operations.view(PLAIN, reader())
        assert (found["programs"], found["node"]["supervisord"]) == ([], "refused")

    on_active(tmp_path, work)


def test_a_failed_program_says_why_and_a_parked_one_that_is_unloaded_is_shown(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.put(ProcessInfo("web", "web", "EXITED", 0, 5, "", 3))
        node.client.put(ProcessInfo("db", "db", "FATAL", 0, 5, "no such file", 0))
        rows = {row["name"]: row for row in await node.views.describe(node.client.read_processes())}
        assert (rows["web"]["problem"], rows["db"]["problem"]) == ("exit status 3", "no such file")
        assert (rows["old"]["kind"], rows["old"]["state"]) == ("parked", "PARKED")
        node.client.add("old", state="STOPPED")
        rows = {row["name"]: row for row in await node.views.describe(node.client.read_processes())}
        assert (rows["old"]["kind"], rows["old"]["state"]) == ("parked", "PARKED")
        node.client.add("old")
        names = [(row["name"], row["state"]) for row in await node.views.describe(node.client.read_processes())]
        assert ("old", "RUNNING") in names, "what runs is shown as that, parked or not"

    on_active(tmp_path, work, confs={**CONFS, "old.conf.parked": program_conf("old")})


def test_the_views_of_programs_tell_registry_local_and_parked_apart(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.add("local")
        found = await node.views.programs(PLAIN, reader())
        assert found["outcome"] is Outcome.UP and found["local"] == ["local"] and found["role"] == "active"
        assert found["autostart"] == ["web"] and found["groups"] == {"web": ["web"], "idle": ["idle"]}
        (parked,) = found["parked"]
        assert parked["name"] == "old" and isinstance(parked["since"], float)
        node.client.problem = "refused"
        assert await node.views.programs(PLAIN, reader()) == {"outcome": "down", "reason": "refused", "role": "active"}
        who = await node.views.whoami(PLAIN, reader())
        assert (who["node"], who["role"], who["peer"], who["peer_role"], who["access"]) == ("a", "active", "b", None, "read")
        await node.group.conversation.ask_role(1.0)
        assert (await node.views.whoami(PLAIN, operator()))["peer_role"] == "standby"
        node.link.go_down()
        assert (await node.views.whoami(PLAIN, operator()))["peer_role"] is None

    confs = {"web.conf": CONFS["web.conf"], "idle.conf": program_conf("idle", "autostart=false")}
    on_active(tmp_path, work, confs={**confs, "old.conf.parked": program_conf("old")})


# ---- status ---------------------------------------------------------------------------------------------------


def account(**values: Any) -> NodeAccount:
    common: dict[str, Any] = {"role": Role.ACTIVE, "vrrp_state": VrrpState.MASTER, "vip_here": True}
    return NodeAccount("a", "b", 1.0, **{**common, **values})


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, "in_sync"),
        ({"push": PushAccount(pending=2)}, "pending"),
        ({"push": PushAccount(pending=None)}, "pending"),
        ({"push": PushAccount(refused="full", pending=2)}, "refused"),
        ({"push": PushAccount(held="all", refused="full", pending=2)}, "held"),
        ({"push": PushAccount(held="all"), "link_up": False}, "unreachable"),
        ({"role": Role.TAKING_OVER}, "in_sync"),
        ({"role": Role.STANDBY}, "receiving"),
        ({"role": Role.STANDBY, "link_up": False}, "unreachable"),
        ({"role": Role.FENCED}, "receiving"),
    ],
)
def test_the_state_of_replication_is_the_worst_that_holds(values: dict[str, Any], state: str) -> None:
    assert describe_account(account(**values), "up", [])["replication"]["state"] == state


def test_a_status_says_of_maintenance_and_a_failover_test_whose_they_are() -> None:
    found = describe_account(
        account(maintenance=Window(1.0, 2.0, "why", "alice", "boot"), drill=DrillAccount("x", "bob", None)), "up", []
    )
    assert found["maintenance"] == {"since": 1.0, "until": 2.0, "reason": "why", "by": "alice"}
    assert found["drill"] == {"id": "x", "by": "bob", "mode": None}
    plain = describe_account(account(), "down", [])
    assert (plain["maintenance"], plain["drill"], plain["last_transition"], plain["supervisord"]) == (
        None,
        None,
        None,
        "down",
    )


def test_the_status_of_the_pair_is_both_accounts_and_what_is_known_of_a_peer_that_is_away(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.answers["status"] = {"node": {"name": "b", "role": "standby", "reachable": True}}
        nodes: Any = (await node.pair.status(STATUS, reader()))["nodes"]
        own, peer = nodes
        assert (own["name"], own["role"], peer) == ("a", "active", {"name": "b", "role": "standby", "reachable": True})
        assert [(row["name"], row["starts"]) for row in own["programs"]] == [("db", True), ("web", True)]
        assert own["registry"]["confs"] == 2 and own["readiness"]["loadable"] == 2 and own["readiness"]["current"]
        node.link.answers["status"] = RemoteError("busy")
        busy: Any = (await node.pair.status(STATUS, reader()))["nodes"][1]
        assert busy["problem"] == "busy"
        await node.group.conversation.ask_role(1.0)
        node.link.go_down()
        away: Any = (await node.pair.status(STATUS, reader()))["nodes"][1]
        assert (away["reachable"], away["problem"], away["role"]) == (False, "unplugged", "standby")
        node.client.problem = "refused"
        assert (await node.from_peer.status(STATUS, operator()))["node"]["supervisord"] == "refused"

    on_active(tmp_path, work)


def test_an_account_says_of_a_standby_what_was_changed_there_and_nothing_of_pushes(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        held = node.accountant.gather(5.0)
        assert held.owns and held.push.pending == 0 and held.local_edits == () and held.at_wall == 5.0
        node.standing.become(Role.STANDBY)
        (node.registry / "web.conf").unlink()
        (node.registry / "new.conf").write_text(program_conf("new"))
        await node.group.view.compare_now()
        await node.group.readiness.judge()
        found = node.accountant.gather(6.0)
        assert found.push == PushAccount() and found.local_edits == ("new.conf", "web.conf")
        assert found.maintenance is None and found.drill is None and found.judged_is_current
        node.maintenance.begin(60.0, "why", "alice")
        node.process.alive = False
        node.link.go_down()
        found = node.accountant.gather(7.0)
        assert found.maintenance is not None and not found.supervisord_alive and found.link_problem == "unplugged"
        node.wall.now += 61.0
        assert node.accountant.gather(8.0).maintenance is None, "its time is over"

    on_active(tmp_path, work)


# ---- the pair -------------------------------------------------------------------------------------------------


def test_a_sync_is_done_when_the_peer_has_everything_and_says_why_where_it_has_not(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        (node.registry / "new.conf").write_text(program_conf("new"))
        assert await node.pair.sync(SyncRequest(), operator()) == {"outcome": Outcome.IN_SYNC, "confs": 3}
        assert node.peer_holds() == node.group.view.manifest and len(node.link.named("transaction")) == 1
        node.link.held = EMPTY
        assert (await node.pair.sync(SyncRequest(), operator()))["outcome"] is Outcome.IN_SYNC
        assert node.link.held == node.group.view.manifest, "what the peer was believed to hold does not count"
        node.link.answers["manifest"] = RemoteError("its disk is broken")
        answer = await node.pair.sync(SyncRequest(full=True), operator())
        assert answer == {"outcome": Outcome.REFUSED_BY_PEER, "reason": "its disk is broken"}
        node.clock.now += 1.0
        node.link.go_down()
        answer = await node.pair.sync(SyncRequest(timeout_s=0.0), operator())
        assert answer == {"outcome": Outcome.UNREACHABLE, "reason": "unplugged"}
        node.standing.become(Role.STANDBY)
        assert (await node.pair.sync(SyncRequest(), operator()))["outcome"] is Outcome.REFUSED

    on_active(tmp_path, work)


def test_deletions_that_are_held_go_with_an_operators_word(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for name in CONFS:
            (node.registry / name).unlink()
        held = await node.pair.sync(SyncRequest(), operator())
        assert held["outcome"] is Outcome.HELD and node.link.named("transaction") == []
        assert await node.pair.sync(SyncRequest(accept_deletes=True), operator()) == {"outcome": "in-sync", "confs": 0}
        assert "deletes-accepted" in node.codes()

    on_active(tmp_path, work)


def test_the_manifest_is_that_of_the_disk_as_it_is_now(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        (node.registry / "new.conf").write_text("x")
        known = await node.from_peer.manifest(ManifestRequest(), operator())
        assert [row[0] for row in known["rows"] or ()] == sorted(CONFS)
        assert await node.from_peer.manifest(ManifestRequest(known=known["hash"]), operator()) == {**known, "rows": None}
        held = await node.from_peer.manifest(ManifestRequest(look=True, known=known["hash"]), operator())
        assert [row[0] for row in held["rows"] or ()] == sorted([*CONFS, "new.conf"])
        rows = (await node.pair.manifest(PLAIN, operator()))["rows"]
        assert [row[0] for row in rows] == sorted([*CONFS, "new.conf"])

    on_active(tmp_path, work)


def test_the_peer_is_asked_with_the_name_and_the_right_of_the_user(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.answers["view"] = {"id": 9, "node": {}}
        ask = AtPeerRequest({"op": "view", "by": "root", "access": "operate", "root": True})
        assert await node.pair.ask_peer(ask, reader()) == {"outcome": Outcome.ANSWERED, "answer": {"node": {}}}
        assert node.link.asked[-1] == {"op": "view", "by": "bob", "access": "read", "root": False}
        node.link.answers["view"] = RemoteError("no")
        assert await node.pair.ask_peer(ask, reader()) == {"outcome": Outcome.FAILED, "reason": "b: no"}
        for error, reason in ((Disconnected("cut"), "cut"), (TimeoutError(), "no answer within 10 s; whether it was done")):
            node.link.answers["view"] = error
            answer = await node.pair.ask_peer(ask, reader())
            assert answer["outcome"] is Outcome.UNREACHABLE and answer["reason"].startswith(reason)
        node.link.go_down()
        count = len(node.link.asked)
        assert (await node.pair.ask_peer(ask, reader())) == {"outcome": Outcome.UNREACHABLE, "reason": "unplugged"}
        assert len(node.link.asked) == count

    on_active(tmp_path, work)


# ---- role -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_maintenance_begins_where_no_plan_is_under_way_and_always_ends(tmp_path: pathlib.Path, role: Role) -> None:
    async def work(node: Node) -> None:
        node.standing.become(role)
        answer = await node.role.set_maintenance(MaintenanceRequest(True, 60.0, "x" * 1000), operator())
        if role in (Role.TAKING_OVER, Role.RELEASING):
            assert answer["outcome"] is Outcome.REFUSED and not node.maintenance.is_on
        else:
            assert answer == {"outcome": Outcome.ON, "until": node.wall() + 60.0}
            assert node.maintenance.window is not None and len(node.maintenance.window.reason) == 500
        assert await node.role.set_maintenance(MaintenanceRequest(False), operator()) == {"outcome": Outcome.OFF}
        assert not node.maintenance.is_on
        for seconds in (0.0, -1.0):
            with pytest.raises(Malformed):
                await node.role.set_maintenance(MaintenanceRequest(True, seconds), operator())

    on_node(tmp_path, work)


def test_a_hand_over_begins_where_this_node_is_active_and_the_peer_ready_to_be(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.role.hand_over(HandOverRequest(), operator())
        assert answer == {"outcome": Outcome.BEGUN, "at": node.wall()} and node.codes()[-1] == "switchover"
        assert node.group.fitness.hands_over and (node.run_dir / "track").read_text() == "1\n"

    on_active(tmp_path, work)


def _in_maintenance(node: Node) -> None:
    node.maintenance.begin(60.0, "", "alice")


def _beside_a_peer_in_maintenance(node: Node) -> None:
    node.link.orders = Orders(in_maintenance=True)


def _without_link(node: Node) -> None:
    node.link.go_down()


def _beside_an_active_peer(node: Node) -> None:
    node.link.role = Role.ACTIVE


def _with_a_change_that_is_refused(node: Node) -> None:
    node.link.answers["transaction"] = {"answer": "NO_SPACE", "reason": "full"}
    (node.registry / "new.conf").write_text("x")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (_without_link, "b cannot be reached"),
        (_beside_an_active_peer, "b is active, not standby"),
        (_with_a_change_that_is_refused, "b does not have every change yet"),
    ],
)
def test_a_hand_over_is_refused_by_name_unless_it_is_forced(
    tmp_path: pathlib.Path, prepare: Callable[[Node], None], reason: str
) -> None:
    async def work(node: Node) -> None:
        prepare(node)
        assert await node.role.hand_over(HandOverRequest(), operator()) == {"outcome": "refused", "reason": reason}
        assert not node.group.fitness.gives_way and "switchover" not in node.codes()
        assert (await node.role.hand_over(HandOverRequest(force=True), operator()))["outcome"] is Outcome.BEGUN
        node.standing.become(Role.STANDBY)
        answer = await node.role.hand_over(HandOverRequest(force=True), operator())
        assert answer["outcome"] is Outcome.REFUSED, "force overrides all but the role"

    on_active(tmp_path, work)


@pytest.mark.parametrize(("prepare", "where"), [(_in_maintenance, "a"), (_beside_a_peer_in_maintenance, "b")])
def test_no_force_hands_over_in_maintenance(tmp_path: pathlib.Path, prepare: Callable[[Node], None], where: str) -> None:
    """The VIP would move, and the programs stay where they are."""

    async def work(node: Node) -> None:
        prepare(node)
        answer = await node.role.hand_over(HandOverRequest(force=True), operator())
        reason = f"maintenance is on at {where}; end maintenance first: ha-agent maintenance off"
        assert answer == {"outcome": "refused", "reason": reason}
        assert not node.group.fitness.gives_way and "switchover" not in node.codes()

    on_active(tmp_path, work)


def test_maintenance_does_not_begin_in_the_middle_of_a_hand_over(tmp_path: pathlib.Path) -> None:
    """keepalived has been told to give up MASTER by then: the VIP would go, and the programs stay until the end of it."""

    async def work(node: Node) -> None:
        assert (await node.role.hand_over(HandOverRequest(), operator()))["outcome"] is Outcome.BEGUN
        answer = await node.role.set_maintenance(MaintenanceRequest(True, 60.0), operator())
        assert answer["outcome"] is Outcome.REFUSED and "a switchover is under way" in answer["reason"]
        assert not node.maintenance.is_on

    on_active(tmp_path, work)


def test_maintenance_of_a_node_that_waits_for_its_peer_is_refused_with_the_way_out(tmp_path: pathlib.Path) -> None:
    """It was told to try again in a moment, which never came."""

    async def work(node: Node) -> None:
        node.standing.become(Role.TAKING_OVER)
        node.standing.note_held("no word of the peer")
        answer = await node.role.set_maintenance(MaintenanceRequest(True, 60.0), operator())
        assert answer["outcome"] is Outcome.REFUSED and "ha-agent takeover --peer-is-off" in answer["reason"]

    on_active(tmp_path, work)


# ---- kept copies ----------------------------------------------------------------------------------------------


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def keep(node: Node, path: str, text: str, mode: int = 0o100644, generation: str = "1.1") -> RestoreRequest:
    """Puts a kept copy on the disk; the request that puts it back."""
    kept = Kept(path, mode, digest_of(text), text.encode(), "a test", False)
    write_kept(os.path.join(node.settings.paths.state_dir, "kept", generation), kept)
    return RestoreRequest(generation, path, kept.sha256)


ROOT = operator("root", 0)


def test_a_restore_puts_a_kept_copy_back_and_keeps_what_stood_there(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        old, new = CONFS["web.conf"], program_conf("web", "; new")
        answer = await node.kept.restore(keep(node, "web.conf", new), ROOT)
        assert answer["outcome"] is Outcome.IN_SYNC and answer["replaced"] == "1.1"
        assert (node.registry / "web.conf").read_text() == new
        copy = await node.kept.read_copy(KeptReadRequest("1.1", "web.conf", digest_of(old)), operator())
        assert copy == {"content": encoded(old), "mode": 0o644}
        nothing = {"content": None, "mode": None}
        assert await node.kept.read_copy(KeptReadRequest("1.1", "web.conf", "0" * 64), operator()) == nothing
        assert await node.kept.read_copy(KeptReadRequest("../..", "web.conf", digest_of(old)), operator()) == nothing
        request = replace(RestoreRequest("1.1", "web.conf", digest_of(old)), target="sub/other.conf.parked")
        assert (await node.kept.restore(request, ROOT))["outcome"] is Outcome.IN_SYNC
        assert (node.registry / "sub/other.conf.parked").read_text() == old

    on_active(tmp_path, work)


@pytest.mark.parametrize(("kept", "restored"), [(0o100666, 0o644), (0o100600, 0o600), (0o104777, 0o755), (0o100664, 0o644)])
def test_a_restored_conf_has_the_copys_mode_and_nothing_that_others_may_write(
    tmp_path: pathlib.Path, kept: int, restored: int
) -> None:
    async def work(node: Node) -> None:
        await node.kept.restore(keep(node, "new.conf", program_conf("new"), kept), ROOT)
        assert (node.registry / "new.conf").stat().st_mode & 0o7777 == restored

    on_active(tmp_path, work)


def test_what_is_no_kept_copy_is_not_put_back(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        request = keep(node, "new.conf", program_conf("new"))
        for one in (replace(request, sha256="0" * 64), replace(request, generation="7.7"), replace(request, path="x.conf")):
            answer = await node.kept.restore(one, ROOT)
            assert answer["outcome"] is Outcome.REFUSED and "no kept copy" in answer["reason"]
        assert node.conf_names() == sorted(CONFS)

    on_active(tmp_path, work)


def test_a_copy_of_the_peers_is_put_back_with_its_mode_and_never_with_another_digest(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        text = program_conf("new")
        request = RestoreRequest("1.1", "new.conf", digest_of(text), there=True)
        refused: tuple[dict[str, Any] | Exception, ...] = (
            Disconnected("cut"),
            RemoteError("no"),
            TimeoutError(),
            {"content": None, "mode": None},
            {"content": encoded(text + "x"), "mode": 0o644},
            {"content": "%%", "mode": 0o644},
        )
        for answer in refused:
            node.link.answers["kept-read"] = answer
            assert (await node.kept.restore(request, ROOT))["outcome"] is Outcome.REFUSED
        assert node.conf_names() == sorted(CONFS)
        node.link.answers["kept-read"] = {"content": encoded(text)}
        assert (await node.kept.restore(request, ROOT))["outcome"] is Outcome.IN_SYNC
        assert (node.registry / "new.conf").stat().st_mode & 0o777 == 0o600, "a peer that does not say may keep a secret"

    on_active(tmp_path, work)


def test_a_conf_that_not_everybody_may_read_is_read_by_root_alone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        secret = keep(node, "new.conf", program_conf("new", "environment=PW=x"), 0o100600)
        copy = KeptReadRequest(secret.generation, secret.path, secret.sha256)
        there = Call("root", None, Access.OPERATE, no_progress, root_there=True)
        for call in (operator(), operator(uid=None)):
            with pytest.raises(NotPermitted, match="0600"):
                await node.kept.read_copy(copy, call)
        for call in (ROOT, there):
            assert (await node.kept.read_copy(copy, call))["content"] is not None
        (node.registry / "web.conf").chmod(0o600)
        await node.group.view.compare_now()
        asked = ContentsRequest(("web.conf", "db.conf"))
        found = await node.operations.contents(asked, operator())
        assert found["withheld"] == ["web.conf"] and found["contents"]["web.conf"] is None
        assert found["contents"]["db.conf"] is not None
        assert (await node.operations.contents(asked, there))["withheld"] == []

    on_active(tmp_path, work)


@pytest.mark.parametrize("path", ["../x.conf", "/etc/x.conf", ".x.conf", "x.txt", "a/../../x.conf"])
def test_a_restore_leaves_the_registry_alone_for_a_path_that_is_none(tmp_path: pathlib.Path, path: str) -> None:
    async def work(node: Node) -> None:
        request = replace(keep(node, "web.conf", "x"), target=path)
        answer = await node.kept.restore(request, ROOT)
        assert answer["outcome"] is Outcome.REFUSED and node.conf_names() == sorted(CONFS)

    on_active(tmp_path, work)


def test_a_restore_needs_the_active_node_and_says_what_the_disk_said(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        request = keep(node, "web.conf", "x")
        (node.registry / "sub").write_text("in the way, and no conf")
        answer = await node.kept.restore(replace(request, target="sub/x.conf"), ROOT)
        assert answer["outcome"] is Outcome.FAILED and "cannot be written" in answer["reason"]
        node.standing.become(Role.STANDBY)
        assert (await node.kept.restore(request, ROOT))["outcome"] is Outcome.REFUSED

    on_active(tmp_path, work)


def test_old_copies_go_and_the_history_says_who_had_them_removed(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        for generation in range(3):
            keep(node, "web.conf", f"text {generation}", generation=f"1.{generation + 1}")
        assert (await node.kept.prune(KeptPruneRequest(2), ROOT))["removed"] == 1
        assert node.told[-1]["code"] == "kept-pruned" and node.told[-1]["by"] == "root"
        count = len(node.told)
        assert (await node.kept.prune(KeptPruneRequest(2), ROOT))["removed"] == 0
        node.wall.now = 9e9
        assert (await node.kept.prune(KeptPruneRequest(0, 9e9), ROOT))["removed"] == 0, "none is so old"
        assert len(node.told) == count
        assert (await node.kept.prune(KeptPruneRequest(0, 60.0), operator()))["removed"] == 2

    on_active(tmp_path, work)


def test_young_copies_are_removed_by_root_of_this_node_alone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        keep(node, "web.conf", "text")
        node.wall.now = time.time() + 6 * 86400
        there = Call("root", None, Access.OPERATE, no_progress, root_there=True)
        for call in (operator(), operator(uid=None), there):
            for request in (KeptPruneRequest(0), KeptPruneRequest(0, 0.0), KeptPruneRequest(0, -1e9, divergences=True)):
                assert (await node.kept.prune(request, call))["removed"] == 0
        assert (await node.kept.prune(KeptPruneRequest(0), ROOT))["removed"] == 1

    on_active(tmp_path, work)


# ---- alerts ---------------------------------------------------------------------------------------------------

SINKS = {"mail": SinkSettings(kind="command"), "pager": SinkSettings(kind="webhook")}


def test_a_test_goes_to_each_sink_at_once_past_the_queue_and_says_what_each_answered(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.receivers.statuses = {"pager": [1, ProgramMissing("no python")]}
        found = await node.alerts.test_sinks(AlertTestRequest(), operator())
        assert found["outcome"] is Outcome.DONE and found["id"] == "a-1"
        assert [(row["sink"], row["delivered"], row["said"]) for row in found["results"]] == [
            ("mail", True, "status 0"),
            ("pager", False, "status 1"),
        ]
        (only,) = (await node.alerts.test_sinks(AlertTestRequest("pager"), operator()))["results"]
        assert (only["sink"], only["delivered"], only["said"]) == ("pager", False, "no python")
        assert [(name, note.number) for name, note in node.receivers.arrived] == [("mail", 1)]
        assert "alice" in node.receivers.arrived[0][1].text and node.records.notes == []
        unknown = await node.alerts.test_sinks(AlertTestRequest("fax"), operator())
        assert unknown["outcome"] is Outcome.REFUSED and "[sinks.fax]" in unknown["reason"]

    on_node(tmp_path, work, sinks=SINKS)


def test_a_test_without_sinks_says_that_there_are_none(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        assert "no sink" in (await node.alerts.test_sinks(AlertTestRequest(), operator()))["reason"]

    on_node(tmp_path, work)


def test_the_list_of_alerts_shows_what_lasts_the_newest_and_how_far_each_sink_is(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await node.alerts.take_events(
            EventsRequest((StateEvent("g", "x", "RUNNING", "FATAL", node.wall()).to_dict(),)), operator("root", 0)
        )
        assert node.wakes == ["alerts"]
        await node.alerting.step()
        node.events.add("stalled", "x")
        node.alerting.hear_event({"code": "stalled", "text": "x", "at": 1.0, "node": "a"})
        await node.alerting.step()
        found = await node.alerts.list_alerts(CountRequest(1), reader())
        assert ("program-fatal", "g:x", True) in [(a["code"], a["subject"], a["told"]) for a in found["lasting"]]
        assert [note["code"] for note in found["recent"]] == ["stalled"]
        assert {name: row["waiting"] for name, row in found["sinks"].items()} == dict.fromkeys(
            SINKS, len(node.records.notes)
        )
        for count in (0, -7):
            assert (await node.alerts.list_alerts(CountRequest(count), reader()))["recent"] == []

    on_node(tmp_path, work, sinks=SINKS)


@pytest.mark.parametrize("row", [1, "x", [], {}, None, {"group": "g"}])
def test_events_of_the_listener_that_are_none_are_malformed_and_none_of_them_is_taken(
    tmp_path: pathlib.Path, row: object
) -> None:
    async def work(node: Node) -> None:
        good = StateEvent("g", "x", "RUNNING", "FATAL", 1.0).to_dict()
        for rows in ((good, row), (good,) * (MAX_EVENTS + 1)):
            with pytest.raises(Malformed):
                await node.alerts.take_events(EventsRequest(rows), operator("root", 0))
        assert node.watcher.taken == 0 and node.wakes == []
        assert await node.alerts.take_events(EventsRequest((), began=True), operator("root", 0)) == {"outcome": "taken"}
        assert node.wakes == [], "a sign of life alone wakes nobody"
        await node.alerts.take_events(EventsRequest((), lost=2), operator("root", 0))
        assert node.wakes == ["alerts"]

    on_node(tmp_path, work)


# ---- supervisor's own interface -------------------------------------------------------------------------------


def call_of(method: str, *params: Any) -> SupervisorRequest:
    return SupervisorRequest(method, params)


def test_a_call_passes_where_the_guard_says_so_and_leaves_a_line_where_it_changes_something(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.add("local", state="STOPPED")
        supervisor = node.supervisor
        assert (await supervisor.call(call_of("getState"), reader()))["outcome"] is Outcome.DONE
        assert (await supervisor.call(call_of("startProcess", "local"), reader()))["outcome"] is Outcome.REFUSED
        assert (await supervisor.call(call_of("stopProcess", "web:web"), operator()))["outcome"] is Outcome.REFUSED
        assert (await supervisor.call(call_of("shutdown"), operator("root", 0)))["outcome"] is Outcome.REFUSED
        assert node.running() == ["db", "web"] and "supervisor-call" not in node.codes()
        assert (await supervisor.call(call_of("startProcess", "local"), operator()))["outcome"] is Outcome.DONE
        assert node.told[-1]["text"] == "startProcess local" and node.told[-1]["by"] == "alice"
        fault = await supervisor.call(call_of("startProcess", "local"), operator())
        assert (fault["outcome"], fault["code"]) == (Outcome.FAULT, 60)
        node.client.problem = "refused"
        assert await supervisor.call(call_of("getState"), reader()) == {"outcome": Outcome.DOWN, "reason": "refused"}

    on_active(tmp_path, work)


def test_a_group_of_the_registry_is_added_on_the_active_node_alone_and_a_release_finds_it(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        (node.registry / "new.conf").write_text(program_conf("new"))
        reread = await node.supervisor.call(call_of("reloadConfig"), operator())
        assert reread["result"][0][0] == ["new"], "what has just been written is seen"
        assert (await node.supervisor.call(call_of("addProcessGroup", "new"), operator()))["outcome"] is Outcome.DONE
        assert "new" in node.group.loaded.names and "new" in node.running()
        node.standing.become(Role.RELEASING)
        assert (await node.supervisor.call(call_of("addProcessGroup", "web"), operator()))["outcome"] is Outcome.REFUSED

    on_active(tmp_path, work)


# ---- figures --------------------------------------------------------------------------------------------------


def test_figures_count_events_and_plans_since_the_start(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        figures = node.figures
        for code in ("takeover-failed", "takeover-failed", "stalled", "release-failed"):
            figures.hear_event({"code": code})
        for after, took in ((Role.ACTIVE, 2.0), (Role.ACTIVE, 1.0), (Role.STANDBY, 3.0), (Role.STANDBY, None)):
            figures.hear_transition(Transition(Role.TAKING_OVER, after, "", 0.0, took))
        figures.hear_transition(Transition(Role.STANDBY, Role.TAKING_OVER, "", 0.0, 9.0))
        found = figures.describe()
        assert found["plans"]["takeover"] == {"count": 2, "sum_s": 3.0, "last_s": 1.0, "failed": 2}
        assert found["plans"]["release"] == {"count": 1, "sum_s": 3.0, "last_s": 3.0, "failed": 1}
        assert found["history_events"] == {"takeover-failed": 2, "stalled": 1, "release-failed": 1}
        assert found["sizes"]["history"] == 0 and found["sizes"]["state_dir_free"] > 0
        node.events.add("x", "y")
        assert figures.describe()["sizes"]["history"] > 0
        assert found["process"]["resident"] > 1024 and found["process"]["open_fds"] > 2

    on_node(tmp_path, work)


# ---- from the peer --------------------------------------------------------------------------------------------


def test_an_epoch_in_a_ping_that_cannot_be_is_told_and_not_learnt(tmp_path: pathlib.Path) -> None:
    """The rule of `poisoned-epoch`, as whoever holds the peer's key would send it."""

    async def work(node: Node) -> None:
        known = node.group.ledger.known
        for _ in range(2):
            poison = {**node.link.summary(), "epoch": 2**62 - 1}
            assert (await node.from_peer.ping(SummaryRequest(poison), operator(uid=None)))["epoch"] == known.epoch
        assert node.group.ledger.known == known
        (told,) = [event for event in node.events.read(100) if event["code"] == "epoch-doubted"]
        assert "not believed" in told["text"]

    on_node(tmp_path, work)


def test_a_greeting_is_answered_with_signs_of_life_and_has_this_nodes_own_link_tried(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.role = Role.TAKING_OVER
        answer = await node.from_peer.hello(SummaryRequest(node.link.summary()), operator(uid=None))
        assert (answer["node"], answer["role"]) == ("a", "standby") and node.link.nudges == 1
        assert node.group.conversation.peer is not None and node.group.conversation.peer.role is Role.TAKING_OVER
        for wrong in ({**node.link.summary(), "node": "c"}, {}, {"version": 99}):
            assert (await node.from_peer.ping(SummaryRequest(wrong), operator(uid=None)))["node"] == "a"
        assert node.group.conversation.peer.node == "b" and node.link.nudges == 1

    on_node(tmp_path, work)


def test_a_standby_gives_its_word_at_once_and_a_claim_that_is_none_is_malformed(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        words: list[Message] = []
        call = operator(uid=None)
        for bad in (ReleaseRequest(-1, "b"), ReleaseRequest(2**63, "b"), ReleaseRequest(1, "b" * 64)):
            with pytest.raises(Malformed):
                await node.from_peer.release(bad, call)
        call = type(call)(call.by, None, call.access, words.append)
        answer = await node.from_peer.release(ReleaseRequest(5, "b"), call)
        assert answer == {"outcome": Outcome.RELEASED} and words == [{"heard": True, "role": "standby"}]
        assert node.group.ledger.known.epoch == 5
        node.standing.become(Role.FENCED)
        node.standing.note_left_running(2)
        answer = await node.from_peer.release(ReleaseRequest(6, "b"), call)
        assert answer == {"outcome": Outcome.LEFT_RUNNING, "left": 2} and node.group.ledger.known.epoch == 5
        node.maintenance.begin(60.0, "", "alice")
        assert await node.from_peer.release(ReleaseRequest(6, "b"), call) == {"outcome": Outcome.MAINTENANCE}

    on_node(tmp_path, work)


def test_a_transaction_that_is_none_is_answered_as_that_and_the_active_node_takes_none(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        odd: tuple[object, ...] = (None, [], {}, {"epoch": 1})
        for txn in odd:
            assert (await node.from_peer.transaction(TransactionRequest(txn), operator(uid=None)))["answer"] == "BAD"
        assert node.conf_names() == sorted(CONFS)

    on_active(tmp_path, work)


def test_whatever_is_asked_at_once_is_answered_each(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        found = await asyncio.gather(*(node.status.describe() for _ in range(5)))
        assert [one["role"] for one in found] == ["active"] * 5
        assert len(node.client.named("getAllProcessInfo")) == 1, "all who ask at once share one question"

    on_active(tmp_path, work)
