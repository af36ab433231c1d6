"""Asking supervisord: whoever hangs on it holds up its own lane alone; and its process is noted, frozen and ended."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import threading

import pytest

from ha_agent.adapters.supervisord import ProcessInfo, SupervisordDown
from ha_agent.core.kinship import Marked
from ha_agent.daemon.programs.supervised import OPERATOR_WORKERS, SPAWN_S, Lane, Supervised
from tests.unit.fakes_programs import Machine, MemorySupervisord, Running, info
from tests.unit.timeless import run_timeless


class HangingSupervisord(MemorySupervisord):
    """Answers nobody until ``go_on``, except what is asked while ``free``."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.free = False
        self.questions = 0

    def read_processes(self) -> list[ProcessInfo]:
        """Hangs."""
        self.questions += 1
        if not self.free:
            self.go_on.wait(5)
        return super().read_processes()


def hang(tmp_path: pathlib.Path) -> tuple[Supervised, HangingSupervisord]:
    machine, client = Machine(tmp_path), HangingSupervisord()
    client.processes = [info("web")]
    machine.supervisord = client
    machine.socket.touch()
    return machine.supervise(), client


@pytest.mark.parametrize(
    ("held_up", "count", "others"),
    [
        (Lane.GLANCE, 3, [Lane.OPERATOR, Lane.WORK]),
        (Lane.OPERATOR, OPERATOR_WORKERS + 3, [Lane.GLANCE, Lane.WORK]),
    ],
)
def test_a_lane_that_hangs_holds_up_itself_alone(
    tmp_path: pathlib.Path, held_up: Lane, count: int, others: list[Lane]
) -> None:
    async def main() -> None:
        supervised, client = hang(tmp_path)
        waiting = [asyncio.ensure_future(supervised.read_all(held_up, 9.0)) for _ in range(count)]
        await asyncio.sleep(0.01)
        client.free = True
        for lane in others:
            assert [i.group for i in await asyncio.wait_for(supervised.read_all(lane, 9.0), 5)] == ["web"]
        assert not any(question.done() for question in waiting)
        client.go_on.set()
        await asyncio.gather(*waiting)
        supervised.close()

    asyncio.run(main())


def test_all_who_glance_share_one_question_and_none_waits_for_longer_than_it_said(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        supervised, client = hang(tmp_path)
        for _ in range(3):
            with pytest.raises(SupervisordDown, match="no answer within"):
                await supervised.read_all(Lane.GLANCE, 0.005)
        assert client.questions == 1
        client.go_on.set()
        assert [i.group for i in await supervised.read_all(Lane.GLANCE, 9.0)] == ["web"]
        await supervised.read_all(Lane.GLANCE, 9.0)
        assert client.questions == 2, "an answered question is asked anew"
        supervised.close()

    asyncio.run(main())


@pytest.mark.parametrize("lane", list(Lane))
def test_every_lane_says_that_supervisord_is_down_and_remembers_what_it_said_last(
    tmp_path: pathlib.Path, lane: Lane
) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.supervisord.processes = [info("web")]
        await machine.supervised.read_all(lane)
        machine.supervisord.down = "no socket"
        with pytest.raises(SupervisordDown):
            await machine.supervised.read_all(lane)
        assert [i.group for i in machine.supervised.seen.infos] == ["web"]

    run_timeless(main())


def test_nothing_is_asked_about_nothing_and_a_batch_gets_more_time_the_longer_it_is(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        assert await machine.supervised.read_named([]) == []
        await machine.supervised.batch([("addProcessGroup", ["x"])] * 100)
        assert machine.supervisord.limits == [machine.settings.rpc_timeout_s + 100 * SPAWN_S]
        assert await machine.supervised.is_up()

    run_timeless(main())


def test_a_new_socket_is_a_new_life_of_the_same_process_and_a_lost_one_is_not(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.supervised.note_process()
        first = machine.supervised.life
        assert first is not None and first[:2] == (77, 100) and machine.supervised.began_ticks == 100
        machine.socket.touch()
        machine.supervised.note_process()
        second = machine.supervised.life
        assert second is not None and second.age and not first.is_other_than(second), (
            "an age that was not known says nothing"
        )
        machine.socket.rename(tmp_path / "elsewhere")
        machine.supervised.note_process()
        assert machine.supervised.life == second
        machine.socket.touch()
        machine.supervised.note_process()
        third = machine.supervised.life
        assert third is not None and second.is_other_than(third)
        assert machine.supervised.began_ticks is not None and machine.supervised.began_ticks > 100
        machine.watch.found = (88, 200)
        machine.supervised.note_process()
        assert third.is_other_than(machine.supervised.life) and machine.table.noted[-1] == (88, 200)
        machine.watch.found = None
        machine.supervised.note_process()
        assert machine.supervised.life is None and machine.supervised.began_ticks is None

    run_timeless(main())


def test_a_supervisord_that_lives_without_its_socket_is_said_to_be_so(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        machine.supervisord.down = "no such file"
        with pytest.raises(SupervisordDown, match=r"its socket is gone: .* supervisord .pid 77. runs on"):
            await machine.supervised.read_all(Lane.GLANCE)
        machine.socket.touch()
        with pytest.raises(SupervisordDown, match="no such file"):
            await machine.supervised.read_all(Lane.GLANCE)

    run_timeless(main())


def test_a_supervisord_that_hangs_is_stopped_and_then_killed(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        assert machine.supervised.freeze()
        await machine.supervised.end()
        await machine.supervised.wait_shutdown(1.0)
        assert machine.watch.sent == [signal.SIGSTOP, signal.SIGKILL]
        machine.watch.found = None
        assert not machine.supervised.freeze()
        await machine.supervised.end()
        await machine.supervised.wait_shutdown(1.0)
        assert machine.watch.sent.count(signal.SIGKILL) == 1

    run_timeless(main())


@pytest.mark.parametrize(
    ("anew_s", "ended_s", "waited_s"), [(2.0, None, 2.0), (None, 3.0, 3.0), (None, None, 60.0), (0.0, None, 0.0)]
)
def test_a_shutdown_is_over_where_supervisord_begins_anew_within_its_process(
    tmp_path: pathlib.Path, anew_s: float | None, ended_s: float | None, waited_s: float
) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        loop = asyncio.get_running_loop()
        machine.table.live[77] = Running(Marked(77, 1, 100, "supervisord", "supervisord"))
        machine.supervisord.shuts_down = True
        if anew_s is not None:
            loop.call_later(anew_s, setattr, machine.supervisord, "shuts_down", False)
        if ended_s is not None:
            loop.call_later(ended_s, machine.table.live.pop, 77)
        began = loop.time()
        await machine.supervised.wait_shutdown(60.0)
        assert waited_s <= loop.time() - began <= waited_s + 0.5

    run_timeless(main())


@pytest.mark.parametrize(("takes_s", "waited_s"), [(2.0, 2.0), (60.0, 5.0)])
def test_a_release_waits_for_a_start_that_is_under_way_but_not_for_ever(
    tmp_path: pathlib.Path, takes_s: float, waited_s: float
) -> None:
    async def main() -> None:
        machine, loop = Machine(tmp_path), asyncio.get_running_loop()

        async def start() -> None:
            async with machine.supervised.loading:
                await asyncio.sleep(takes_s)

        starting = asyncio.ensure_future(start())
        await asyncio.sleep(0)
        began = loop.time()
        await machine.supervised.wait_loaded()
        assert loop.time() - began == pytest.approx(waited_s)
        starting.cancel()

    run_timeless(main())
