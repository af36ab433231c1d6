"""A part on which no role depends is told and started again where it fails."""

from __future__ import annotations

import asyncio
import pathlib

from ha_agent.daemon.parts import keep_running
from tests.unit.fakes_replication import TestEvents
from tests.unit.timeless import run_timeless


def test_a_part_that_fails_is_told_and_begun_again_after_growing_pauses(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        begun: list[float] = []
        loop = asyncio.get_running_loop()

        async def work() -> None:
            begun.append(loop.time())
            await asyncio.sleep(0)
            if len(begun) < 5:
                raise KeyError("a defect")

        events = TestEvents(tmp_path, "alfa")
        await keep_running("replication", work, events)
        assert [round(at - begun[0]) for at in begun] == [0, 1, 3, 7, 15]
        assert events.codes == ["part-failed"] * 4
        assert events.seen[0]["text"] == "replication failed (KeyError: 'a defect'); it is started again"

    run_timeless(main())


def test_a_part_that_is_cancelled_ends(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        events = TestEvents(tmp_path, "alfa")
        task = asyncio.ensure_future(keep_running("replication", asyncio.Event().wait, events))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() and events.codes == []

    run_timeless(main())
