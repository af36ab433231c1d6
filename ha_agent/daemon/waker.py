"""What wakes the role loop. Everybody may: a wake-up too many costs one look, and one too few a delay."""

from __future__ import annotations

import asyncio
import contextlib


class Waker:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Has the rules asked again soon."""
        self._event.set()

    def wake_at(self, moment_mono: float) -> None:
        """Has the rules asked again at ``moment_mono`` of the loop's clock."""
        self._loop.call_at(moment_mono, self._event.set)

    def wake_from_thread(self) -> None:
        """As ``wake``, from any thread, also when the loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Waits for the next call, or returns at once where one came since the last wait."""
        await self._event.wait()
        self._event.clear()
