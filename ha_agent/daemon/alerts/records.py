"""What alerts leave on the disk: the book of those that last, the recent notifications, and how far each sink is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from dataclasses import asdict

from ha_agent.adapters.alert_store import AlertStore, SinkState, Stored
from ha_agent.core.alerts import Book, Notification
from ha_agent.core.reasons import reason_of

log = logging.getLogger(__name__)

LISTED = 200
"""Recent notifications kept for `alert list`, whether or not they are delivered."""


class AlertRecords:
    """Of one node. ``queue_max``: how many notifications may wait for a sink."""

    def __init__(self, store: AlertStore, book: Book, sinks: Collection[str], queue_max: int) -> None:
        self._store = store
        self.book = book
        self.notes: list[Notification] = []
        """The newest last."""
        self.sinks = {name: SinkState(book.number) for name in sinks}
        self._sendable = 0
        """The newest notification that was written, or that the disk refused."""
        self._queue_max = queue_max
        self._saving = asyncio.Lock()
        self._saved: object = None

    def load(self) -> None:
        """Takes up what an agent before this one knew; begins again where that cannot be read."""
        try:
            stored = self._store.load()
        except OSError as error:
            stored = Stored(remark=f"alerts begin again: {reason_of(error)}")
        if stored.book is not None:
            try:
                self.book.load(stored.book)
            except (KeyError, ValueError, TypeError) as error:
                log.error("the book of alerts cannot be used, it begins again: %s", reason_of(error))
        if stored.remark:
            log.error("%s", stored.remark)
        self.notes = stored.notes
        # A book that begins again must not give a number that a sink has had: that sink would pass it over.
        used = [note.number for note in stored.notes] + [state.cursor for state in stored.sinks.values()]
        self.book.number = max([self.book.number, *used])
        self.sinks = {name: stored.sinks.get(name) or SinkState(self.book.number) for name in self.sinks}
        self._sendable = self.book.number

    def add(self, told: Iterable[Notification]) -> None:
        """Adds what is to be told."""
        self.notes += told

    def next_for(self, sink: str) -> Notification | None:
        """What ``sink`` is to have next. What is not written yet is not sent: a crash would send it again as another."""
        cursor = self.sinks[sink].cursor
        return next((note for note in self.notes if cursor < note.number <= self._sendable), None)

    async def save_if_changed(self) -> None:
        """Writes everything where the book says something else than what was written last."""
        told = frozenset((key, one.told_at) for key, one in self.book.open.items() if one.told_at is not None)
        signature = (self.book.number, told, len(self.book.to_dict()["waiting"]))
        if signature != self._saved:
            self._saved = signature
            await self.save()

    async def save(self) -> None:
        """Writes everything. A full disk costs what a crash would lose, not the alerts."""
        async with self._saving:
            self._trim()
            notes = [note.to_dict() for note in self.notes]
            sinks = {name: asdict(state) for name, state in self.sinks.items()}
            newest = self.book.number
            try:
                await asyncio.to_thread(self._store.save, self.book.to_dict(), notes, sinks)
            except OSError as error:
                log.error("alerts cannot be saved; after a crash some would be told again: %s", reason_of(error))
                self._saved = None
            self._sendable = max(self._sendable, newest)

    def _trim(self) -> None:
        """Keeps what is listed, and what waits for a sink up to ``queue_max``; what is dropped is counted."""
        oldest = self.notes[-LISTED].number if len(self.notes) > LISTED else 0
        waiting = min((state.cursor for state in self.sinks.values()), default=self.book.number) + 1
        first = max(min(oldest, waiting), self.book.number - max(self._queue_max, LISTED) + 1)
        self.notes = [note for note in self.notes if note.number >= first]
        for state in self.sinks.values():
            if state.cursor < first - 1:
                state.dropped += first - 1 - state.cursor
                state.cursor = first - 1
