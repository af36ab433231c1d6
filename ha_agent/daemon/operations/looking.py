"""A thread of its own for what those who only look have read: files of any size, as often as they like.

A release, a commit and supervisord's answers never wait behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Looking:
    """One thread, which is made when it is needed first."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "look")

    async def do(self, function: Callable[..., T], *words: object) -> T:
        """What ``function`` returns. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *words)
