"""supervisord on this node: asking it, without letting one that hangs take the threads of those who need it most.

Must not know what of its programs is the registry's: loaded_groups does. Nothing is started or stopped here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from ha_agent.adapters.procs import TICKS_S, ProcessTable, ProcessWatch, now_ticks
from ha_agent.adapters.supervisord import ProcessInfo, SocketAge, Supervisord, SupervisordDown
from ha_agent.core.kinship import Life
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.supervisor_words import deaf_text

log = logging.getLogger(__name__)

T = TypeVar("T")

SPAWN_S = 0.02
"""supervisord answers after it has spawned everything; a generous time a program, added to the ordinary deadline."""

GLANCE_S = 0.5
"""supervisord needs 0.2 s to describe 500 processes; a peer's question for the status waits a little longer than this."""

SHUTDOWN_LOOK_S = 0.25

OPERATOR_WORKERS = 2
END_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What supervisord said of all its processes; ``at_ticks``: when it was asked, in ticks since boot.

    What was started later is none of those.
    """

    infos: Sequence[ProcessInfo] = ()
    at_ticks: int = 0


class Lane(Enum):
    """Whose threads a question takes. A supervisord that hangs holds up its own lane alone."""

    WORK = auto()
    """Takeover and release: the agent's workers."""
    OPERATOR = auto()
    """Operators' commands and alerts."""
    GLANCE = auto()
    """Showing: one thread; all who ask at once share one question."""


class Supervised:
    """All calls are coroutines; none blocks the loop. ``process`` watches supervisord's process."""

    def __init__(
        self,
        settings: SupervisorSettings,
        client: Supervisord,
        process: ProcessWatch,
        table: ProcessTable,
        age: SocketAge,
    ) -> None:
        self._settings = settings
        self.client = client
        """For those who call it in a thread of their own."""
        self.process = process
        self._table, self._socket_age = table, age
        self._life: Life | None = None
        self._looked_ticks = 0
        self.began_ticks: int | None = None
        """When supervisord's present life began, in ticks since boot; None where none is running."""
        self.seen = Seen()
        """The last answer. One object, as threads read it."""
        self._glance_ticks = 0
        self._operators = ThreadPoolExecutor(OPERATOR_WORKERS, "operator")
        self._glancer = ThreadPoolExecutor(1, "glance")
        self._glance: asyncio.Future[list[ProcessInfo]] | None = None
        self.loading = asyncio.Lock()
        """Held while an operator's call that starts something is under way: a release waits for its end."""

    def note_process(self) -> None:
        """Holds supervisord's process, if there is one, and notes which life of it that is."""
        self.process.look()
        identity, now = self.process.identity, now_ticks()
        if identity is None:
            self._life = self.began_ticks = None
            return
        self._table.note_supervisord(*identity)
        before, socket = self._life, self._socket_age.read()
        if before is None or before[:2] != identity:
            self._life, self.began_ticks, self._looked_ticks = Life(*identity), identity[1], identity[1]
        if socket is not None and self._life is not None and socket[0] != self._life.age:
            self._life = Life(*identity, socket[0])
            # The wall clock may have been set meanwhile: the new socket is younger than the last look in any case.
            made = now - int((time.time() - socket[1]) / TICKS_S)
            self.began_ticks = max(self._looked_ticks, min(now, made))
        self._looked_ticks = now

    @property
    def life(self) -> Life | None:
        """supervisord's present life, as of the last ``note_process``; None where none is running."""
        return self._life if self.process.is_alive else None

    # ---- asking -------------------------------------------------------------------------------------------

    async def is_up(self) -> bool:
        """Whether supervisord answers within ``hung_s``."""
        return await asyncio.to_thread(self.client.is_up, self._settings.hung_s)

    async def read_all(self, lane: Lane = Lane.OPERATOR, limit_s: float = GLANCE_S) -> Sequence[ProcessInfo]:
        """Every process that supervisord knows. Raises ``SupervisordDown``.

        ``limit_s`` bounds the wait in the lane GLANCE alone; the others wait as long as a call may take.
        """
        asked = now_ticks()
        try:
            if lane is Lane.GLANCE:
                infos = await self._read_shared(limit_s)
                # The question that this one shared was asked earlier.
                asked = self._glance_ticks
            elif lane is Lane.OPERATOR:
                infos = await self._for_operator(self.client.read_processes)
            else:
                infos = await asyncio.to_thread(self.client.read_processes)
        except SupervisordDown as error:
            if (identity := self.process.identity) is not None and self._socket_age.read() is None:
                raise SupervisordDown(deaf_text(identity[0], self._settings.socket)) from error
            raise
        self.seen = Seen(infos, asked)
        return infos

    async def _read_shared(self, limit_s: float) -> list[ProcessInfo]:
        # By the time that this goes on, somebody else may have asked again.
        glance = self._glance
        if glance is None or glance.done():
            self._glance_ticks = now_ticks()
            glance = asyncio.get_running_loop().run_in_executor(self._glancer, self.client.read_processes)
            # Whoever asked may be gone by then.
            glance.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._glance = glance
        done, _ = await asyncio.wait({glance}, timeout=limit_s)
        if not done:
            raise SupervisordDown(f"no answer within {limit_s:g} s")
        return glance.result()

    async def read_named(self, wanted: Collection[tuple[str, str]]) -> list[ProcessInfo]:
        """Those of the processes ``wanted``, as (group, name), that supervisord knows. Raises ``SupervisordDown``."""
        return await self._for_operator(self.client.read_some, sorted(wanted)) if wanted else []

    async def glance_at(self, wanted: Collection[tuple[str, str]], limit_s: float = GLANCE_S) -> list[ProcessInfo]:
        """As ``read_named``, in the lane GLANCE. It is asked something in any case. Raises ``SupervisordDown``."""
        if not wanted:
            question: tuple[Callable[..., Any], Any] = self.client.call, ("getState", [])
        else:
            question = self.client.read_some, (sorted(wanted),)
        asked = asyncio.get_running_loop().run_in_executor(self._glancer, question[0], *question[1])
        # Whoever asked may be gone by then.
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait({asked}, timeout=limit_s)
        if not done:
            raise SupervisordDown(f"no answer within {limit_s:g} s")
        return list(asked.result()) if wanted else []

    async def call(self, method: str, params: Sequence[Any]) -> Any:
        """One call for an operator; what supervisord refuses is a ``Fault``. Raises ``SupervisordDown``."""
        return await self._for_operator(self.client.call, method, params)

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Several calls of an operator's command in one request. Raises ``SupervisordDown``."""
        limit = self._settings.rpc_timeout_s + SPAWN_S * len(calls)
        return await self._for_operator(self.client.batch, calls, limit)

    async def _for_operator(self, function: Callable[..., T], *words: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._operators, function, *words)

    async def wait_loaded(self) -> None:
        """Waits for the end of an operator's call that starts something, ``hung_s`` at most.

        One that takes longer goes down with the supervisord that does not answer it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.hung_s), self.loading:
                pass

    # ---- its own process ----------------------------------------------------------------------------------

    def freeze(self) -> bool:
        """Keeps a supervisord that hangs from starting anything (SIGSTOP) while its programs are ended without it.

        Says whether there is one. ``end`` must follow.
        """
        self.note_process()
        self.process.send(signal.SIGSTOP)
        return self.process.is_alive

    async def wait_shutdown(self, limit_s: float) -> None:
        """Waits for the end of a shutdown of supervisord's, ``limit_s`` at most: its process ends, or has begun again.

        A reload begins again within the same process (supervisor's ``supervisord.main``).
        """
        clock = asyncio.get_running_loop().time
        until = clock() + limit_s
        while (identity := self.process.identity) is not None and (left_s := until - clock()) > 0:
            if await self._table.wait_ended([identity[0]], min(left_s, SHUTDOWN_LOOK_S)):
                return
            if await asyncio.to_thread(self.client.works, self._settings.hung_s):
                return

    async def end(self) -> None:
        """Kills supervisord and waits for its end. systemd starts it again."""
        if (identity := self.process.identity) is not None:
            log.error("supervisord (pid %d) hangs and is ended", identity[0])
            self.process.send(signal.SIGKILL)
            await self._table.wait_ended([identity[0]], END_LIMIT_S)

    def close(self) -> None:
        """Lets go of supervisord's process and of the threads."""
        self.process.close()
        self._glancer.shutdown(wait=False, cancel_futures=True)
        self._operators.shutdown(wait=False, cancel_futures=True)
