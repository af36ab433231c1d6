"""What the states of programs mean: which ends are an alert, which belong to a takeover, which are one storm. Pure.

Fed with supervisord's events, and with looks at all of its processes, which correct whatever the events did not say. All
times are wall clock seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ha_agent.core.alerts import Condition, Moment
from ha_agent.core.events import StateEvent
from ha_agent.core.supervisor_words import FALLEN_STATES, UP_STATES, State, full_name

GRACE_S = 2.0
"""A program that ended and runs again within this time was restarted; after it, it is down."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of the configuration: ``loop_count`` ends within ``loop_window_s`` are a loop."""

    loop_count: int
    loop_window_s: float


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """One process in a look at supervisord."""

    group: str
    name: str
    state: str
    pid: int
    started: float


@dataclass(slots=True)
class Life:
    """One process. ``ends``: when it ended unexpectedly or failed to start, newest last, within the window."""

    state: str
    pid: int = 0
    since: float = 0.0
    ends: list[float] = field(default_factory=list)
    untold: list[Ending] = field(default_factory=list)
    unexpected: bool = False
    """Whether it is EXITED, and not as it should be."""
    looping: bool = False
    last_end: Ending | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """An end that nobody expected: the state before and after, and how many ends are told together with it."""

    at: float
    pid: int
    before: str
    after: str
    count: int = 1


class ProgramWatch:
    """The programs of one node. ``is_quiet`` says whether a group was being started or stopped on purpose at a time."""

    def __init__(self, rules: Rules, is_quiet: Callable[[str, float], bool]) -> None:
        self._rules, self._is_quiet = rules, is_quiet
        self.lives: dict[Key, Life] = {}
        self._noted: dict[Key, Life] = {}
        """Those of ``lives`` of which something may be to tell: the look of every second is at them alone."""
        self._fresh: set[Key] = set()
        self._doubtful: dict[Key, Life] = {}
        self._told_down: set[str] = set()
        self._told_looping: set[str] = set()
        self.is_synced = False
        """Whether it has looked at all processes since it began."""
        self.swallowed = 0
        """Ends of programs during a takeover or release, which its summary tells."""

    # ---- what comes in ------------------------------------------------------------------------------------

    def adopt(self, down: Iterable[str], looping: Iterable[str]) -> None:
        """Takes over what an earlier watch had found out: supervisord does not say whether an end was expected."""
        self._told_down, self._told_looping = set(down), set(looping)

    def feed(self, events: Iterable[StateEvent]) -> None:
        """Takes in what supervisord told."""
        for event in events:
            self._feed(event)

    def _note(self, key: Key, life: Life) -> None:
        """Has ``life`` looked at: it may not be at rest any more. Whatever changes one calls this."""
        self._noted[key] = life

    def _noted_lives(self) -> list[tuple[Key, Life]]:
        """The lives that are not at rest. The others are looked at again once they are noted again."""
        self._noted = {key: life for key, life in self._noted.items() if not _is_at_rest(life)}
        return list(self._noted.items())

    def _feed(self, event: StateEvent) -> None:
        key = event.group, event.name
        life = self.lives.get(key)
        if life is None:
            life = self.lives[key] = self._adopted(key, Life(event.before), event.at)
        quiet = self._is_quiet(event.group, event.at)
        count = event.exits + event.backoffs
        if quiet:
            self.swallowed += count
        elif count:
            self._ended(key, life, Ending(event.at, event.pid or life.pid, event.before, event.after, count))
        life.state, life.since = event.after, event.at
        life.pid = event.pid if event.after in (State.RUNNING, State.STOPPING, State.STARTING) else life.pid
        # A program that had ended before the summary of a takeover is in there; afterwards it counts by its state.
        life.unexpected = event.after == State.EXITED and not event.expected
        self._note(key, life)

    def _ended(self, key: Key, life: Life, ending: Ending) -> None:
        life.ends += [ending.at] * min(ending.count, 1000)
        life.last_end = ending
        life.untold.append(ending)
        if len(life.untold) > 100:
            first, rest = life.untold[0], life.untold[1:]
            life.untold = [Ending(first.at, first.pid, first.before, first.after, first.count + rest[0].count), *rest[1:]]
        self._fresh.add(key)

    @property
    def doubts(self) -> bool:
        """Whether the last look did not fit the events, which may still be on their way: another look is to tell."""
        return bool(self._doubtful)

    def resync(self, processes: Iterable[SeenProcess], asked: float, now: float) -> list[str]:
        """Takes in a look at all processes, asked for at ``asked``; returns the names of those whose events were missed.

        A process that runs under another id than before, or that is down without an event that says so, has ended
        meanwhile; one that supervisord does not know any more was unloaded on purpose. Two looks must agree on that.
        """
        missed, present, doubtful = [], set(), {}
        for seen in processes:
            key = seen.group, seen.name
            present.add(key)
            life = self.lives.get(key)
            if life is None:
                self.lives[key] = self._adopted(key, Life(seen.state, seen.pid, seen.started or now), now)
            elif life.since < asked and _differs(life, seen):
                if self._doubtful.get(key) != Life(life.state, life.pid, life.since):
                    doubtful[key] = Life(life.state, life.pid, life.since)
                elif self._correct(key, life, seen, now):
                    missed.append(full_name(*key))
        for key in [k for k in self.lives if k not in present]:
            del self.lives[key]
            self._noted.pop(key, None)
            self._fresh.discard(key)
        self._doubtful, self.is_synced = doubtful, True
        return missed

    def _adopted(self, key: Key, life: Life, now: float) -> Life:
        """A process that is seen for the first time, with what an earlier watch had found out about it."""
        name = full_name(*key)
        life.unexpected = life.state == State.EXITED and name in self._told_down
        if name in self._told_looping:
            # The loop lasts for another whole window, as if the program had ended just now.
            life.looping, life.ends = True, [now]
        # Once: what is unloaded and loaded again later is another life.
        self._told_down.discard(name)
        self._told_looping.discard(name)
        self._note(key, life)
        return life

    def _correct(self, key: Key, life: Life, seen: SeenProcess, now: float) -> bool:
        """Makes ``life`` what was seen; says whether the process had ended meanwhile, which nobody had told."""
        replaced = seen.state == State.RUNNING and life.state == State.RUNNING
        fell = life.state in UP_STATES and seen.state in FALLEN_STATES
        told = (replaced or fell) and not self._is_quiet(seen.group, now)
        if told:
            self._ended(key, life, Ending(now, life.pid, life.state, seen.state))
        life.unexpected = fell and seen.state == State.EXITED
        life.state, life.since, life.pid = seen.state, now, seen.pid or life.pid
        self._note(key, life)
        return told

    def take_fresh(self) -> list[Key]:
        """Processes that have ended since this was asked last: supervisord still knows how, for a moment."""
        fresh, self._fresh = sorted(self._fresh), set()
        return fresh

    def down(self, now: float) -> list[Key]:
        """Processes that are down, though they should not be."""
        return [
            key
            for key, life in self._noted_lives()
            if (life.state == State.FATAL or (life.state == State.EXITED and life.unexpected))
            and not self._is_quiet(key[0], now)
        ]

    # ---- what goes out ------------------------------------------------------------------------------------

    def conditions(self, now: float, describe: Callable[[Key], Mapping[str, object]]) -> list[Condition]:
        """What holds now: programs that are down, given up, or in a loop."""
        found = []
        for key, life in self._noted_lives():
            self._look_for_loop(life, now)
            if self._is_quiet(key[0], now):
                continue
            name = full_name(*key)
            details = {**describe(key), "after": life.state}
            if life.last_end is not None:
                details["before"] = life.last_end.before
            if life.state == State.FATAL:
                found.append(Condition("program-fatal", name, f"{name} is FATAL{_how(details)}", details))
            elif life.looping:
                text = f"{name} ended {len(life.ends)} times within {self._rules.loop_window_s:g} s, is {life.state}"
                found.append(Condition("program-looping", name, text + _how(details), details))
            elif life.state == State.EXITED and life.unexpected and now - life.since >= GRACE_S:
                text = f"{name} ended unexpectedly{_how(details)}, and is EXITED"
                found.append(Condition("program-exited", name, text, details))
        return found

    def _look_for_loop(self, life: Life, now: float) -> None:
        window = self._rules.loop_window_s
        life.ends = [at for at in life.ends if 0 <= now - at < window]
        if len(life.ends) >= self._rules.loop_count:
            life.looping = True
        elif not life.ends or life.state in (State.STOPPED, State.STOPPING):
            life.looping = False

    def moments(self, now: float, describe: Callable[[Key], Mapping[str, object]]) -> list[Moment]:
        """What has happened and is over: programs that ended and run again. Each end is told once.

        An end counts once the program runs again, or is told by a condition instead.
        """
        found = []
        for key, life in self._noted_lives():
            if not life.untold:
                continue
            if life.looping or life.state == State.FATAL or (life.state == State.EXITED and now - life.since >= GRACE_S):
                life.untold = []
            elif life.state in (State.STOPPED, State.STOPPING, State.RUNNING):
                found.append(self._tell_restart(key, life, describe))
        return found

    def _tell_restart(self, key: Key, life: Life, describe: Callable[[Key], Mapping[str, object]]) -> Moment:
        endings, life.untold = life.untold, []
        count = sum(ending.count for ending in endings)
        name = full_name(*key)
        times = "" if count == 1 else f" {count} times"
        details = {**describe(key), "before": endings[0].before, "after": life.state, "ends": count}
        now = "and runs again" if life.state == State.RUNNING else f"was {endings[0].before}, is {life.state}"
        text = f"{name} ended unexpectedly{times}{_how(details)}, {now}".replace(", and", " and")
        return Moment("program-restarted", name, text, details)


def _is_at_rest(life: Life) -> bool:
    """Whether there is nothing to tell of ``life`` until it changes: it is as it should be, and no end is remembered."""
    failed = life.state == State.FATAL or (life.state == State.EXITED and life.unexpected)
    return not (failed or life.looping or life.ends or life.untold)


def _differs(life: Life, seen: SeenProcess) -> bool:
    return life.state != seen.state or (seen.state == State.RUNNING and bool(life.pid) and life.pid != seen.pid)


def _how(details: Mapping[str, object]) -> str:
    return f" ({details['exit']})" if details.get("exit") else ""
