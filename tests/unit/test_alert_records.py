"""What alerts leave on the disk, and what is brought to the sinks: in order, at most once, and nothing lost unsaid."""

from __future__ import annotations

import asyncio
import errno
import json
import pathlib
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ha_agent.adapters.alert_store import AlertStore, SinkState, Stored
from ha_agent.adapters.runner import Ended, ProgramMissing
from ha_agent.core.alerts import Book, Condition, Kind, Moment, Notification
from ha_agent.core.faults import Urgency
from ha_agent.core.settings import SinkSettings
from ha_agent.daemon.alerts.delivery import FAILURES, NEVER, OLD_S, RETRY_FIRST_S, RETRY_MAX_S, Delivery
from ha_agent.daemon.alerts.records import LISTED, AlertRecords

NOW = 1_000_000.0


class MemoryStore(AlertStore):
    """The file, as a value; ``full``: the disk takes nothing more."""

    def __init__(self) -> None:
        super().__init__("/nonexistent")
        self.content: str | None = None
        self.full = False
        self.saves = 0

    def load(self) -> Stored:
        if self.content is None:
            return Stored()
        raw = json.loads(self.content)
        notes = [Notification.from_dict(row) for row in raw["notes"]]
        return Stored(raw["book"], notes, {name: SinkState(**row) for name, row in raw["sinks"].items()})

    def save(self, book: Mapping[str, Any], notes: list[dict[str, Any]], sinks: Mapping[str, dict[str, Any]]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.saves += 1
        self.content = json.dumps({"book": book, "notes": notes, "sinks": sinks})


def sink(**values: Any) -> SinkSettings:
    return SinkSettings(kind="command", **values)


def note(number: int, at: float = NOW, severity: Urgency = Urgency.WARNING) -> Notification:
    return Notification(number, at, "a", Kind.MOMENT, "stalled", severity, ("a",), f"note {number}", "", at, {})


def make(store: AlertStore, *sinks: str, queue_max: int = 1000) -> AlertRecords:
    records = AlertRecords(store, Book("a", 100.0), sinks, queue_max)
    records.load()
    return records


def add(records: AlertRecords, count: int) -> None:
    """Adds so many moments: each is a notification of its own."""
    for _ in range(count):
        records.book.number += 1
        records.add([note(records.book.number)])


async def tell(records: AlertRecords, count: int = 1) -> None:
    """Adds so many moments, and writes them."""
    add(records, count)
    await records.save()


# ---- records --------------------------------------------------------------------------------------------------


def test_what_is_saved_is_taken_up_by_the_next_agent(tmp_path: pathlib.Path) -> None:
    records = make(AlertStore(str(tmp_path)), "mail")
    records.add(records.book.step([Condition("program-fatal", "web", "web is FATAL")], [], NOW))
    records.sinks["mail"].delivered, records.sinks["mail"].cursor = 1, 1
    asyncio.run(records.save())
    again = make(AlertStore(str(tmp_path)), "mail", "pager")
    assert again.notes == records.notes and again.book.to_dict() == records.book.to_dict()
    assert again.sinks["mail"] == SinkState(1, 1)
    assert again.sinks["pager"].cursor == 1, "a sink that is new is not told what was before"


def test_a_sink_that_is_no_longer_configured_is_forgotten(tmp_path: pathlib.Path) -> None:
    store = AlertStore(str(tmp_path))
    asyncio.run(make(store, "mail", "pager").save())
    assert set(make(store, "mail").sinks) == {"mail"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"version": 9}', b"\xff", b'{"version": 1, "book": {}, "notes": [{}]}'])
def test_a_damaged_file_is_put_aside_and_alerts_begin_anew(tmp_path: pathlib.Path, raw: bytes) -> None:
    (tmp_path / "alerts.json").write_bytes(raw)
    records = make(AlertStore(str(tmp_path)), "mail")
    assert records.notes == [] and records.book.number == 0
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [raw]
    asyncio.run(records.save())
    assert (tmp_path / "alerts.json").exists()


def test_a_file_that_cannot_be_read_does_not_keep_the_agent_from_starting(tmp_path: pathlib.Path) -> None:
    (tmp_path / "alerts.json").mkdir()
    assert make(AlertStore(str(tmp_path)), "mail").notes == []


BOOKS = st.fixed_dictionaries(
    {
        "number": st.sampled_from([0, 3, 57, None, "x", -4]),
        "open": st.sampled_from([[], None, [{"code": "stalled"}], [{"code": "program-fatal", "subject": "x"}]]),
        "waiting": st.sampled_from([[], 3, [{"code": "stalled"}]]),
        "last_told": st.sampled_from([[], [["begin"]]]),
    }
)


@settings(max_examples=40, deadline=None)
@given(BOOKS | st.just({}), st.integers(0, 60), st.integers(0, 60))
def test_whatever_the_book_was_what_is_told_from_now_on_has_a_number_that_no_sink_has_seen(
    book: dict[str, Any], cursor: int, newest: int
) -> None:
    """A book that cannot be used stands beside sinks that were told of much: numbers go on, so all is delivered."""
    store = MemoryStore()
    notes = [note(newest).to_dict()] if newest else []
    store.content = json.dumps({"book": book, "notes": notes, "sinks": {"mail": {"cursor": cursor}}})
    records = make(store, "mail")
    told = records.book.step([], [Moment("stalled", "a", "did nothing")], NOW)
    assert min(n.number for n in told) > max(cursor, newest)


def test_nothing_is_written_again_that_has_not_changed_and_what_the_disk_refused_is_tried_again() -> None:
    store = MemoryStore()
    records = make(store, "mail")
    fatal = [Condition("program-fatal", "web", "web is FATAL")]

    async def main() -> None:
        await records.save_if_changed()
        records.add(records.book.step(fatal, [], NOW))
        store.full = True
        await records.save_if_changed()
        assert store.saves == 1
        store.full = False
        for _ in range(3):
            records.book.step(fatal, [], NOW + 1)
            await records.save_if_changed()
        assert store.saves == 2
        records.add(records.book.step([], [], NOW + 50))
        await records.save_if_changed()
        assert store.saves == 3, "the end of an alert is a change"

    asyncio.run(main())
    assert make(store, "mail").notes == records.notes


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([0, 100, 250, 400]),
    st.sampled_from([10, 210, 300]),
    st.fixed_dictionaries({"x": st.integers(0, 400), "y": st.just(400)}) | st.just({}),
)
@example(400, 210, {"x": 100, "y": 400})
def test_what_waits_for_a_sink_is_kept_up_to_the_limit_and_what_is_dropped_is_counted(
    count: int, queue_max: int, cursors: dict[str, int]
) -> None:
    records = make(MemoryStore(), *cursors, queue_max=queue_max)
    add(records, count)
    for name, cursor in cursors.items():
        records.sinks[name].cursor = min(cursor, count)
    asyncio.run(records.save())
    numbers = [n.number for n in records.notes]
    assert numbers == list(range(count - len(numbers) + 1, count + 1)), "only the oldest go"
    assert len(numbers) >= min(count, LISTED)
    assert len(numbers) <= max(queue_max, LISTED)
    for name, cursor in cursors.items():
        before, state = min(cursor, count), records.sinks[name]
        assert state.cursor - before == state.dropped
        assert sum(n > state.cursor for n in numbers) == count - before - state.dropped


# ---- delivery -------------------------------------------------------------------------------------------------

Status = int | Exception | None


class Run:
    """Sinks that answer as they are told, and the pauses between two attempts, which take no time."""

    def __init__(
        self, records: AlertRecords, sinks: Mapping[str, SinkSettings], statuses: Mapping[str, list[Status]] | None = None
    ) -> None:
        self.records, self.sinks, self.statuses = records, sinks, dict(statuses or {})
        self.taken: list[tuple[str, int]] = []
        self.pauses: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.now = NOW
        self.names = {id(one): name for name, one in sinks.items()}
        self.gate = asyncio.Event()
        self.gate.set()
        self.delivery = Delivery(sinks, records, self.begin, lambda: self.now, self.send, self.wait)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.get_running_loop().create_task(work))
        return self.tasks[-1]

    async def send(self, one: SinkSettings, sent: Notification) -> Ended:
        name = self.names[id(one)]
        await self.gate.wait()
        waiting = self.statuses.get(name, [])
        status = waiting.pop(0) if waiting else 0
        if isinstance(status, Exception):
            raise status
        if status == 0:
            self.taken.append((name, sent.number))
        return Ended(status, "", "Traceback\nthe last line")

    async def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def numbers(self, name: str) -> list[int]:
        return [number for taker, number in self.taken if taker == name]

    async def settle(self) -> None:
        """Lets everything come to rest: the file is written in a thread."""
        for _ in range(2000):
            await asyncio.sleep(0.0005)
            if all(state.cursor >= self.records.book.number for state in self.records.sinks.values()):
                return

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


STATUSES = st.lists(st.sampled_from([0, 1, NEVER, None, ProgramMissing("gone")]), max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), STATUSES, st.booleans()), max_size=4))
def test_each_sink_has_each_notification_in_order_and_once_however_often_it_fails(
    rounds: list[tuple[int, list[Status], bool]],
) -> None:
    """Attempts fail in every way, and agents end between two of them; what a sink refuses for good is counted."""
    store = MemoryStore()
    sinks = {"mail": sink(), "pager": sink()}

    async def main() -> None:
        records = make(store, *sinks)
        taken: dict[str, list[int]] = {"mail": [], "pager": []}
        run = Run(records, sinks)
        run.delivery.start()
        for count, statuses, restart in rounds:
            run.statuses["mail"] = list(statuses)
            await tell(records, count)
            run.delivery.wake()
            await run.settle()
            if restart:
                await run.stop()
                await records.save()
                for name in sinks:
                    taken[name] += run.numbers(name)
                records = make(store, *sinks)
                run = Run(records, sinks)
                run.delivery.start()
        await run.stop()
        for name in sinks:
            taken[name] += run.numbers(name)
            numbers, state = taken[name], records.sinks[name]
            assert numbers == sorted(set(numbers)), "out of order, or twice"
            assert state.delivered == len(numbers)
            assert state.delivered + state.dropped == records.book.number == state.cursor
        assert taken["pager"] == list(range(1, records.book.number + 1)), "a sink waits for no other"

    asyncio.run(main())


def test_a_sink_that_fails_is_asked_again_later_and_later_and_is_an_alert_itself() -> None:
    async def main() -> None:
        records = make(MemoryStore(), "mail")
        run = Run(records, {"mail": sink()}, {"mail": [1] * 12})
        await tell(records)
        seen: list[tuple[int, int]] = []
        original = run.delivery.conditions

        async def watch(seconds: float) -> None:
            run.pauses.append(seconds)
            seen.append((records.sinks["mail"].failures, len(original())))

        run.delivery = Delivery(run.sinks, records, run.begin, lambda: NOW, run.send, watch)
        run.delivery.start()
        await run.settle()
        assert run.pauses == [min(RETRY_MAX_S, RETRY_FIRST_S * 2**n) for n in range(12)]
        assert seen == [(n, int(n >= FAILURES)) for n in range(1, 13)]
        assert run.taken == [("mail", 1)] and run.delivery.conditions() == []
        assert records.sinks["mail"] == SinkState(1, 1)
        await run.stop()

    asyncio.run(main())


def test_what_a_sink_does_not_want_and_what_is_too_old_is_passed_over_and_only_the_latter_is_counted() -> None:
    async def main() -> None:
        records = make(MemoryStore(), "mail")
        run = Run(records, {"mail": sink(severity="critical")})
        records.book.number = 4
        records.add([note(1), note(2, severity=Urgency.CRITICAL), note(3, NOW - OLD_S - 1, Urgency.CRITICAL)])
        records.add([note(4, severity=Urgency.CRITICAL)])
        await records.save()
        assert run.delivery.count_waiting("mail") == 3
        run.delivery.start()
        await run.settle()
        assert run.numbers("mail") == [2, 4] and records.sinks["mail"].dropped == 1
        assert run.delivery.count_waiting("mail") == 0
        await run.stop()

    asyncio.run(main())


def test_a_defect_in_serving_one_sink_ends_neither_that_service_nor_another() -> None:
    async def main() -> None:
        records = make(MemoryStore(), "mail", "pager")
        run = Run(records, {"mail": sink(), "pager": sink()}, {"mail": [RuntimeError("a defect")]})
        await tell(records, 2)
        run.delivery.start()
        await run.settle()
        assert run.numbers("mail") == run.numbers("pager") == [1, 2]
        assert run.pauses == [RETRY_MAX_S]
        await run.stop()

    asyncio.run(main())


def test_a_delivery_under_way_comes_to_its_end_when_the_agent_stops_so_that_none_is_done_twice() -> None:
    async def main() -> None:
        store = MemoryStore()
        records = make(store, "mail")
        run = Run(records, {"mail": sink()})
        await tell(records)
        run.gate.clear()
        run.delivery.start()
        await asyncio.sleep(0.005)
        asyncio.get_running_loop().call_later(0.01, run.gate.set)
        await run.delivery.close()
        await run.stop()
        await records.save()
        assert run.numbers("mail") == [1]
        assert make(store, "mail").sinks["mail"].cursor == 1

    asyncio.run(main())


def test_a_delivery_under_way_is_not_cut_off_with_the_task_that_serves_its_sink() -> None:
    async def main() -> None:
        records = make(MemoryStore(), "mail")
        run = Run(records, {"mail": sink()})
        await tell(records)
        run.gate.clear()
        run.delivery.start()
        await asyncio.sleep(0.005)
        await run.stop()
        run.gate.set()
        await run.delivery.close()
        assert run.numbers("mail") == [1]

    asyncio.run(main())


@pytest.mark.parametrize("full", [False, True])
def test_nothing_is_sent_before_it_is_written_but_for_what_the_disk_refuses(full: bool) -> None:
    """A sink that is busy takes the next notification as soon as it can: an agent that is killed then would tell it anew."""

    async def main() -> None:
        store = MemoryStore()
        records = make(store, "mail")
        run = Run(records, {"mail": sink()})
        await tell(records)
        run.delivery.start()
        await run.settle()
        store.full = full
        records.add([note(2)])
        records.book.number = 2
        run.delivery.wake()
        await asyncio.sleep(0.02)
        assert run.numbers("mail") == [1]
        await records.save()
        run.delivery.wake()
        await run.settle()
        assert run.numbers("mail") == [1, 2]
        await run.stop()

    asyncio.run(main())


def test_what_the_sender_says_is_told_by_its_last_line_and_a_missing_sender_is_a_failure() -> None:
    async def main() -> None:
        one = sink()
        run = Run(make(MemoryStore(), "mail"), {"mail": one}, {"mail": [1, None, ProgramMissing("no python")]})
        assert await run.delivery.deliver(one, note(1)) == (1, "the last line")
        assert await run.delivery.deliver(one, note(1)) == (None, "the last line")
        assert await run.delivery.deliver(one, note(1)) == (1, "no python")

    asyncio.run(main())
