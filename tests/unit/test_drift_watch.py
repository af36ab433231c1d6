"""The comparison of files in a running node: looks, questions to the peer, and what status, alerts and history say of it."""

from __future__ import annotations

import asyncio
import pathlib
import re
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from ha_agent.adapters.payload_looker import LookFailed, Wanted
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.status_screen import render_status
from ha_agent.cli.doctor.context import Context, run_checks
from ha_agent.cli.doctor.payload import CHECKS
from ha_agent.core.account import DriftAccount, NodeAccount
from ha_agent.core.account_json import describe_account, describe_drift
from ha_agent.core.conditions import find_conditions
from ha_agent.core.confs import Program, Run, Verdict
from ha_agent.core.drift import Drift, Reason
from ha_agent.core.findings import Severity
from ha_agent.core.guard import Access
from ha_agent.core.payload import Kind, Mark, Named, Payload, ProgramPayload, payload_message
from ha_agent.core.payload_words import Part
from ha_agent.core.problems import Rank, find_problems
from ha_agent.core.requests import PayloadRequest, Request
from ha_agent.core.settings import check_settings
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.drift.watch import EVERY_S, NoDrift
from ha_agent.daemon.operations.node import describe_verdict
from ha_agent.web.metrics import describe_payload
from ha_agent.web.render import Words, render
from tests.unit.fakes_operations import Node, on_node, operator, program_conf, reader
from tests.unit.test_settings import GOOD

GW = "/usr/local/bin/gateway"
CONFS = {
    "gateway.conf": program_conf("gateway", "; ha-agent: files=/opt/gateway/gateway.toml"),
    "web.conf": program_conf("web"),
}
DIFFERS = f"b would start another build of gateway: {GW} differs"


def payload(digest: str) -> Payload:
    program = ProgramPayload("c", (Named(Part.BINARY, "gateway", GW),))
    return Payload({"gateway": program}, {GW: Mark(Kind.FILE, digest, 1, 1, 999_000.0, 0o755, "root")})


def told(of: Payload, **more: object) -> dict[str, object]:
    """The peer's answer."""
    return {"off": False, "hash": of.hash, "payload": payload_message(of), "problem": None, "pending": False, **more}


def on_active(base: pathlib.Path, work: Callable[[Node], Awaitable[None]]) -> None:
    on_node(base, work, confs=CONFS, active=True)


async def compare(node: Node, own: Payload | None, answer: object) -> DriftAccount:
    """The account after one look and one question that the peer answers so."""
    if own is not None:
        node.looker.payload = own
    node.link.answers["payload"] = answer  # type: ignore[assignment]
    node.clock.now += EVERY_S
    await node.drift.step()
    account = node.drift.describe()
    assert account is not None
    return account


def test_what_is_looked_at_is_what_the_loadable_confs_name(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await compare(node, Payload(), told(Payload()))
        entry = node.group.view.manifest.find("gateway.conf")
        assert entry is not None and node.looker.wanted.keys() == {"gateway", "web"}
        runs = [("/bin/sleep 1000", "/opt", ("/bin",), None)]
        assert node.looker.wanted["gateway"] == Wanted(entry.sha256, runs, ("/opt/gateway/gateway.toml",))

    on_active(tmp_path, work)


def test_a_difference_is_told_once_and_its_end_as_well(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        account = await compare(node, payload("1"), told(payload("2")))
        assert [drift.say(account.starter, account.other) for drift in account.drifts] == [DIFFERS]
        node.link.asked.clear()
        await compare(node, None, told(payload("2")))
        assert node.link.asked == [{"op": "payload", "known": payload("2").hash, "mine": payload("1").hash}]
        assert [(event["code"], event["text"]) for event in node.told if "payload" in event["code"]] == [
            ("payload-differs", DIFFERS)
        ]
        account = await compare(node, payload("2"), {**told(payload("2")), "payload": None})
        assert account.drifts == () and account.problem is None
        (end,) = [event for event in node.told if event["code"] == "payload-equal"]
        assert end["text"] == "the same on both nodes: 1 file of 1 program"

    on_active(tmp_path, work)


@pytest.mark.parametrize(
    ("answer", "state", "why"),
    [
        (RemoteError("unknown operation 'payload'"), "unknown", "b has an agent that cannot compare yet"),
        (RemoteError("it broke"), "unknown", "b: it broke"),
        ({"off": True, "hash": "", "payload": None, "problem": None}, "unknown", "b does not compare: payload.compare is"),
        (told(payload("1"), payload={"programs": 1}), "unknown", "b: a payload is not of this form"),
        (told(payload("1"), payload=None, problem="a disk hangs"), "unknown", "b: a disk hangs"),
        (told(payload("1"), payload=None, problem="not yet", pending=True), "pending", "b: not yet"),
        (Disconnected("it is gone"), "pending", "b did not answer: it is gone"),
    ],
)  # fmt: skip
def test_a_peer_that_cannot_tell_leaves_it_unknown_and_says_why(
    tmp_path: pathlib.Path, answer: object, state: str, why: str
) -> None:
    async def work(node: Node) -> None:
        said = describe_drift(await compare(node, payload("1"), answer))
        assert said is not None and (said["state"], said["drifts"]) == (state, [])
        assert str(said["problem"]).startswith(why)
        assert node.drift.say_by_program() == {}
        # It is asked again, and what was not known then is known.
        said = describe_drift(await compare(node, None, told(payload("2"))))
        assert said is not None and said["state"] == "differs"

    on_active(tmp_path, work)


def test_a_peer_that_tells_its_files_before_this_node_has_looked_leaves_it_pending(tmp_path: pathlib.Path) -> None:
    """As just after a start of both: doctor must not call that unknown."""

    async def work(node: Node) -> None:
        node.link.answers["payload"] = told(payload("2"))
        answer = await node.from_peer.payload(PayloadRequest("", payload("2").hash), operator())
        assert answer["pending"]
        await node.drift.step()
        assert [asked["op"] for asked in node.link.asked] == ["payload"], "it asks, and does not look yet"
        said = describe_drift(node.drift.describe())
        assert said is not None and said["state"] == "pending"

    on_active(tmp_path, work)


def test_files_that_cannot_be_looked_at_are_told_to_the_peer(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.looker.failure = LookFailed("the disk did not answer")
        account = await compare(node, None, told(payload("2")))
        assert account.problem == "the disk did not answer" and not account.is_pending
        answer = await node.from_peer.payload(PayloadRequest("", ""), operator())
        assert (answer["payload"], answer["problem"]) == (None, "the disk did not answer")

    on_active(tmp_path, work)


def test_the_peer_is_told_what_it_does_not_know_and_asked_for_what_is_new(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        early = await node.from_peer.payload(PayloadRequest("", ""), operator())
        assert early["pending"] and early["payload"] is None
        await compare(node, payload("1"), told(payload("1")))
        answer = await node.from_peer.payload(PayloadRequest("older", payload("1").hash), operator())
        assert answer["payload"] == payload_message(payload("1")) and not answer["pending"]
        known = await node.from_peer.payload(PayloadRequest(payload("1").hash, payload("1").hash), operator())
        assert known["payload"] is None and known["hash"] == payload("1").hash
        node.link.asked.clear()
        await node.drift.step()
        assert node.link.asked == [], "nobody has said anything new, and no look is due"
        await node.from_peer.payload(PayloadRequest(payload("1").hash, "another"), operator())
        node.link.answers["payload"] = told(payload("2"))
        await node.drift.step()
        account = node.drift.describe()
        assert account is not None and len(account.drifts) == 1

    on_active(tmp_path, work)


def test_two_agents_that_do_not_understand_each_other_do_not_ask_without_end(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await compare(node, payload("1"), {**told(payload("2")), "payload": {}})
        node.link.asked.clear()
        await node.from_peer.payload(PayloadRequest("", payload("2").hash), operator())
        await node.drift.step()
        assert node.link.asked == []

    on_active(tmp_path, work)


def test_a_registry_that_changes_all_the_time_is_not_looked_at_all_the_time(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.answers["payload"] = told(payload("1"))
        looks = 0
        for _ in range(60):
            node.clock.now += 1.0
            node.drift.wake()
            node.looker.wanted = {}
            await node.drift.step()
            looks += bool(node.looker.wanted)
        assert looks == 6

    on_active(tmp_path, work)


def test_a_standby_knows_that_it_is_the_one_and_tells_no_history(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.standing.become(Role.STANDBY)
        account = await compare(node, payload("1"), told(payload("2")))
        assert (account.starter, account.other, len(account.drifts)) == ("a", "b", 1)
        assert "payload-differs" not in node.codes()

    on_active(tmp_path, work)


def test_the_row_of_a_program_says_in_what_it_differs(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        await compare(node, payload("1"), told(payload("2")))
        view: Mapping[str, Any] = await node.operations.view(Request(), reader())
        assert {row["name"]: row.get("differs") for row in view["programs"]} == {"gateway": DIFFERS, "web": None}

    on_active(tmp_path, work)


def test_a_node_that_does_not_compare_says_so() -> None:
    none = NoDrift()
    assert asyncio.run(none.answer("", ""))["off"] and none.works() == [] and none.describe() is None
    assert describe_drift(None) is None and none.say_by_program() == {}


# ---- faces ------------------------------------------------------------------------------------------------------


def account_of(role: Role, drift: DriftAccount | None) -> NodeAccount:
    vrrp = VrrpState.MASTER if role is Role.ACTIVE else VrrpState.BACKUP
    name, peer = ("a", "b") if role is Role.ACTIVE else ("b", "a")
    return NodeAccount(name, peer, 1_000_000.0, role, vrrp, role is Role.ACTIVE, drift=drift)


def drift_of(*reasons: Reason, **more: Any) -> DriftAccount:
    return DriftAccount(None, 1.0, 2, 3, (Drift(("gateway", "web"), reasons),), "b", "a", **more)


BUILD = Reason("differs", GW, f"{GW} differs", "a", 1_000_000.0 - 7200, is_build=True)
USER = Reason("user", "svc", "its user svc has uid 1001 on a and 1002 on b")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (BUILD, f"b would start another build of gateway, web: {GW} differs (changed on a 2 h ago)"),
        (USER, "b would start gateway, web otherwise than a: its user svc has uid 1001 on a and 1002 on b"),
    ],
)
def test_both_nodes_know_it_and_it_is_one_problem_and_one_alert(reason: Reason, text: str) -> None:
    accounts = [account_of(Role.ACTIVE, drift_of(reason)), account_of(Role.STANDBY, drift_of(reason))]
    problems = find_problems([describe_account(one, "up", ()) for one in accounts], 1_000_000.0)
    assert [(p.code, p.text) for p in problems if p.code == "payload-differs"] == [("payload-differs", text)]
    # It is no matter of replication, which "ha-agent check replication" asks about, and keeps nobody from taking over.
    assert {p.rank for p in problems if p.code == "payload-differs"} == {Rank.PROGRAM}
    alerts = [c for one in accounts for c in find_conditions(one) if c.code == "payload-differs"]
    assert [(c.subject, c.text) for c in alerts] == [("gateway, web", text.partition(" (changed")[0])]


def test_what_is_not_known_is_no_problem_and_no_alert() -> None:
    for problem in ("b cannot be reached", "b has an agent that cannot compare yet"):
        account = account_of(Role.ACTIVE, DriftAccount(problem))
        assert [c for c in find_conditions(account) if c.code == "payload-differs"] == []
        assert describe_account(account, "up", ())["payload"]["state"] == "unknown"  # type: ignore[index]


def test_the_screen_says_it_of_the_standbys_readiness() -> None:
    accounts = [account_of(Role.ACTIVE, drift_of(BUILD)), account_of(Role.STANDBY, drift_of(BUILD))]
    shown = render_status([describe_account(one, "up", ()) for one in accounts], 1_000_000.0)
    assert re.search(r"readiness +0 of 0 confs loadable +0 of 0 confs loadable, files of 2 programs differ", shown), shown


class Told(Context):
    """The doctor of a pair that said this of itself."""

    nodes: tuple[Any, ...] = ()

    def status(self) -> tuple[list[Any], str | None]:
        return list(self.nodes), None


def examine(drift: DriftAccount | None, peer: Mapping[str, Any] | None = None) -> list[tuple[str, Severity, str]]:
    """What doctor finds at the active node."""
    text = GOOD.replace('"node-a"', '"a"').replace('"node-b"', '"b"')
    context = Told(check_settings(tomllib.loads(text)), "/nonexistent")
    own = describe_account(account_of(Role.ACTIVE, drift), "up", ())
    context.nodes = (own, peer or describe_account(account_of(Role.STANDBY, drift), "up", ()))
    return [(f.code, f.severity, f.text) for f in run_checks(CHECKS, context)]


def test_doctor_says_that_they_are_the_same_or_why_that_is_not_known() -> None:
    same = DriftAccount(None, 1.0, 2, 3, remarks=("b: /x: it changes while it is read",))
    text = "the same on both nodes: 3 files of 2 programs (not compared: b: /x: it changes while it is read)"
    assert examine(same) == [("payload", Severity.OK, text)]
    ((code, severity, text),) = examine(DriftAccount("b has an agent that cannot compare yet"))
    assert (code, severity) == ("payload", Severity.UNKNOWN) and text.endswith("b has an agent that cannot compare yet")
    assert examine(DriftAccount("b cannot be reached", is_pending=True)) == [] == examine(None)
    assert examine(same, {"name": "b", "reachable": False}) == []
    # Among the pair's problems, which doctor shows, too.
    assert examine(drift_of(BUILD)) == []


def test_metrics_count_programs_and_have_no_value_of_what_is_not_known() -> None:
    def figures(drift: DriftAccount | None) -> dict[str, float]:
        families = describe_payload(describe_account(account_of(Role.ACTIVE, drift), "up", ()))
        return {family.name: family.samples[0].value for family in families}

    names = ("ha_agent_payload_known", "ha_agent_payload_differing_programs", "ha_agent_payload_compared_files")
    assert figures(drift_of(BUILD)) == dict(zip(names, (1, 2, 3), strict=True))
    assert figures(DriftAccount("unknown")) == {names[0]: 0} and figures(None) == {}


def test_the_dashboard_marks_the_row_of_the_program() -> None:
    row = {"name": "gateway", "group": "gateway", "kind": "registry", "state": "RUNNING", "pid": 1, "since": 1}
    row |= {"problem": None, "there": {"state": "ready", "why": ""}}
    holder = {"name": "a", "other": "b", "is_old": False, "at": 1.0, "count": 1, "groups": [("gateway", [row])]}
    words = Words("zh", "", Access.READ, "", 1000.0)
    pair = {"name": "p", "holders": [holder], "active": "a"}
    assert "≠" not in render("_programs.html", words, pair=pair)
    row["differs"] = DIFFERS
    page = render("_programs.html", words, pair=pair)
    assert "≠ 与另一节点不同" in page and DIFFERS in page


def test_what_would_be_run_is_in_no_answer_and_in_no_message() -> None:
    """A command may hold what %(ENV_x)s stands for: a password of supervisord's environment."""
    verdict = Verdict(None, (Program("gateway", ("gateway",), runs=(Run("/bin/x secret-word", "/", ("/bin",)),)),))
    assert "secret-word" not in repr(verdict) and "secret-word" not in repr(describe_verdict(verdict))
