"""What happens to programs, for the alerts: takes the listener's events, looks at supervisord where they are not enough.

Owns the watch over programs' lives. What a takeover or release does to programs is not reported here: its summary is.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ha_agent.adapters.procs import read_memory
from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.alerts import Condition, Moment, matches
from ha_agent.core.events import StateEvent
from ha_agent.core.program_watch import Key, ProgramWatch, Rules, SeenProcess
from ha_agent.core.settings import AlertSettings, parse_memory_limit
from ha_agent.core.supervisor_words import State, full_name
from ha_agent.core.transitions import Transition
from ha_agent.core.words import Role
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.supervised import GLANCE_S, Lane, Supervised
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

LOOK_S = 300.0
"""Between two looks at all processes, whatever the events said. One of 1,000 costs a fifth of a second."""

FALLEN_LOOK_S = 10.0
"""The same while a program is down: no event of a state says that it was unloaded, which ends its alert."""

PROBE_S = 30.0
"""Between two checks that supervisord answers at all."""

SILENT_S = 90.0
"""The listener gives a sign of life every 30 s."""

AFTERMATH_S = 0.1
"""supervisord notices an exit up to this long after it happened."""

ANSWER_S, AGAIN_S = 5.0, 2.0
FAILURES = 3
"""This many unanswered calls in a row mean it is down."""

GLIMPSE_S = 10.0

ASK_S = 3.0
ASKED_AT_ONCE = 20
LOG_BYTES = 4096
MAIN_LOG_BYTES = 65536
MEMORY_HYSTERESIS = 0.9

_EXITED = re.compile(r"exited: (\S+) \((.+?); (?:not )?expected\)")


class ProgramWatcher:
    """The programs of one node. ``clock``: monotonic, ``wall``: wall clock seconds."""

    def __init__(
        self,
        limits: AlertSettings,
        standing: Standing,
        supervised: Supervised,
        loaded: LoadedGroups,
        active_set: ActiveSet,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._limits, self._standing = limits, standing
        self._supervised, self._loaded, self._active_set = supervised, loaded, active_set
        self._clock, self._wall = clock, wall
        self.watch = ProgramWatch(Rules(limits.loop_count, limits.loop_window_s), self._is_quiet)
        self._memory_limits = [pair for text in limits.memory_limits if (pair := parse_memory_limit(text)) is not None]
        self._memory: dict[Key, tuple[int, int]] = {}
        self._reports: dict[Key, dict[str, Any]] = {}
        self._moments: list[Moment] = []
        self._quiet_until = 0.0
        self._verifying = False
        self._look_at_mono = self._probe_at_mono = self._looked_mono = 0.0
        self._memory_at_mono = 0.0
        self._heard_mono = clock()
        self._failures = 0
        self.silence: str | None = None
        """How supervisord does not answer; None where it does."""
        self.lost = self.merged = self.taken = 0
        self.on_feed: list[Callable[[Sequence[StateEvent], bool], None]] = []
        """Called with all that the listener brings, and whether nothing was lost before it."""
        self._seen: Sequence[ProcessInfo] | None = None
        self._seen_mark: object = None
        self._seen_mono = 0.0

    # ---- what comes in ------------------------------------------------------------------------------------

    def feed(self, events: Sequence[StateEvent], lost: int, *, began: bool) -> None:
        """Takes what the listener brings. ``lost``: events that supervisord threw away; ``began``: the listener is new."""
        self._heard_mono = self._clock()
        self.watch.feed(events)
        for hear in self.on_feed:
            hear(events, not (lost or began))
        self.taken += len(events)
        self.merged += sum(event.merged for event in events)
        if lost:
            self.lost += lost
            self._moments.append(Moment("events-lost", "listener", f"supervisord threw {lost} events away", {"lost": lost}))
        if lost or began:
            self._look_at_mono = 0.0

    def hear_transition(self, told: Transition) -> None:
        """Takes in a change of role: what happens to programs around it belongs to that."""
        if told.after is Role.ACTIVE:
            self.plan_ended(verifying=True)
        elif told.after is not Role.TAKING_OVER and told.before in (Role.RELEASING, Role.FENCED):
            self.plan_ended(verifying=False)

    def plan_ended(self, *, verifying: bool) -> None:
        """A takeover or release is over; ``verifying``: its programs are still being looked at."""
        self._verifying = verifying
        self._quiet_until = self._wall() + AFTERMATH_S
        self._look_at_mono = 0.0

    def _is_quiet(self, group: str, at: float) -> bool:
        """Whether what happened to ``group`` at wall clock time ``at`` belongs to a takeover or release."""
        busy = self._standing.plan is not None or self._verifying or at < self._quiet_until
        return busy and (group in self._loaded.names or group in self._active_set.selection.groups)

    # ---- looking ------------------------------------------------------------------------------------------

    async def update(self) -> None:
        """Asks supervisord what events do not tell. Never raises for one that does not answer."""
        if self._standing.plan is not None or not self._supervised.process.is_alive:
            # A takeover has more urgent questions, and its summary tells.
            return
        now = self._clock()
        if now >= self._look_at_mono or self._must_look_again(now):
            self._looked_mono = now
            self._look_at_mono, self._probe_at_mono = now + LOOK_S, now + PROBE_S
            await self._resync()
        elif now >= self._probe_at_mono:
            self._probe_at_mono = now + PROBE_S
            if not await self._supervised.is_up():
                # _resync counts the failure; force it at the next look.
                self._look_at_mono = 0.0
        # What went down during a takeover was nobody's question then.
        fresh = sorted(
            {*self.watch.take_fresh(), *(key for key in self.watch.down(self._wall()) if key not in self._reports)}
        )
        if fresh:
            await self._ask_about(fresh)
        if self._memory_limits and now >= self._memory_at_mono:
            self._memory_at_mono = now + self._limits.memory_interval_s
            await self._weigh()

    def _must_look_again(self, now: float) -> bool:
        return now - self._looked_mono >= FALLEN_LOOK_S and bool(self.watch.down(self._wall()))

    async def _resync(self) -> None:
        asked = self._wall()
        try:
            infos = await self._supervised.read_all(Lane.GLANCE, ANSWER_S)
        except SupervisordDown as error:
            self._failures += 1
            if self._failures >= FAILURES:
                self.silence = str(error)
            self._look_at_mono = self._clock() + AGAIN_S
            return
        self._failures, self.silence = 0, None
        seen = [SeenProcess(i.group, i.name, i.state, i.pid, float(i.started)) for i in infos]
        missed = self.watch.resync(seen, asked, self._wall())
        if self.watch.doubts:
            self._look_at_mono = self._clock() + AGAIN_S
        if missed:
            log.warning("ended without an event that said so: %s", ", ".join(missed[:20]))
        self._reports = {key: report for key, report in self._reports.items() if key in self.watch.lives}

    async def _ask_about(self, keys: list[Key]) -> None:
        """How processes ended, and the last lines of their logs, while supervisord still knows."""
        asked = keys[:ASKED_AT_ONCE]
        calls: list[tuple[str, list[Any]]] = [("readLog", [-MAIN_LOG_BYTES, 0])]
        for group, name in asked:
            calls += [(f"tailProcess{which}Log", [f"{group}:{name}", 0, LOG_BYTES]) for which in ("Stderr", "Stdout")]
        try:
            async with asyncio.timeout(ASK_S):
                answers = await self._supervised.batch(calls)
        except (SupervisordDown, TimeoutError) as error:
            log.warning("the logs of %d programs cannot be read: %s", len(asked), error or "no answer in time")
            answers = [Fault(0, "") for _ in calls]
        endings = read_endings("" if isinstance(answers[0], Fault) else str(answers[0]))
        lines = self._limits.log_lines
        for number, key in enumerate(asked):
            logs = [last_lines(answers[1 + 2 * number + which], lines) for which in (0, 1)]
            self._reports[key] = {"exit": endings.get(key[1]), "log": logs[0] or logs[1]}
        for key in keys[ASKED_AT_ONCE:]:
            self._reports[key] = {"exit": endings.get(key[1]), "log": []}

    async def _weigh(self) -> None:
        pids = {key: life.pid for key, life in self.watch.lives.items() if life.state == State.RUNNING and life.pid}
        weights = await asyncio.to_thread(read_memory, pids)
        found = {}
        for key, used in weights.items():
            limit = self._limit_of(full_name(*key), key[1])
            if limit is None:
                continue
            line = limit * MEMORY_HYSTERESIS if key in self._memory else limit
            if used > line:
                found[key] = (used, limit)
        self._memory = found

    def _limit_of(self, *names: str) -> int | None:
        return next((limit for pattern, limit in self._memory_limits if any(matches(n, (pattern,)) for n in names)), None)

    async def read_shown(self) -> Sequence[ProcessInfo] | None:
        """All processes as they are now, for showing; None where supervisord does not answer.

        It needs a third of a millisecond to describe each: it is not asked again as long as no event says that something
        has changed, unless ``GLIMPSE_S`` has passed, or the listener is silent.
        """
        now, standing = self._clock(), self._standing
        mark = (self.taken, self.lost, standing.role, standing.plan is None, self._supervised.process.identity)
        heard = now - self._heard_mono <= SILENT_S
        if heard and self._seen is not None and self._seen_mark == mark and now - self._seen_mono < GLIMPSE_S:
            return self._seen
        try:
            infos = await self._supervised.read_all(Lane.GLANCE, GLANCE_S)
        except SupervisordDown:
            self._seen = None
            return None
        # A change during this call is seen by the next one.
        self._seen, self._seen_mark, self._seen_mono = infos, mark, now
        return infos

    def find_life(self, group: str, name: str) -> tuple[str, float] | None:
        """The state of a process by its events, and since when; None where the listener does not tell."""
        if not self.taken or not self.watch.is_synced or self._clock() - self._heard_mono > SILENT_S:
            return None
        life = self.watch.lives.get((group, name))
        return None if life is None else (life.state, life.since)

    # ---- what goes out ------------------------------------------------------------------------------------

    def conditions(self, now_wall: float) -> list[Condition]:
        """What holds now."""
        found = self.watch.conditions(now_wall, self._report_of)
        for key, (used, limit) in self._memory.items():
            name = full_name(*key)
            text = f"{name} uses {used >> 20} MiB of memory, more than {limit >> 20} MiB"
            found.append(Condition("program-memory", name, text, {"used_bytes": used, "limit_bytes": limit}))
        silent_s = self._clock() - self._heard_mono
        if silent_s > SILENT_S and self._supervised.process.is_alive:
            text = f"nothing was heard from ha-agent-listener on {self._standing.node} for more than {SILENT_S:.0f} s"
            found.append(Condition("listener-silent", "listener", text))
        return found

    def moments(self, now_wall: float) -> list[Moment]:
        """What has happened since this was asked last."""
        found, self._moments = self._moments, []
        return found + self.watch.moments(now_wall, self._report_of)

    def _report_of(self, key: Key) -> Mapping[str, object]:
        return {"program": full_name(*key), **self._reports.get(key, {})}


def read_endings(main_log: str) -> dict[str, str]:
    """How each process last ended, by its name, as supervisord's own log tells (``exited: NAME (HOW; not expected)``).

    Its other interfaces forget a signal at once, and an exit status when the program is started again.
    """
    return {match[1]: match[2] for match in _EXITED.finditer(main_log)}


def last_lines(answer: Any, count: int) -> list[str]:
    """The last ``count`` lines of what ``tailProcess...Log`` gave; nothing where there is no log."""
    if isinstance(answer, Fault) or not isinstance(answer, (list, tuple)) or not count:
        return []
    return [line[:500] for line in str(answer[0]).splitlines() if line.strip()][-count:]
