"""The agent's end of the keeper's socket: feeds it deadlines, and knows whether it is armed."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

from ha_agent.core.places import RunPlaces

ANSWER_S = 0.2
"""A keeper on this machine that takes longer is none to rely on."""

LONGEST_ANSWER = 1024


class KeeperFailed(Exception):
    """The keeper is not there, or did not do what was asked; the text says which."""


@dataclass(frozen=True, slots=True)
class KeeperState:
    """``word``: armed, lapsed or idle. ``deadline``: seconds of CLOCK_BOOTTIME, 0 for none. ``acts``: since its start."""

    word: str
    deadline: float
    acts: int
    is_locked: bool
    is_realtime: bool


class KeeperClient:
    """One connection, made again when it is lost. One message at a time."""

    def __init__(self, run_dir: str, watchdog_s: int = 0) -> None:
        """``watchdog_s``: of the machine's watchdog behind the keeper; 0 for none."""
        self._watchdog_s = watchdog_s
        self._path = RunPlaces(run_dir).keeper_socket
        self._sock: socket.socket | None = None

    async def arm(self, deadline: float, kill_path: str) -> None:
        """Has the keeper write to ``kill_path`` at ``deadline`` unless a newer one comes. Returns when its timer is set.

        Raises ``KeeperFailed``: then what it held before is held still, and no program may be started on the new deadline.
        """
        if self._watchdog_s:
            wanted = f"watchdog {self._watchdog_s}"
            if (said := await self._ask(wanted)) != wanted:
                raise KeeperFailed(f"the keeper: {said}")
        said = await self._ask(f"arm {deadline!r} {kill_path}")
        if said != f"armed {deadline!r}":
            raise KeeperFailed("the deadline had passed" if said == "lapsed" else f"the keeper: {said}")

    async def disarm(self) -> None:
        """Ends the deadline: nothing is left running. Raises ``KeeperFailed``."""
        if (said := await self._ask("disarm")) != "disarmed":
            raise KeeperFailed(f"the keeper: {said}")

    async def read_state(self) -> KeeperState:
        """How the keeper is. Raises ``KeeperFailed``."""
        words = (await self._ask("state")).split()
        try:
            _, word, deadline, acts, locked, realtime = words
            return KeeperState(word, float(deadline), int(acts), locked == "1", realtime == "1")
        except ValueError:
            raise KeeperFailed(f"the keeper said what is not understood: {words!r:.100}") from None

    def close(self) -> None:
        """Closes the connection; the deadline stays. Idempotent."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def _ask(self, message: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_S):
                sock = self._sock or self._connect()
                await loop.sock_sendall(sock, message.encode())
                said = await loop.sock_recv(sock, LONGEST_ANSWER)
        except TimeoutError:
            self.close()
            raise KeeperFailed(f"the keeper did not answer within {ANSWER_S:g} s") from None
        except asyncio.CancelledError:
            # Its answer would be taken for the next one's.
            self.close()
            raise
        except OSError as error:
            self.close()
            raise KeeperFailed(f"the keeper cannot be reached ({self._path}: {error.strerror})") from None
        if not said:
            self.close()
            raise KeeperFailed("the keeper has ended")
        return said.decode("utf-8", "replace")

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self._sock = sock
        return sock
