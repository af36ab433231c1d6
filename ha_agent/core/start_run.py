"""One run of an order of starts: who still waits and for what, who may start now, and what determined the time. Pure.

Fed with looks at what is up; all times are seconds of one monotonic clock. It can be written down after each look and
taken up from there by another agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ha_agent.core.order_keys import Address
from ha_agent.core.start_plan import STRICTNESS, Need, Process, StartPlan


class How(StrEnum):
    """How a group's wait ended."""

    READY = "ready"
    """All that it waited for is up: it is started."""
    LATE = "late"
    """Its time was over, and it is started all the same."""
    SKIPPED = "skipped"
    FAILED = "failed"
    """As skipped, and this node gives way to a standby that is fit."""
    BY_HAND = "by-hand"
    """Somebody else had it loaded meanwhile."""
    GONE = "gone"
    """It is not in the registry any more, or cannot be loaded."""


MISSING_S = 10.0
"""A group whose conf cannot be loaded for so long is not waited with any more. One that is being edited comes back."""


STARTED = frozenset({How.READY, How.LATE, How.BY_HAND})
NOT_STARTED = frozenset({How.SKIPPED, How.FAILED})


@dataclass(frozen=True, slots=True)
class Sight:
    """One look. ``loaded``: the groups that supervisord has; ``up``: the processes that are RUNNING, or did their work.

    ``answering``: the addresses that took a connection.
    """

    now: float
    groups: frozenset[str]
    """The groups of the registry that can be loaded."""
    loaded: frozenset[str] = frozenset()
    up: frozenset[Process] = frozenset()
    answering: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a group's wait. ``words``: what it was about, for READY what it waited for, else what did not come.

    ``last``: the word that came last, and when each word came first, as far as that was seen.
    """

    at: float
    how: How
    words: tuple[str, ...] = ()
    last: str = ""
    came: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A group that waits: for what it still does, and since when; ``until``: when its time is over, None before it runs."""

    group: str
    words: tuple[str, ...]
    since: float
    until: float | None


class StartRun:
    """A run over the groups that ``plan`` holds back at ``began``. ``step`` says what is to be done after each look."""

    def __init__(self, held: Iterable[str], began: float) -> None:
        self.began = began
        self.open: set[str] = set(held)
        self.ended: dict[str, Ended] = {}
        self._came: dict[str, float] = {}
        """When each word was seen up for the first time."""
        self._missing: dict[str, float] = {}
        """Since when a group is not among those that can be loaded."""
        self._unmet: dict[str, tuple[str, ...]] = {}
        """What was not up at the last look, by group."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return not self.open

    def step(self, plan: StartPlan, sight: Sight) -> dict[str, Ended]:
        """Takes in a look; returns the waits that end with it, those to be started first of all in the plan's order.

        Each group ends once. What is to be started is so by whoever asks, who tells ``refuse`` where that fails for good.
        """
        self._note_came(plan, sight)
        found: dict[str, Ended] = {}
        while True:
            fresh = {g: end for g in sorted(self.open) if (end := self._judge(g, plan, sight)) is not None}
            if not fresh:
                return found
            for group, end in fresh.items():
                self.open.discard(group)
                self.ended[group] = end
            found |= fresh

    def refuse(self, group: str, now: float, why: str) -> None:
        """Notes that ``group`` could not be loaded: whoever waits for it need not go on."""
        self.open.discard(group)
        self.ended[group] = Ended(now, How.GONE, (why,))

    def put_back(self, group: str) -> None:
        """Has ``group`` wait on: what was to be done at the end of its wait could not be done for now."""
        if self.ended.pop(group, None) is not None:
            self.open.add(group)

    def note_loaded(self, groups: Iterable[str], now: float) -> None:
        """Notes that groups which were not started are loaded after all."""
        for group in groups:
            if group in self.ended and self.ended[group].how in NOT_STARTED:
                self.ended[group] = Ended(now, How.BY_HAND)

    def _note_came(self, plan: StartPlan, sight: Sight) -> None:
        for group in self.open:
            for need in plan.needs.get(group, ()):
                if need.word not in self._came and _is_met(need, sight):
                    self._came[need.word] = sight.now

    def _judge(self, group: str, plan: StartPlan, sight: Sight) -> Ended | None:
        """The end of the group's wait; None where it waits on."""
        if group in sight.loaded:
            return Ended(sight.now, How.BY_HAND)
        if group not in sight.groups:
            since = self._missing.setdefault(group, sight.now)
            return Ended(sight.now, How.GONE) if sight.now - since >= MISSING_S else None
        self._missing.pop(group, None)
        needs = plan.needs.get(group, ())
        unmet = [need for need in needs if not _is_met(need, sight)]
        if not unmet:
            came = {need.word: self._came.get(need.word, sight.now) for need in needs}
            last = max(came, key=lambda word: (came[word], word), default="")
            return Ended(sight.now, How.READY, tuple(came), last, came)
        self._unmet[group] = tuple(need.word for need in unmet)
        over = [need for need in unmet if self._is_over(group, need, plan, sight.now)]
        if not over:
            return None
        words = tuple(need.word for need in over)
        strictest = max((need.on_timeout for need in over), key=STRICTNESS.index)
        if strictest != "start":
            return Ended(sight.now, How.SKIPPED if strictest == "skip" else How.FAILED, words)
        # What else it waits for may still come.
        return Ended(sight.now, How.LATE, words) if len(over) == len(unmet) else None

    def _is_over(self, group: str, need: Need, plan: StartPlan, now: float) -> bool:
        """Whether ``need`` is not to be waited for any longer: its time is over, or nobody starts it."""
        if need.group is not None and need.group in self.ended and self.ended[need.group].how not in STARTED:
            return True
        since = self._since(group, plan)
        return since is not None and now - since >= need.limit_s

    def _since(self, group: str, plan: StartPlan) -> float | None:
        """When the group's time began to run: with the last start among what it waits for. None before that."""
        since = self.began
        for need in plan.needs.get(group, ()):
            if need.group in self.open:
                return None
            if need.group in self.ended:
                since = max(since, self.ended[need.group].at)
        return since

    def waiting(self, plan: StartPlan) -> list[Waiting]:
        """Who waits now, by name."""
        found = []
        for group in sorted(self.open):
            needs = plan.needs.get(group, ())
            words = self._unmet.get(group) or tuple(need.word for need in needs)
            since = self._since(group, plan)
            limit_s = max((need.limit_s for need in needs), default=0.0)
            found.append(Waiting(group, words, self.began, None if since is None else since + limit_s))
        return found

    def not_started(self) -> dict[str, Ended]:
        """The groups that were not started because something did not come."""
        return {group: end for group, end in sorted(self.ended.items()) if end.how in NOT_STARTED}

    # ---- for an agent that comes after this one -----------------------------------------------------------

    def to_note(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        ended = {
            group: [end.at, end.how.value, list(end.words), end.last, dict(end.came)] for group, end in self.ended.items()
        }
        return {"began": self.began, "open": sorted(self.open), "ended": ended, "came": dict(self._came)}

    @classmethod
    def from_note(cls, raw: Mapping[str, Any]) -> StartRun:
        """The run of ``to_note``. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        run = cls(map(str, raw["open"]), float(raw["began"]))
        for group, (at, how, words, last, came) in raw["ended"].items():
            times = {str(word): float(moment) for word, moment in came.items()}
            run.ended[str(group)] = Ended(float(at), How(how), tuple(map(str, words)), str(last), times)
        run._came = {str(word): float(moment) for word, moment in raw["came"].items()}
        return run


def _is_met(need: Need, sight: Sight) -> bool:
    if need.address is not None:
        return need.address in sight.answering
    return need.processes <= sight.up


def critical_path(run: StartRun, plan: StartPlan) -> list[tuple[str, float]]:
    """The chain that determined the time: from its beginning to the last group that was started, each with its seconds.

    A program has the seconds after ``began`` at which it was up (the last group: was started), an address those at which it
    answered. Empty where nothing was started after a wait.
    """
    starts = {group: end for group, end in run.ended.items() if end.how in (How.READY, How.LATE)}
    if not starts:
        return []
    group = max(starts, key=lambda g: (starts[g].at, g))
    path = [(group, starts[group].at - run.began)]
    seen = {group}
    while True:
        end = starts[group]
        word = end.last or (end.words[-1] if end.words else "")
        if not word:
            break
        came = end.came.get(word, end.at)
        path.append((word, came - run.began))
        following = next((need.group for need in plan.needs.get(group, ()) if need.word == word), None)
        if following is None or following not in starts or following in seen:
            break
        group = following
        seen.add(group)
    return [(word, round(seconds, 3)) for word, seconds in reversed(path)]


def next_stops(plan: StartPlan, live: Iterable[str]) -> frozenset[str]:
    """Of the groups that run those that may be told to stop now: nothing that runs waits for them.

    Never empty where anything runs: the plan has no circles.
    """
    running = frozenset(live)
    return running - {need.group for user in running for need in plan.needs.get(user, ())}


def say_path(path: Sequence[tuple[str, float]]) -> str:
    """A chain in words: "redis 1.2 s -> app 3.4 s"."""
    return " -> ".join(f"{word} {seconds:.1f} s" for word, seconds in path)
