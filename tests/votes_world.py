"""Two nodes, their keepers and the witness in one true time, as the votes' rules meet them: every fault is a method.

Only the rules themselves come from the product. Whoever calls the methods chooses the faults; ``Random`` chooses the small
times. After every event it is checked that no two nodes run programs, and that no vote is counted by two nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ha_agent.core.holder import Call, Holder, Identity
from ha_agent.core.vote_note import VoteNote
from ha_agent.core.vote_terms import CLOCK_RATES_DIFFER, VoteTerms
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.core.witness_record import NOTHING_THERE, Sight
from ha_agent.core.witness_watch import Look, Outcome, Swap

A, B, W = "node-a", "node-b", "witness"
NODES = (A, B)
LINKS = tuple((x, y) for x in (A, B, W) for y in (A, B, W) if x != y)

FASTEST, SLOWEST = 1.047, 0.953
"""Rates of clocks against true time: two of them measure a time with a difference of a tenth at most."""

PAUSE = "pause"


class Violation(AssertionError):
    """Two nodes ran programs at once, or counted one vote at once."""


@dataclass
class Clock:
    """A node's clock: ``rate`` seconds of it for each true one."""

    at_true: float
    at_local: float
    rate: float = 1.0

    def read(self, true: float) -> float:
        return self.at_local + (true - self.at_true) * self.rate

    def true_of(self, local: float) -> float:
        return self.at_true + (local - self.at_local) / self.rate

    def turn(self, true: float, rate: float) -> None:
        self.at_true, self.at_local, self.rate = true, self.read(true), rate


@dataclass
class Node:
    """One machine: its agent (None where it is down), its keeper, what runs."""

    name: str
    clock: Clock
    boot: str
    holder: Holder | None = None
    note: VoteNote | None = None
    wants: bool = False
    running: bool = False
    generation: int = 0
    kill_at: float = 0.0
    paused_until: float = 0.0
    acts: list[tuple[str, Any]] = field(default_factory=list)
    acting: bool = False
    tick_at: float = -1.0

    @property
    def other(self) -> str:
        return B if self.name == A else A


HolderMaker = Callable[[Identity, VoteTerms, float, VoteNote | None], Holder]


class World:
    """``terms`` and ``make`` are what is tried; ``random`` chooses the small times."""

    def __init__(self, random: Random, terms: VoteTerms, make: HolderMaker = Holder) -> None:
        self.random, self.terms, self._make = random, terms, make
        self.true, self.steps, self.starts, self.kills = 1000.0, 0, 0, 0
        self.went_back, self.went_back_at = 0, 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self.cut: set[tuple[str, str]] = set()
        self.is_rough = True
        self.witness_paused_until = 0.0
        self.sight: Sight = NOTHING_THERE
        self.history: list[tuple[float, Sight]] = [(self.true, NOTHING_THERE)]
        self.unsafe_depth = (terms.ttl_s + 2 * terms.answer_s) / SLOWEST
        self.kill_s = terms.margin_s - terms.ttl_s * CLOCK_RATES_DIFFER
        self._names = 0
        self.nodes = {name: Node(name, Clock(self.true, self.random.uniform(5, 5000)), self._new_name()) for name in NODES}
        for name in NODES:
            self.start_agent(name)

    def _new_name(self) -> str:
        self._names += 1
        return f"x{self._names}"

    # ---- time

    def at(self, true: float, do: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (max(true, self.true), self._order, do))

    def advance(self, seconds: float) -> None:
        """Lets time pass with everything that happens in it. Raises ``Violation``."""
        end = self.true + seconds
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.true, _, do = heapq.heappop(queue)
            do()
            self.steps += 1
            self.check()
        self.true = end

    def check(self) -> None:
        """Raises ``Violation``."""
        a, b = self.nodes[A], self.nodes[B]
        if a.running and b.running:
            raise Violation(f"both run at {self.true:.3f}")
        if a.holder is None or b.holder is None or not (a.holder.wants and b.holder.wants):
            return
        mine, theirs = self._counted(a, a.holder), self._counted(b, b.holder)
        both = mine & theirs
        if both:
            raise Violation(f"both count {both} at {self.true:.3f}")

    def _counted(self, node: Node, holder: Holder) -> set[str]:
        return set(holder.votes(node.clock.read(self.true) + self.terms.margin_s))

    # ---- faults and orders

    def set_want(self, name: str, wants: bool) -> None:
        """The role machine of a node wants to be active, or steps down: stop, then let go."""
        node = self.nodes[name]
        if node.wants == wants:
            return
        node.wants = wants
        if node.holder is None:
            return
        node.acts = [act for act in node.acts if act[0] not in ("stop", "let_go", "want")]
        self._do_later(node, *([("want", None)] if wants else [("stop", None), ("let_go", None)]))

    def pause_agent(self, name: str, seconds: float) -> None:
        self.nodes[name].paused_until = self.true + seconds

    def pause_witness(self, seconds: float) -> None:
        self.witness_paused_until = self.true + seconds

    def stop_agent(self, name: str) -> None:
        """The agent is killed; what runs runs on, and the keeper is there."""
        node = self.nodes[name]
        node.holder, node.acts, node.paused_until, node.tick_at = None, [], 0.0, -1.0

    def start_agent(self, name: str) -> None:
        node = self.nodes[name]
        if node.holder is None:
            who = Identity(name, node.other, node.boot, self._new_name())
            node.holder = self._make(who, self.terms, node.clock.read(self.true), node.note)
            if node.wants or node.running:
                node.wants = True
                node.holder.want()
            self._tick(node, self.true)

    def lose_note(self, name: str) -> None:
        """Only while the agent is down: one that runs keeps it."""
        node = self.nodes[name]
        if node.holder is None:
            node.note = None

    def reboot(self, name: str) -> None:
        """The machine is off; ``start_agent`` is its next boot."""
        self.stop_agent(name)
        node = self.nodes[name]
        node.running, node.note, node.boot, node.wants = False, None, self._new_name(), False
        node.generation += 1
        node.kill_at = 0.0
        node.clock = Clock(self.true, self.random.uniform(1, 20), node.clock.rate)

    def fence(self, name: str, command_s: float) -> None:
        """``name`` has the other machine switched off from outside, by a command that takes ``command_s``.

        That one may be on again before the command has ended."""
        node = self.nodes[name]
        holder = node.holder
        if holder is None or node.paused_until > self.true:
            return
        began = node.clock.read(self.true)
        self.reboot(node.other)
        if self.random.random() < 0.5:
            self.at(self.true + self.random.uniform(0, command_s), lambda: self.start_agent(node.other))

        def told() -> None:
            if node.holder is holder:
                holder.peer_was_fenced(began, node.clock.read(self.true))
                node.note = holder.note()
                self._tick(node, self.true)

        self.at(self.true + command_s, self._when_awake(name, told))

    def turn_clock(self, name: str, rate: float) -> None:
        node = self.nodes[name]
        node.clock.turn(self.true, rate)
        self._watch_deadline(node)
        node.tick_at = -1.0
        self._tick(node, self.true)

    def old_states(self) -> list[Sight]:
        """What the witness may go back to: what was the record once, and at no time of the last ``unsafe_depth`` seconds."""
        horizon = self.true - self.unsafe_depth
        ends = [since for since, _ in self.history[1:]]
        recent = {self.sight} | {s for (_, s), end in zip(self.history, ends, strict=False) if end > horizon}
        return list(dict.fromkeys(s for _, s in self.history if s not in recent))

    def go_back(self, sight: Sight) -> None:
        """The witness loses everything after ``sight``, revisions too."""
        self.went_back, self.went_back_at = self.went_back + 1, self.true
        self._set_record(sight)

    def _set_record(self, sight: Sight) -> None:
        self.sight = sight
        self.history.append((self.true, sight))
        if len(self.history) > 400:
            del self.history[1:200]

    # ---- the network

    def _delay(self) -> float:
        pick = self.random.random()
        if not self.is_rough or pick < 0.8:
            return 0.001 + 0.02 * self.random.random()
        return self.random.uniform(0, self.terms.answer_s * 1.2) if pick < 0.95 else self.random.uniform(0, 7)

    def _send(self, src: str, dst: str, arrive: Callable[[], None]) -> None:
        """Lost where the way is cut; in rough times also lost, doubled or late."""
        if (src, dst) in self.cut or (self.is_rough and self.random.random() < 0.05):
            return
        for _ in range(2 if self.is_rough and self.random.random() < 0.05 else 1):
            self.at(self.true + self._delay(), arrive)

    def _when_awake(self, name: str, do: Callable[[], None]) -> Callable[[], None]:
        def arrive() -> None:
            until = self.witness_paused_until if name == W else self.nodes[name].paused_until
            if until > self.true:
                self.at(until, arrive)
            else:
                do()

        return arrive

    # ---- the agent

    def _tick(self, node: Node, true: float) -> None:
        """Has the agent look at what is due at ``true``; the newest order counts."""
        true = max(true, self.true)
        if node.holder is not None and (node.tick_at < self.true or true < node.tick_at):
            node.tick_at = true
            self.at(true, lambda: self._run_tick(node, true))

    def _run_tick(self, node: Node, ordered: float) -> None:
        if node.tick_at != ordered or node.holder is None:
            return
        node.tick_at = -1.0
        if node.paused_until > self.true:
            self._tick(node, node.paused_until)
            return
        self._step(node, node.holder)

    def _step(self, node: Node, holder: Holder) -> None:
        """What is due is asked, the keeper is fed, and programs are started where the votes allow it."""
        now = node.clock.read(self.true)
        calls = holder.due(now)
        node.note = holder.note()
        self._send_all(node, calls)
        deadline = holder.deadline()
        if deadline > now:
            acts: list[tuple[str, Any]] = [("feed", deadline)]
            if node.wants and not node.running:
                acts.append(("start", node.generation))
            self._do_later(node, *acts)
        self._tick(node, node.clock.true_of(holder.next_at(now)) + 0.001)

    def _send_all(self, node: Node, calls: list[Call]) -> None:
        for call in calls:
            if isinstance(call, Ask | LetGo):
                self._send(node.name, node.other, self._peer_hears(node.other, call))
            else:
                self._send(node.name, W, self._when_awake(W, self._witness_serves(node.name, call)))

    def _peer_hears(self, name: str, call: Ask | LetGo) -> Callable[[], None]:
        def hear() -> None:
            node = self.nodes[name]
            if node.holder is None:
                return
            now = node.clock.read(self.true)
            if isinstance(call, LetGo):
                node.holder.hear_let_go(call, now)
            else:
                answer = node.holder.hear_ask(call, now)
                self._send(name, node.other, self._answer_arrives(node.other, answer))
            node.note = node.holder.note()
            self._tick(node, self.true)

        return self._when_awake(name, hear)

    def _answer_arrives(self, name: str, answer: Answer) -> Callable[[], None]:
        def hear() -> None:
            node = self.nodes[name]
            if node.holder is not None:
                node.holder.hear_answer(answer, node.clock.read(self.true))
                self._step(node, node.holder)

        return self._when_awake(name, hear)

    def _witness_serves(self, name: str, call: Look | Swap) -> Callable[[], None]:
        def serve() -> None:
            outcome = Outcome.DONE
            if isinstance(call, Swap):
                if call.expected == self.sight:
                    self._set_record(Sight(self.sight.revision + 1, call.record))
                else:
                    outcome = Outcome.OTHER
            seen = self.sight
            asker = self.nodes[name].holder

            def hear() -> None:
                node = self.nodes[name]
                if node.holder is not None and node.holder is asker:
                    node.holder.hear_witness(call, outcome, seen, node.clock.read(self.true))
                    self._step(node, node.holder)

            self._send(W, name, self._when_awake(name, hear))

        return serve

    # ---- between check and act

    def _do_later(self, node: Node, *acts: tuple[str, Any]) -> None:
        """One act after the other, with a pause before each: the agent may be stopped between its check and its act."""
        fresh = [act for act in acts if act not in node.acts]
        node.acts += fresh
        if fresh and not node.acting:
            node.acting = True
            self._schedule_act(node)

    def _schedule_act(self, node: Node) -> None:
        pick = self.random.random() if self.is_rough else 0.0
        after = 0.0005 if pick < 0.8 else self.random.uniform(0, 0.3) if pick < 0.95 else self.random.uniform(0, 6)
        boot, holder = node.boot, node.holder

        def do() -> None:
            node.acting = False
            if node.boot == boot and node.holder is holder and holder is not None and node.acts:
                self._act(node, holder, *node.acts.pop(0))
            if node.acts:
                node.acting = True
                self._schedule_act(node)

        self.at(self.true + after, self._when_awake(node.name, do))

    def _act(self, node: Node, holder: Holder, what: str, value: Any) -> None:
        if what == "feed":
            self._feed(node, value)
        elif what == "start":
            # A program is started through the supervisord that was looked at: one that the keeper has killed starts none.
            if node.wants and value == node.generation and node.kill_at > 0 and not node.running:
                node.running = True
                self.starts += 1
        elif what == "stop":
            node.running, node.kill_at = False, 0.0
            node.generation += 1
        elif what == "want":
            holder.want()
            self._tick(node, self.true)
        elif what == "let_go" and not node.running:
            self._send_all(node, holder.let_go())
            node.note = holder.note()
            self._tick(node, self.true)

    # ---- the keeper

    def _feed(self, node: Node, deadline: float) -> None:
        """A deadline that is over is none: the keeper kills what there is, and does not say that it is armed."""
        if deadline > node.clock.read(self.true):
            node.kill_at = deadline
            self._watch_deadline(node)
        else:
            self._kill(node)

    def _kill(self, node: Node) -> None:
        self.kills += node.running
        node.running = False
        node.generation += 1

    def _watch_deadline(self, node: Node) -> None:
        """The keeper's timer. It may take ``kill_s`` from the deadline until everything is dead."""
        if node.kill_at <= 0:
            return
        boot, generation = node.boot, node.generation
        wanted = node.kill_at

        def wake() -> None:
            if node.boot != boot or node.generation != generation or node.kill_at != wanted:
                return
            if node.clock.read(self.true) < wanted:
                self._watch_deadline(node)
                return
            self.at(self.true + self.kill_s * self.random.choice((0.0, 1.0, self.random.random())), kill)

        def kill() -> None:
            if node.boot == boot and node.generation == generation and node.kill_at <= node.clock.read(self.true):
                self._kill(node)

        self.at(node.clock.true_of(wanted) + 1e-6, wake)

    # ---- what there is to see

    def holders(self) -> list[str]:
        """Who holds the votes now, and could have programs running."""
        found = []
        for name, node in self.nodes.items():
            if node.holder is not None and node.clock.read(self.true) < node.holder.deadline():
                found.append(name)
        return found
