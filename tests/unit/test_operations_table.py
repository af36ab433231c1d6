"""The table of operations: who may have what, here and at the peer, and on whose behalf a call is made."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_agent.adapters.rpc import Caller
from ha_agent.core.frames import Message
from ha_agent.core.guard import READ_ONLY, Access
from ha_agent.core.requests import Malformed, NotPermitted
from ha_agent.daemon.operations.call import MAX_NAME, WEB_USER, Call, call_of_peer, call_of_user
from ha_agent.daemon.operations.table import (
    OPERATIONS,
    Dispatcher,
    Rooms,
    Who,
    find_operation,
    read_request,
    require_right,
    require_right_at_peer,
    require_right_to,
)
from tests.unit.fakes_operations import no_progress

READER, OPERATOR, ROOT = (
    Caller(1001, "bob", Access.READ),
    Caller(1000, "alice", Access.OPERATE),
    Caller(0, "root", Access.OPERATE),
)

# Name: handler, a well-formed message, who may have it here (r: reader, o: operator, 0: root), and whether a peer does it
# for one of this node's users, too.
USERS: dict[str, tuple[str, Message, str, bool]] = {
    "status": ("pair.status", {}, "ro0", False),
    "view": ("node.view", {}, "ro0", True),
    "history": ("node.history", {"count": 3}, "ro0", True),
    "journal": ("node.journal", {}, "o0", True),
    "whoami": ("views.whoami", {}, "ro0", False),
    "programs": ("views.programs", {}, "ro0", True),
    "doctor": ("node.doctor", {}, "o0", True),
    "manifest": ("pair.manifest", {}, "o0", True),
    "contents": ("node.contents", {"paths": []}, "o0", True),
    "judge": ("node.judge", {"confs": {}}, "o0", True),
    "sync": ("pair.sync", {}, "o0", False),
    "kept-list": ("kept.list_copies", {}, "ro0", True),
    "kept-read": ("kept.read_copy", {"generation": "1.0", "path": "a.conf", "sha256": ""}, "o0", True),
    "kept-prune": ("kept.prune", {}, "o0", True),
    "restore": ("kept.restore", {"generation": "1.0", "path": "a.conf", "sha256": ""}, "0", False),
    "registry-at": ("restore.show", {"at": 1.0}, "o0", False),
    "restore-at": ("restore.restore_at", {"at": 1.0}, "0", False),
    "payload-sync": ("payload.sync", {}, "o0", False),
    "settings": ("settings.show", {}, "o0", True),
    "settings-apply": ("settings.apply", {"values": {}}, "0", True),
    "maintenance": ("role.set_maintenance", {"on": False}, "o0", True),
    "hand-over": ("role.hand_over", {}, "o0", True),
    "standby": ("orders.set_standby", {"on": True}, "o0", True),
    "peer-is-off": ("orders.declare_peer_off", {"peer": "b"}, "o0", False),
    "drill-begin": ("drill.begin", {"drill": "x", "for_s": 1.0}, "o0", True),
    "drill-fault": ("drill.make_fault", {"drill": "x", "mode": "power", "hold_s": 1.0}, "o0", True),
    "drill-end": ("drill.end", {"drill": "x"}, "o0", True),
    "report-save": ("drill.save_report", {"report": {}}, "o0", False),
    "report-list": ("drill.list_reports", {}, "ro0", True),
    "alert-list": ("alerts.list_alerts", {}, "ro0", True),
    "alert-test": ("alerts.test_sinks", {}, "o0", True),
    "program-events": ("alerts.take_events", {"events": []}, "0", False),
    "supervisor": ("supervisor.call", {"method": "getState"}, "ro0", True),
    "program-stop": ("programs.stop", {"names": []}, "o0", True),
    "program-start": ("programs.start", {"names": []}, "o0", True),
    "program-restart": ("programs.restart", {"names": []}, "o0", True),
    "program-update": ("update.update", {"names": []}, "o0", False),
    "program-register": (
        "registration.register",
        {"name": "x", "directory": "/x", "text": "", "owner": "joe"},
        "o0",
        False,
    ),
    "program-deregister": ("registration.deregister", {"name": "x"}, "o0", False),
    "at-peer": ("pair.ask_peer", {"ask": {"op": "view"}}, "ro0", False),
}
PEERS: dict[str, tuple[str, Message]] = {
    "hello": ("peer.hello", {}),
    "ping": ("peer.ping", {}),
    "status": ("peer.status", {}),
    "manifest": ("peer.manifest", {}),
    "payload": ("peer.payload", {"known": "x", "mine": "y"}),
    "transaction": ("peer.transaction", {"txn": {}}),
    "payload-offer": ("payload.offer", {"epoch": 1, "claimed_by": "b", "hash": "x"}),
    "release": ("peer.release", {"epoch": 1, "claimed_by": "b"}),
    "vote": ("peer.vote", {"holder": "b", "boot": "x", "number": 1, "ttl_s": 3.0}),
    "vote-let-go": ("peer.let_go_vote", {"holder": "b", "boot": "x", "number": 1}),
}
"""What the peer's agent asks for itself."""


class FakeRoom:
    """Every method of it is a handler that notes its call."""

    def __init__(self, name: str, calls: list[tuple[str, object, Call]]) -> None:
        self._name, self._calls = name, calls

    def __getattr__(self, method: str) -> Any:
        async def handle(request: object, call: Call) -> Mapping[str, Any]:
            self._calls.append((f"{self._name}.{method}", request, call))
            return {"handled": method}

        return handle


class Desk:
    """A dispatcher whose handlers note their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object, Call]] = []
        names = (
            "node",
            "pair",
            "role",
            "orders",
            "kept",
            "restore",
            "settings",
            "drill",
            "alerts",
            "views",
            "supervisor",
            "programs",
            "update",
        )
        rooms = {name: cast(Any, FakeRoom(name, self.calls)) for name in (*names, "registration", "peer", "payload")}
        self._dispatcher = Dispatcher(Rooms(**rooms))

    def ask(self, message: Message, caller: Caller | None) -> str:
        """Which handler answered. Raises what the dispatcher raises; nothing was handled then."""
        before = len(self.calls)
        try:
            asyncio.run(self._dispatcher.answer(message, caller, no_progress))
        except (Malformed, NotPermitted):
            assert len(self.calls) == before
            raise
        assert len(self.calls) == before + 1
        return self.calls[-1][0]

    def may(self, message: Message, caller: Caller | None) -> bool:
        """Whether it is permitted."""
        try:
            self.ask(message, caller)
        except NotPermitted:
            return False
        return True


def test_every_operation_of_the_table_is_tried_here() -> None:
    assert [one.name for one in OPERATIONS if one.who is not Who.PEER] == list(USERS)
    assert [one.name for one in OPERATIONS if one.who is Who.PEER] == list(PEERS)


@pytest.mark.parametrize("name", USERS)
def test_each_user_has_what_the_table_says_and_reaches_its_handler(name: str) -> None:
    handler, fields, rights, _ = USERS[name]
    desk, message = Desk(), {"op": name, **fields}
    for letter, caller in (("r", READER), ("o", OPERATOR), ("0", ROOT)):
        if letter in rights:
            assert desk.ask(message, caller) == handler
            assert desk.calls[-1][2].access is caller.access and desk.calls[-1][2].uid == caller.uid
        else:
            with pytest.raises(NotPermitted) as refused:
                desk.ask(message, caller)
            assert str(refused.value) == (READ_ONLY if letter == "r" else f"{name}: only root may ask for this")


def test_root_without_the_right_socket_may_not_operate_either() -> None:
    """Who connects to the socket for readers may look, whoever it is."""
    assert not Desk().may({"op": "program-stop", "names": []}, Caller(0, "root", Access.READ))


@pytest.mark.parametrize("name", USERS)
def test_what_a_peer_does_for_a_user_it_does_only_with_the_right_of_that_user(name: str) -> None:
    handler, fields, rights, at_peer = USERS[name]
    desk, message = Desk(), {"op": name, **fields}
    ask = {"op": "at-peer", "ask": message}
    if not at_peer:
        for caller in (READER, OPERATOR, ROOT):
            with pytest.raises(Malformed, match="nothing to ask a peer"):
                desk.ask(ask, caller)
        if name not in PEERS:
            with pytest.raises(Malformed, match="unknown operation"):
                desk.ask({**message, "by": "alice", "access": "operate"}, None)
        return
    assert desk.may(ask, READER) == ("r" in rights)
    assert desk.may(ask, OPERATOR) == ("o" in rights) and desk.ask(ask, ROOT) == "pair.ask_peer"
    if "o" not in rights:
        for said in ({"access": "operate"}, {"access": "read", "root": True}, {"access": "operate", "root": "yes"}):
            assert not desk.may({**message, "by": "alice", **said}, None)
        assert desk.ask({**message, "by": "root", "access": "operate", "root": True}, None) == handler
        return
    if name in PEERS:
        # The peer's agent has its own operation of that name, which changes nothing.
        handler = PEERS[name][0]
    else:
        assert desk.may({**message, "by": "bob", "access": "read"}, None) == ("r" in rights)
    assert desk.ask({**message, "by": "alice", "access": "operate"}, None) == handler
    assert desk.calls[-1][2].by == "alice" and desk.calls[-1][2].from_peer


@pytest.mark.parametrize("name", PEERS)
def test_the_peers_agent_has_its_own_operations_and_no_user_has_them(name: str) -> None:
    handler, fields = PEERS[name]
    desk, message = Desk(), {"op": name, **fields}
    assert desk.ask(message, None) == handler
    for caller in (READER, OPERATOR, ROOT):
        if name in USERS:
            assert desk.may(message, caller) == (caller is not READER or "r" in USERS[name][2])
        else:
            with pytest.raises(Malformed, match="unknown operation"):
                desk.ask(message, caller)
    peers = {handler for handler, _ in PEERS.values()}
    assert [call[0] for call in desk.calls if call[0] in peers] == [handler]


@pytest.mark.parametrize("name", [None, 3, [], {}, "", "shutdown", "STATUS", "x" * 10_000])
def test_a_name_that_is_none_is_malformed(name: object) -> None:
    for caller in (ROOT, None):
        with pytest.raises(Malformed) as refused:
            Desk().ask({"op": name}, caller)
        assert len(str(refused.value)) < 120


def test_a_malformed_request_names_its_operation_and_a_right_that_is_lacking_comes_first() -> None:
    with pytest.raises(Malformed, match="program-stop: names is missing"):
        Desk().ask({"op": "program-stop"}, OPERATOR)
    with pytest.raises(NotPermitted):
        Desk().ask({"op": "program-stop"}, READER)


@pytest.mark.parametrize("op", [None, 7, [], "at-peer", "hello", "transaction", "release", "nothing"])
def test_nothing_but_an_operation_of_users_is_handed_on_to_the_peer(op: object) -> None:
    call = call_of_user({}, ROOT, no_progress)
    with pytest.raises(Malformed):
        require_right_at_peer({"op": op}, call)


MESSAGES = st.fixed_dictionaries(
    {"op": st.sampled_from([*USERS, *PEERS, "x", 1])},
    optional={
        "access": st.sampled_from(["read", "operate", "root", 1, [], None]),
        "by": st.sampled_from(["x", 1, None]),
        "sudo_user": st.just("root"),
        "on_behalf": st.just("root"),
        "names": st.just([]),
        "ask": st.fixed_dictionaries({"op": st.sampled_from([*USERS, *PEERS])}),
    },
)


@settings(max_examples=60, deadline=None)
@given(MESSAGES, st.sampled_from([READER, None]))
def test_whatever_a_message_says_of_itself_a_reader_changes_nothing(message: Message, caller: Caller | None) -> None:
    """A message may claim rights or another name: what the kernel or the peer says counts alone."""
    desk, name = Desk(), message["op"]
    try:
        handler = desk.ask(message, caller)
    except (Malformed, NotPermitted):
        return
    if caller is READER:
        assert handler == USERS[name][0] and "r" in USERS[name][2]
        assert desk.calls[0][2] == Call("bob", 1001, Access.READ, no_progress)
        if name == "at-peer":
            assert "r" in USERS[message["ask"]["op"]][2]
    elif name not in PEERS:
        assert "r" in USERS[name][2] or message.get("access", "operate") == "operate"


def test_an_operation_that_is_found_is_the_one_of_that_name() -> None:
    for one in OPERATIONS:
        assert find_operation(one.name, from_peer=one.who is Who.PEER) is one
        message = (PEERS[one.name] if one.who is Who.PEER else USERS[one.name])[1]
        call = call_of_user({}, ROOT, no_progress)
        require_right(one, call)
        require_right_to(read_request(one, message), one, call)


def test_the_journal_of_another_unit_takes_root_here_or_root_there() -> None:
    desk = Desk()
    other: Message = {"op": "journal", "unit": "keepalived"}
    assert desk.ask(other, ROOT) == "node.journal"
    for message in (other, {"op": "at-peer", "ask": other}):
        with pytest.raises(NotPermitted):
            desk.ask(message, OPERATOR)
    assert desk.may({**other, "by": "root", "access": "operate", "root": True}, None)
    assert not desk.may({**other, "by": "alice", "access": "operate"}, None)


@pytest.mark.parametrize("fault", [{"mode": "power", "really": True}, {"mode": "partition"}, {"mode": "witness-cut"}])
def test_a_fault_that_the_settings_do_not_allow_and_a_cut_take_root_here_or_root_there(fault: Message) -> None:
    desk = Desk()
    really: Message = {"op": "drill-fault", "drill": "x", "hold_s": 1.0, **fault}
    assert desk.ask(really, ROOT) == "drill.make_fault"
    for caller in (OPERATOR, READER):
        with pytest.raises(NotPermitted):
            desk.ask(really, caller)
        with pytest.raises(NotPermitted):
            desk.ask({"op": "at-peer", "ask": really}, caller)
    assert desk.ask({"op": "at-peer", "ask": really}, ROOT) == "pair.ask_peer"
    assert desk.ask({**really, "by": "root", "access": "operate", "root": True}, None) == "drill.make_fault"
    for claimed in ({}, {"root": 1}, {"root": "true"}):
        with pytest.raises(NotPermitted):
            desk.ask({**really, "by": "alice", "access": "operate", **claimed}, None)
    assert not call_of_user({"root": True}, OPERATOR, no_progress).is_root, "a user's message says nothing of rights"


def test_the_page_on_authority_goes_through_every_operation_and_no_other() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "authority.md").read_text()
    rows = [line.split(" | ") for line in page.partition("## Other code")[0].splitlines() if line.startswith("| `")]
    told = {name: row[1] for row in rows for name in row[0].strip("| `").split("` `")}
    assert set(told) == {one.name for one in OPERATIONS}
    words = {Who.READER: "reader", Who.OPERATOR: "operator", Who.ROOT: "root", Who.PEER: "the peer's agent"}
    for one in OPERATIONS:
        if (one.name, one.who) not in {("status", Who.PEER), ("manifest", Who.PEER)}:
            assert told[one.name].startswith(words[one.who]), one.name


# ---- on whose behalf ------------------------------------------------------------------------------------------


def by_of(message: Message, caller: Caller) -> str:
    return call_of_user(message, caller, no_progress).by


def test_what_a_message_says_of_its_user_counts_only_where_root_or_the_dashboard_says_it() -> None:
    web = Caller(990, WEB_USER, Access.OPERATE)
    assert by_of({}, OPERATOR) == "alice"
    assert by_of({"sudo_user": "joe", "on_behalf": "ann"}, OPERATOR) == "alice"
    assert by_of({"sudo_user": "joe"}, ROOT) == "joe (sudo)"
    assert by_of({"sudo_user": "joe"}, web) == WEB_USER
    assert by_of({"on_behalf": "ann"}, web) == by_of({"on_behalf": "ann"}, ROOT) == "ann (web)"
    assert by_of({"on_behalf": 7, "sudo_user": []}, ROOT) == "root"


@pytest.mark.parametrize("name", ["x" * length for length in (1, 56, 57, 58, 59, 60, 63, 64, 65, 500)], ids=len)
def test_a_name_of_any_length_says_how_it_came(name: str) -> None:
    web = Caller(990, WEB_USER, Access.OPERATE)
    for by, mark in ((by_of({"on_behalf": name}, web), " (web)"), (by_of({"sudo_user": name}, ROOT), " (sudo)")):
        assert by.endswith(mark) and len(by) <= MAX_NAME and name.startswith(by.removesuffix(mark))


def test_the_peers_agent_says_for_whom_it_asks_and_an_unknown_right_is_that_of_a_reader() -> None:
    own = call_of_peer({}, no_progress)
    assert own == Call("?", None, Access.OPERATE, no_progress, root_there=True) and own.from_peer
    assert call_of_peer({"by": "x" * 100, "access": "read"}, no_progress) == Call("x" * 64, None, Access.READ, no_progress)
    odd: tuple[object, ...] = ("all", "", None, 1, [], {})
    for access in odd:
        assert call_of_peer({"access": access}, no_progress).access is Access.READ
