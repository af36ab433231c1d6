"""Something happens at a chosen moment: while one of the tasks of a loop waits.

What a task has read before an ``await`` may be otherwise after it. A test that goes through all moments of a piece of work,
one run a moment, has tried every one of its awaits, those of the tasks that it starts included, without naming any.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Moments:
    """Counts the moments at which a task of ``loop`` begins to wait, from ``begin`` on, and calls ``act`` at one of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.count = 0
        self.acted = False
        self._at = -1
        self._act: Callable[[], None] = lambda: None
        loop.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def begin(self, at: int, act: Callable[[], None]) -> None:
        """Counts from here on; ``act`` is called at moment ``at``, the first being 0."""
        self.count, self.acted, self._at, self._act = 0, False, at, act

    def end(self) -> None:
        """Nothing is done any more."""
        self._at = -1

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        async def watched() -> Any:
            return await self._step(work)

        return asyncio.Task(watched(), loop=loop, **more)

    @types.coroutine
    def _step(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step, value = work.send, None
        while True:
            try:
                waited = step(value)
            except StopIteration as done:
                return done.value
            self._pass()
            try:
                value, step = (yield waited), work.send
            except BaseException as error:  # noqa: BLE001 - whatever is thrown into the task is its own
                value, step = error, work.throw

    def _pass(self) -> None:
        number, self.count = self.count, self.count + 1
        if number == self._at:
            self.acted = True
            self._act()
