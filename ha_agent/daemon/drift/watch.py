"""Has this node's payload looked at now and then, exchanges it with the peer, and knows in what the two differ.

Nothing depends on it: it waits while a role changes, and a disk or a peer that does not answer leaves "unknown".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from ha_agent.adapters.payload_looker import LookFailed, Wanted
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.account import DriftAccount
from ha_agent.core.drift import Drift, count_compared, find_drifts, programs_of, say_compared
from ha_agent.core.payload import Payload, payload_message, read_payload
from ha_agent.core.settings import PayloadSettings
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.parts import keep_running
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.standing import Standing

log = logging.getLogger(__name__)

EVERY_S = 30.0
"""Between two looks. A change of one node is known on both that much later, at most and beside what the look takes."""

SETTLE_S = 2.0
"""A change of the registry travels and is judged first."""

LEAST_S = 10.0
"""Between two looks, however often the registry changes."""

ASK_S = 20.0
MOST_TOLD = 50
SECTIONS = ("program:", "fcgi-program:")


NOT_YET = "this node's files have not been looked at yet"


class Looks(Protocol):
    """What looks at files (``adapters/payload_looker.PayloadLooker``)."""

    async def look(self, programs: Mapping[str, Wanted], ignore: tuple[str, ...]) -> Payload:
        """What this node has of all that ``programs`` need. Raises ``LookFailed``."""
        ...

    def close(self) -> None:
        """Ends a look under way."""
        ...


class NoDrift:
    """A node that does not compare: nothing is looked at, asked or kept."""

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time."""
        return []

    def wake(self) -> None:
        """Says that the registry, the role or the link changed."""

    async def answer(self, _known: str, _mine: str) -> Mapping[str, Any]:
        """What the peer is told. ``known``: the hash of what it knows; ``mine``: that of its own."""
        return {"off": True, "hash": "", "payload": None, "problem": None, "pending": False}

    def describe(self) -> DriftAccount | None:
        """All that is known; None where nothing is compared."""
        return None

    def say_by_program(self) -> Mapping[str, str]:
        """In what a program differs, by its name."""
        return {}

    def close(self) -> None:
        """Ends a look under way."""


class DriftWatch(NoDrift):
    """``peer``: the name of the other node. ``clock``: the loop's, monotonic; ``wall``: wall clock seconds."""

    def __init__(
        self,
        settings: PayloadSettings,
        peer: str,
        standing: Standing,
        active_set: ActiveSet,
        link: PeerLink,
        looker: Looks,
        events: Events,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._settings, self._peer, self._standing, self._active_set = settings, peer, standing, active_set
        self._link, self._looker, self._events = link, looker, events
        self._clock, self._wall = clock, wall
        self._woken = asyncio.Event()
        self._next_look, self._looked_mono = clock() + SETTLE_S, clock() - EVERY_S
        self._own: Payload | None = None
        self._own_hash = self._theirs_hash = ""
        self._theirs: Payload | None = None
        self._own_problem: str | None = NOT_YET
        self._peer_problem: str | None = None
        self._is_pending = True
        """Whether that is not known since a start, or since the link came up."""
        self._must_ask = False
        self._heard_hash = ""
        """Of what the peer has told last, whether it could be understood or not."""
        self._compared: tuple[str, str] = "", ""
        self._drifts: tuple[Drift, ...] = ()
        self._counts = (0, 0)
        self._at_wall: float | None = None
        self._told: frozenset[str] = frozenset()

    # ---- life ---------------------------------------------------------------------------------------------

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done all the time. No role depends on it."""
        return [keep_running("comparing the files of programs", self.run, self._events)]

    def wake(self) -> None:
        """Has it look soon."""
        self._next_look = min(self._next_look, max(self._clock() + SETTLE_S, self._looked_mono + LEAST_S))
        self._woken.set()

    def close(self) -> None:
        """Ends a look under way."""
        self._looker.close()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._next_look - self._clock())):
                    await self._woken.wait()
            self._woken.clear()
            if self._standing.plan is not None:
                # A takeover or release has the disk and the processor for itself.
                self._next_look = self._clock() + SETTLE_S
                continue
            await self.step()

    async def step(self) -> None:
        """Does what is due: looks, asks the peer, compares."""
        is_due = self._clock() >= self._next_look
        if is_due:
            self._looked_mono = self._clock()
            self._next_look = self._looked_mono + EVERY_S
            await self._look()
        if is_due or self._must_ask:
            await self._ask()
            await self._compare()
            self._tell()

    # ---- this node ----------------------------------------------------------------------------------------

    def _find_wanted(self) -> dict[str, Wanted]:
        """What is needed of each program whose conf can be loaded here, as it was judged last."""
        found: dict[str, Wanted] = {}
        manifest = self._active_set.judged
        for path in self._active_set.selection.loadable:
            verdict, entry = self._active_set.verdict_of(path), manifest.find(path)
            if verdict is None or entry is None:
                continue
            for program in verdict.programs:
                keys = next((k for s in SECTIONS if (k := verdict.file_keys.get(f"{s}{program.name}"))), None)
                runs = [(run.command, run.directory, run.search, run.uid) for run in program.runs]
                found[program.name] = Wanted(entry.sha256, runs, keys.files if keys is not None else ())
        return found

    async def _look(self) -> None:
        wanted = self._find_wanted()
        try:
            own = await self._looker.look(wanted, self._settings.ignore) if wanted else Payload()
        except LookFailed as error:
            if self._own_problem != str(error):
                log.warning("the files of programs cannot be looked at: %s", error)
            self._own_problem, self._is_pending = str(error), False
            return
        self._own, self._own_problem = own, None
        self._own_hash = await asyncio.to_thread(lambda: own.hash)

    # ---- the peer -----------------------------------------------------------------------------------------

    async def answer(self, known: str, mine: str) -> Mapping[str, Any]:
        """What the peer is told; where it has something new, it is asked for that."""
        if mine and mine != self._heard_hash:
            self._must_ask = True
            self._woken.set()
        own, problem = self._own, self._own_problem
        is_news = own is not None and problem is None and known != self._own_hash
        message = await asyncio.to_thread(payload_message, own) if is_news and own is not None else None
        pending = problem == NOT_YET
        return {"off": False, "hash": self._own_hash, "payload": message, "problem": problem, "pending": pending}

    async def _ask(self) -> None:
        self._must_ask = False
        if not self._link.is_up:
            self._peer_problem, self._is_pending = f"{self._peer} cannot be reached", True
            return
        mine = self._own_hash if self._own_problem is None else ""
        try:
            answer = await self._link.ask({"op": "payload", "known": self._theirs_hash, "mine": mine}, ASK_S)
            self._heard_hash = str(answer.get("hash", ""))
            if answer.get("off"):
                self._forget_peer(f"{self._peer} does not compare: payload.compare is false there")
            elif problem := answer.get("problem"):
                self._forget_peer(f"{self._peer}: {problem}")
                self._is_pending = bool(answer.get("pending"))
            else:
                if answer.get("payload") is not None:
                    self._theirs = await asyncio.to_thread(read_payload, answer["payload"])
                    self._theirs_hash = str(answer["hash"])
                self._peer_problem = None if self._theirs is not None else f"{self._peer} has not told its files yet"
                self._is_pending = self._theirs is None
        except RemoteError as error:
            is_old = "unknown operation" in str(error)
            self._forget_peer(f"{self._peer} has an agent that cannot compare yet" if is_old else f"{self._peer}: {error}")
        except (Disconnected, TimeoutError) as error:
            self._peer_problem = f"{self._peer} did not answer: {str(error) or f'nothing within {ASK_S:g} s'}"
            self._is_pending = True
        except ValueError as error:
            self._forget_peer(f"{self._peer}: {error}")

    def _forget_peer(self, why: str) -> None:
        self._theirs, self._theirs_hash, self._peer_problem, self._is_pending = None, "", why, False

    # ---- both ---------------------------------------------------------------------------------------------

    async def _compare(self) -> None:
        own, theirs = self._own, self._theirs
        if own is None or theirs is None or self._problem is not None:
            return
        self._at_wall = self._wall()
        hashes = self._own_hash, self._theirs_hash
        if hashes == self._compared:
            return
        names = self._standing.node, self._peer
        self._drifts = tuple(await asyncio.to_thread(find_drifts, own, theirs, *names))
        self._counts = count_compared(own, theirs)
        self._compared = hashes

    @property
    def _problem(self) -> str | None:
        """Why the nodes cannot be compared now."""
        return self._own_problem or self._peer_problem

    @property
    def _is_unknown_yet(self) -> bool:
        """Whether it is only too early to know: the peer may have told its files before this node has looked at its own."""
        return self._own_problem == NOT_YET or self._is_pending

    def _sides(self) -> tuple[str, str]:
        """The node that would start the programs, and the other one: the standby, as far as that is known."""
        node = self._standing.node
        return (self._peer, node) if self._standing.owns else (node, self._peer)

    def _tell(self) -> None:
        """Tells the history of a difference that is new, and of the end of all; the active node does."""
        if self._standing.role is not Role.ACTIVE or self._problem is not None:
            return
        sides = self._sides()
        now = {drift.subject: drift for drift in self._drifts}
        for subject, drift in now.items():
            if subject not in self._told:
                self._events.add("payload-differs", drift.say(*sides), programs=list(drift.programs[:MOST_TOLD]))
        if self._told and not now:
            self._events.add("payload-equal", say_compared(*self._counts))
        self._told = frozenset(now)

    def describe(self) -> DriftAccount:
        """All that is known."""
        remarks = tuple(f"{name}: {remark}" for name, remark in self._find_remarks())
        starter, other = self._sides()
        counts, drifts = self._counts, self._drifts
        return DriftAccount(self._problem, self._at_wall, *counts, drifts, starter, other, remarks, self._is_unknown_yet)

    def _find_remarks(self) -> list[tuple[str, str]]:
        sides = ((self._standing.node, self._own), (self._peer, self._theirs))
        return [(name, remark) for name, payload in sides if payload is not None for remark in payload.remarks]

    def say_by_program(self) -> Mapping[str, str]:
        """In what a program differs, by its name; nothing while that is not known."""
        if self._problem is not None:
            return {}
        sides = self._sides()
        return {program: drift.say(*sides) for program, drift in programs_of(self._drifts).items()}
