"""What is known of pairs: each node is asked by a task of its own, so that a node that hangs never delays another.

Owns the last view of every node with its age. ``LocalPair`` asks the agent of this machine, and its peer through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ha_agent.core.frames import MOST_SECONDS
from ha_agent.core.history import merge_events
from ha_agent.core.node_json import NodeAccountJson, NodeJson, SilentNodeJson
from ha_agent.core.problems import Problem, find_problems
from ha_agent.core.program_texts import missing_on_peer, stop_lines
from ha_agent.core.supervisor_words import FaultCode, full_name
from ha_agent.core.words import CommandOutcome, Outcome
from ha_agent.web import confs, logs
from ha_agent.web.agent_client import AgentClient, AgentRefused, AgentSilent
from ha_agent.web.logs import LogPart, LogRefused
from ha_agent.web.strip import SPAN_S, is_change
from ha_agent.web.usage import UsageBook

T = TypeVar("T")

VIEW_S = 3.0
PEER_S = 2.0
ACT_S = 120.0
CONF_S = 15.0
HAND_OVER_S = 40.0
REFRESH_S = 3.0
UNWATCHED = 5
"""How many times less often a node is asked when nobody watches."""

WATCHED_S = 15.0
"""For how long after a request somebody counts as watching."""

LOOKS_AT_ONCE, ACTS_AT_ONCE = 6, 4
EVENTS = 60
MOST_CHANGES = 500
EVENT_TEXTS = ("node", "code", "text")
ACTIONS = ("start", "stop", "restart")


class PairUnreachable(Exception):
    """Nobody could be asked; the text says who and why."""


class PairUnreadable(PairUnreachable):
    """Somebody answered, and nobody can use that; the text says who, and how it fails."""


class PairRefused(Exception):
    """The question was refused; the text says why."""


@contextlib.contextmanager
def reading(who: str) -> Iterator[None]:
    """What the answer of ``who`` breaks within becomes ``PairUnreadable``.

    It must end no follower, and spoil no page of another pair.
    """
    try:
        yield
    except (PairUnreachable, PairRefused):
        raise
    except Exception as error:  # noqa: BLE001 the border to what others send: there is no list of what that can break
        raise PairUnreadable(f"the answer of {who} cannot be read ({type(error).__name__})") from None


@dataclass(slots=True)
class Sight:
    """What is known of one node. ``view`` is its last own account, ``at`` when that came (wall clock), None for never."""

    name: str
    view: Mapping[str, Any] | None = None
    at: float | None = None
    problem: str | None = None
    news: str = ""
    """A digest of those parts of the view that are worth showing again."""

    @property
    def node(self) -> Mapping[str, Any] | None:
        """Its entry of ``ha-agent status --json``, as it last was."""
        return self.view["node"] if self.view else None

    def current(self) -> NodeJson:
        """The entry as it is judged: a node that does not answer now is not reachable, whatever it said before."""
        if self.problem is None and self.view is not None:
            account: NodeAccountJson = self.view["node"]
            return account
        problem = self.problem or "not asked yet"
        silent: SilentNodeJson = {"name": self.name, "reachable": False, "problem": problem}
        silent["heard_at"] = silent["since"] = self.at
        if last := self.node:
            silent["role"], silent["vrrp_state"] = last["role"], last["vrrp_state"]
            silent["epoch"], silent["generation"] = last["epoch"], last["generation"]
        return silent


@dataclass(frozen=True, slots=True)
class Result:
    """How an action ended: ``done``, ``incomplete``, ``refused``, ``failed`` or ``unreachable``; and what is to be said."""

    outcome: str
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Known:
    """Everything that is known of a pair."""

    sights: list[Sight] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    changes: list[Mapping[str, Any]] = field(default_factory=list)
    """The changes of role of the last day, oldest first."""
    changes_from: float | None = None
    """Since when they are known: events that are older were never read. None until any were."""


class Pair(ABC):
    """One pair. ``version`` counts up with every change of what is known; ``run`` works until cancelled.

    ``try_out`` does with a pair what every page does; what it cannot be done with is not learned.
    """

    def __init__(self, name: str, poll_s: float, try_out: Callable[[Pair], None]) -> None:
        self.name = name
        self._try_out = try_out
        self.known = Known()
        self.usage = UsageBook()
        self.version = 0
        self._poll_s = poll_s
        self._changed = asyncio.Event()
        self._asked_mono = -WATCHED_S
        self._poke = asyncio.Event()

    @abstractmethod
    async def run(self) -> None:
        """Keeps what is known current."""

    @abstractmethod
    async def refresh(self) -> None:
        """Asks every node anew, ``REFRESH_S`` at most: what is known may be older than what somebody has just done."""

    @abstractmethod
    async def act(self, action: str, programs: Sequence[str], by: str) -> Result:
        """Starts, stops or restarts programs on the active node, as ``supzcli`` does; what came of it is known after it."""

    @abstractmethod
    async def switch_over(self, by: str) -> Result:
        """Begins a switchover; its progress shows in what is known."""

    @abstractmethod
    async def read_log(self, node: str, program: str, stream: str, after: int | None = None) -> LogPart:
        """The end of a program's log; with ``after`` what came since it had so many bytes.

        Raises ``PairUnreachable`` and ``PairRefused``.
        """

    @abstractmethod
    async def read_log_piece(self, node: str, program: str, stream: str, begin: int) -> LogPart:
        """What stands in a log at ``begin``; an empty text at its end. Raises as ``read_log``."""

    @abstractmethod
    async def read_conf(self, path: str, by: str) -> dict[str, Any]:
        """A conf as both nodes have it (``confs.read_conf``). Raises ``PairUnreachable`` and ``PairRefused``."""

    @abstractmethod
    async def read_kept(self, node: str, copy: Mapping[str, str], by: str) -> str | None:
        """The text of a kept copy of ``node``, None where it is gone. Raises ``PairUnreachable`` and ``PairRefused``."""

    @abstractmethod
    async def set_maintenance(self, for_s: float, reason: str, by: str) -> Result:
        """Begins a maintenance of both nodes for ``for_s`` seconds; ends it where that is 0."""

    @abstractmethod
    async def test_alerts(self, sink: str, by: str) -> Result:
        """Has both nodes deliver a test to ``sink``, or to every sink where it is empty."""

    @abstractmethod
    async def read_reports(self, count: int) -> list[Mapping[str, Any]]:
        """The newest reports of failover-tests of both nodes, oldest first. Raises ``PairUnreachable``."""

    @abstractmethod
    async def read_history(self, count: int) -> list[Mapping[str, Any]]:
        """The newest events of both nodes, oldest first. Raises ``PairUnreachable``."""

    def find_active(self) -> Sight | None:
        """The node that is active and answers; None where there is none, or two."""
        active = [s for s in self.known.sights if s.problem is None and s.node and s.node["role"] == "active"]
        return active[0] if len(active) == 1 else None

    def watch(self) -> None:
        """Notes that somebody is looking."""
        idle = asyncio.get_running_loop().time() - self._asked_mono >= WATCHED_S
        self._asked_mono = asyncio.get_running_loop().time()
        if idle:
            self._poke.set()
            self._poke = asyncio.Event()

    async def wait_change(self, version: int, timeout_s: float) -> None:
        """Returns when more is known than ``version``, and after ``timeout_s`` in any case."""
        if self.version == version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()

    def _learned(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _keep_changes(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the changes of role among ``events``, those of the last day."""
        since = time.time() - SPAN_S
        if self.known.changes_from is None and events:
            # Fewer than were asked for are all that there are.
            self.known.changes_from = float(events[0]["at"]) if len(events) >= EVENTS else 0.0
        slim = [{key: e[key] for key in ("at", "node", "from", "to")} for e in events if is_change(e)]
        self.known.changes = [e for e in merge_events(self.known.changes, slim) if float(e["at"]) >= since][-MOST_CHANGES:]

    async def _pause(self) -> None:
        loop, poke = asyncio.get_running_loop(), self._poke
        watched = loop.time() - self._asked_mono < WATCHED_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s * (1 if watched else UNWATCHED)):
                await poke.wait()

    def _learn(self, sight: Sight, view: Mapping[str, Any] | None, at: float | None, problem: str | None) -> None:
        """Takes in an answer, or its absence; wakes the waiting pages where that is news.

        Raises ``PairUnreadable`` for a view that no page could show; what was known stays.
        """
        before = sight.news, sight.problem
        if view is not None:
            with reading(sight.name):
                news = _news_of(view)
                if news != sight.news:
                    self._try_view(sight, replace(sight, view=view, at=at, problem=problem))
                self.usage.feed(sight.name, view["programs"])
            sight.view, sight.at, sight.news = view, at, news
        sight.problem = problem
        if (sight.news, sight.problem) != before:
            self._learned()

    def _try_view(self, sight: Sight, fresh: Sight) -> None:
        trial = copy.copy(self)
        sights = [fresh if one is sight else one for one in self.known.sights]
        trial.known = Known(sights, self.known.events, self.known.changes, self.known.changes_from)
        self._try_out(trial)


def _news_of(view: Mapping[str, Any]) -> str:
    """A digest of those parts of a view that are worth showing again: not the time of the answer, and no figures."""
    node = {key: value for key, value in view["node"].items() if key != "at"}
    if votes := node.get("votes"):
        # The page counts on by itself for how long the witness has been silent, and does not show what is left.
        node["votes"] = {**votes, "left_s": None, "witness_silent_s": votes["witness_silent_s"] is not None}
    alerts = {key: value for key, value in view["alerts"].items() if key != "at"}
    view["figures"]["started"], view["figures"]["history_events"]
    programs = [{key: value for key, value in row.items() if key != "usage"} for row in view["programs"]]
    return hashlib.sha256(json.dumps([node, programs, alerts], sort_keys=True).encode()).hexdigest()


class LocalPair(Pair):
    """The pair that the agent of this machine belongs to."""

    def __init__(self, name: str, run_dir: str, poll_s: float, try_out: Callable[[Pair], None]) -> None:
        super().__init__(name, poll_s, try_out)
        # What takes long must not keep those waiting who only look.
        self._client, self._doer = AgentClient(run_dir, LOOKS_AT_ONCE), AgentClient(run_dir, ACTS_AT_ONCE)
        self._asking: asyncio.Future[Mapping[str, Any]] | None = None
        self._asking_role: asyncio.Future[str] | None = None
        # One question a node at a time, so that no answer is followed by one that was asked for before it.
        self._own_turn, self._peer_turn = asyncio.Lock(), asyncio.Lock()
        self._own, self._peer = Sight("?"), Sight("?")
        self.known.sights = [self._own, self._peer]
        self._events_seen: object = None

    async def run(self) -> None:
        """Keeps what is known current: each node, and the history, by a task of its own."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_own())
            group.create_task(self._follow_peer())
            group.create_task(self._follow_history())

    async def ask_own(self) -> Mapping[str, Any]:
        """The view of this node as it is now; requests at the same time share one question. Raises ``PairUnreachable``."""
        if self._asking is None or self._asking.done():
            self._asking = _asked(self._ask_view())
        return await asyncio.shield(self._asking)

    async def refresh(self) -> None:
        """Asks both nodes at once; one that does not answer keeps what it last said."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await asyncio.gather(self._ask_view(), self._look_at_peer(), return_exceptions=True)

    async def _ask_view(self) -> Mapping[str, Any]:
        async with self._own_turn:
            return await self._ask_view_now()

    async def _ask_view_now(self) -> Mapping[str, Any]:
        try:
            view = await self._client.ask({"op": "view"}, VIEW_S)
        except (AgentSilent, AgentRefused) as error:
            self._learn(self._own, None, None, str(error))
            raise PairUnreachable(str(error)) from None
        try:
            self._learn(self._own, view, time.time(), None)
        except PairUnreadable as error:
            self._learn(self._own, None, None, str(error))
            raise
        self._own.name = str(view["node"]["name"])
        return view

    async def ask_role(self) -> str:
        """The role of this machine's node as it is now, of one question at a time. Raises ``PairUnreachable``.

        supervisord is not asked.
        """
        if self._asking_role is None or self._asking_role.done():
            self._asking_role = _asked(self._ask_role())
        return await asyncio.shield(self._asking_role)

    async def _ask_role(self) -> str:
        try:
            with reading("the agent"):
                return str((await self._client.ask({"op": "whoami"}, VIEW_S))["role"])
        except (AgentSilent, AgentRefused) as error:
            raise PairUnreachable(str(error)) from None

    def judge(self, now: float) -> list[Problem] | None:
        """What is wrong with the pair at ``now``, wall clock seconds; None until both nodes were asked."""
        if any(sight.view is None and sight.problem is None for sight in self.known.sights):
            return None
        return find_problems([sight.current() for sight in self.known.sights], now)

    @property
    def own(self) -> Sight:
        """The node of this machine."""
        return self._own

    async def _follow_own(self) -> None:
        while True:
            with contextlib.suppress(PairUnreachable):
                if self._peer.name == "?":
                    await self._name_peer()
                await self.ask_own()
            await self._pause()

    async def _name_peer(self) -> None:
        with contextlib.suppress(AgentSilent, AgentRefused, PairUnreadable), reading("the agent"):
            self._peer.name = str((await self._client.ask({"op": "whoami"}, VIEW_S))["peer"])

    async def _follow_peer(self) -> None:
        while True:
            await self._look_at_peer()
            await self._pause()

    async def _look_at_peer(self) -> None:
        async with self._peer_turn:
            try:
                view = await self._ask_peer({"op": "view"}, PEER_S)
                self._learn(self._peer, view, time.time(), None)
            except (PairUnreachable, PairRefused) as error:
                self._learn(self._peer, None, None, str(error))

    async def _ask_peer(
        self, message: Mapping[str, Any], timeout_s: float, by: str | None = None, *, raw: bool = False
    ) -> dict[str, Any]:
        wrapped = {"op": "at-peer", "ask": dict(message), "timeout_s": timeout_s}
        try:
            answer = await self._for(by).ask(wrapped, timeout_s + 1.0, by, raw=raw)
        except AgentSilent as error:
            raise PairUnreachable(str(error)) from None
        except AgentRefused as error:
            raise PairRefused(str(error)) from None
        with reading(self._peer.name):
            if answer["outcome"] == Outcome.ANSWERED:
                return dict(answer["answer"])
            reason = str(answer.get("reason") or "no connection to it")
            if answer["outcome"] == Outcome.FAILED:
                raise PairRefused(reason)
            raise PairUnreachable(reason)

    def _for(self, by: str | None) -> AgentClient:
        return self._client if by is None else self._doer

    async def _ask(
        self, node: str, message: Mapping[str, Any], timeout_s: float, by: str | None = None, *, raw: bool = False
    ) -> dict[str, Any]:
        """``raw``: texts of the answer are as they were sent; whoever asks so shows none of them as they are."""
        if node != self._own.name:
            return await self._ask_peer(message, timeout_s, by, raw=raw)
        try:
            return await self._for(by).ask(dict(message), timeout_s, by, raw=raw)
        except AgentSilent as error:
            raise PairUnreachable(str(error)) from None
        except AgentRefused as error:
            raise PairRefused(str(error)) from None

    async def _follow_history(self) -> None:
        while True:
            seen = [
                (s.view["figures"]["started"], s.view["figures"]["history_events"]) if s.view else None
                for s in self.known.sights
            ]
            if seen != self._events_seen:
                try:
                    # What a node has told stays known when it does not answer any more.
                    fresh = await self.read_history(EVENTS)
                    self.known.events = merge_events(self.known.events, fresh)[-EVENTS:]
                    self._keep_changes(fresh)
                except PairUnreachable:
                    pass
                else:
                    self._events_seen = seen
                    self._learned()
            version = self.version
            await self._pause()
            await self.wait_change(version, self._poll_s)

    async def read_history(self, count: int) -> list[Mapping[str, Any]]:
        """The newest events of both nodes, of one alone where the other does not answer."""
        message = {"op": "history", "count": count}
        names = [s.name for s in self.known.sights]
        answers = await asyncio.gather(*(self._ask(n, message, PEER_S) for n in names), return_exceptions=True)
        told = [events_in(answer.get("events")) for answer in answers if isinstance(answer, dict)]
        if not told and isinstance(answers[0], PairUnreachable):
            raise answers[0]
        return merge_events(*told)[-count:]

    async def read_log(self, node: str, program: str, stream: str, after: int | None = None) -> LogPart:
        """The end of a log, through the guard."""
        return await self._look_at_log(node, logs.read_end(self._supervisor_of(node), _rpc_name(program), stream, after))

    async def read_log_piece(self, node: str, program: str, stream: str, begin: int) -> LogPart:
        """A piece of a log, through the guard."""
        return await self._look_at_log(node, logs.read_piece(self._supervisor_of(node), _rpc_name(program), stream, begin))

    async def _look_at_log(self, node: str, look: Coroutine[Any, Any, LogPart]) -> LogPart:
        with reading(node):
            try:
                return await look
            except LogRefused as error:
                raise PairRefused(str(error)) from None

    def _supervisor_of(self, node: str) -> logs.Call:
        async def call(method: str, params: list[Any]) -> Mapping[str, Any]:
            return await self._ask(node, {"op": "supervisor", "method": method, "params": params}, PEER_S, raw=True)

        return call

    async def read_conf(self, path: str, by: str) -> dict[str, Any]:
        """Asks both agents, which judge the text anew."""
        names = [sight.name for sight in self.known.sights]
        return await confs.read_conf(self._operator(by), names, path, (PairUnreachable, PairRefused))

    async def read_kept(self, node: str, copy: Mapping[str, str], by: str) -> str | None:
        """Asks the agent of ``node``."""
        with reading(node):
            return await confs.read_kept(self._operator(by), node, copy)

    def _operator(self, by: str) -> confs.Ask:
        async def ask(node: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
            return await self._ask(node, message, CONF_S, by, raw=True)

        return ask

    async def act(self, action: str, programs: Sequence[str], by: str) -> Result:
        """Has the active node do it; where none is known to be active, this node says why not."""
        active = self.find_active()
        node = active.name if active else self._own.name
        try:
            answer = await self._ask(node, {"op": f"program-{action}", "names": list(programs)}, ACT_S, by)
        except PairUnreachable as error:
            return Result(CommandOutcome.UNREACHABLE, (f"{node}: {error}",))
        except PairRefused as error:
            return Result(CommandOutcome.REFUSED, (str(error),))
        self.watch()
        await self.refresh()
        return describe_answer(action, ", ".join(programs), answer)

    async def set_maintenance(self, for_s: float, reason: str, by: str) -> Result:
        """Asks both agents; one that does not answer, or refuses, makes it incomplete."""
        message = {"op": "maintenance", "on": for_s > 0, "for_s": for_s, "reason": reason}
        rows = await self._ask_both(message, ACT_S, by)
        await self.refresh()
        lines, warnings = [], []
        for node, answer in rows:
            if isinstance(answer, str):
                warnings.append(f"{node}: {answer}")
            elif answer["outcome"] == Outcome.ON:
                lines.append(f"{node}: maintenance is on")
            elif answer["outcome"] == Outcome.OFF:
                lines.append(f"{node}: maintenance is off")
            else:
                warnings.append(str(answer.get("reason", answer["outcome"])))
        return _sum_up(lines, warnings)

    async def test_alerts(self, sink: str, by: str) -> Result:
        """Asks both agents."""
        lines: list[str] = []
        warnings: list[str] = []
        for node, answer in await self._ask_both({"op": "alert-test", "sink": sink}, ACT_S, by):
            if isinstance(answer, str) or answer["outcome"] != Outcome.DONE:
                warnings.append(f"{node}: {answer if isinstance(answer, str) else answer.get('reason')}")
                continue
            for row in answer["results"]:
                word = "delivered" if row["delivered"] else "FAILED"
                said = f"{node}: {row['sink']} ({row['kind']}): {word}: {row['said']}"
                (lines if row["delivered"] else warnings).append(said)
        return _sum_up(lines, warnings)

    async def read_reports(self, count: int) -> list[Mapping[str, Any]]:
        """Those of one node where the other one does not answer."""
        rows = await self._ask_both({"op": "report-list", "count": count}, PEER_S)
        if all(isinstance(answer, str) for _, answer in rows):
            raise PairUnreachable("; ".join(f"{node}: {answer}" for node, answer in rows))
        found = {}
        for node, answer in rows:
            if not isinstance(answer, str):
                with reading(node):
                    found.update({str(one["id"]): one for one in answer["reports"]})
        return [found[identifier] for identifier in sorted(found)][-count:]

    async def _ask_both(
        self, message: Mapping[str, Any], timeout_s: float, by: str | None = None
    ) -> list[tuple[str, Mapping[str, Any] | str]]:
        """What each node answers, or why it does not."""

        async def ask(node: str) -> tuple[str, Mapping[str, Any] | str]:
            try:
                return node, await self._ask(node, message, timeout_s, by)
            except (PairUnreachable, PairRefused) as error:
                return node, str(error)

        return list(await asyncio.gather(*(ask(sight.name) for sight in self.known.sights)))

    async def switch_over(self, by: str) -> Result:
        """Has the active node hand over."""
        active = self.find_active()
        if active is None:
            return Result(CommandOutcome.REFUSED, ("there is no active node that answers",))
        try:
            answer = await self._ask(active.name, {"op": "hand-over", "force": False}, HAND_OVER_S, by)
        except PairUnreachable as error:
            return Result(CommandOutcome.UNREACHABLE, (f"{active.name}: {error}",))
        except PairRefused as error:
            return Result(CommandOutcome.REFUSED, (str(error),))
        if answer["outcome"] != Outcome.BEGUN:
            return Result(CommandOutcome.REFUSED, (f"{active.name} refuses: {answer.get('reason')}",))
        return Result(CommandOutcome.DONE, (f"{active.name} gives up MASTER",))


def _sum_up(lines: Sequence[str], warnings: Sequence[str]) -> Result:
    """How something that both nodes were asked for has ended."""
    outcome = CommandOutcome.DONE if not warnings else CommandOutcome.INCOMPLETE if lines else CommandOutcome.FAILED
    return Result(outcome, tuple(lines), tuple(warnings))


def _asked(question: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """A question whose answer several may wait for, or nobody any more."""
    asking = asyncio.ensure_future(question)
    asking.add_done_callback(lambda done: done.cancelled() or done.exception())
    return asking


def events_in(given: object) -> list[Mapping[str, Any]]:
    """What of an answer are events, as every page shows them."""
    rows = given if isinstance(given, list) else []
    return [row for row in rows if isinstance(row, dict) and _is_event(row)]


def _is_event(row: Mapping[str, Any]) -> bool:
    at = row.get("at")
    return isinstance(at, int | float) and abs(at) < MOST_SECONDS and all(type(row.get(k)) is str for k in EVENT_TEXTS)


def _rpc_name(program: str) -> str:
    """A program's shown name as supervisord's interface wants it."""
    return program if ":" in program else f"{program}:{program}"


def describe_answer(action: str, program: str, answer: Mapping[str, Any]) -> Result:
    """The agent's answer to an action on a program, as ``supzcli`` would tell it."""
    if answer["outcome"] != Outcome.DONE:
        outcome = CommandOutcome.REFUSED if answer["outcome"] == Outcome.REFUSED else CommandOutcome.FAILED
        return Result(outcome, (str(answer.get("reason", answer["outcome"])),))
    if answer.get("unknown"):
        return Result(CommandOutcome.FAILED, (f"{', '.join(answer['unknown'])}: no such program",))
    if action == "stop":
        if answer.get("left"):
            return Result(CommandOutcome.FAILED, (f"still running: {', '.join(answer['left'])}",))
        late = missing_on_peer(answer, f"it starts {program}")
        outcome = CommandOutcome.INCOMPLETE if late else CommandOutcome.DONE
        return Result(outcome, tuple(stop_lines(answer, keep=False)), (late,) if late else ())
    lines, failed = [], False
    for row in answer.get("results", ()):
        name, good = full_name(row["group"], row["name"]), row["status"] in (FaultCode.SUCCESS, FaultCode.ALREADY_STARTED)
        failed |= not good
        words = {FaultCode.SUCCESS: "started", FaultCode.ALREADY_STARTED: "was running already"}
        lines.append(f"{name}: {words.get(row['status'], 'ERROR (not RUNNING in time)')}")
    late = missing_on_peer(answer, f"it does not start {program}")
    warnings = [*answer.get("warnings", ()), *([late] if late else [])]
    outcome = CommandOutcome.INCOMPLETE if late else CommandOutcome.DONE
    return Result(CommandOutcome.FAILED if failed else outcome, tuple(lines), tuple(warnings))
