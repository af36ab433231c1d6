"""Loading, stopping and unloading all of the registry's groups: only these are touched, and what is refused is named."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from ha_agent.adapters.supervisord import Fault, RereadRefused, SupervisordDown
from ha_agent.core.order_keys import OrderKeys
from ha_agent.core.start_plan import Known, plan_start
from ha_agent.daemon.programs.loader import FIRST_GROUPS, StopOrder, Verified, culprit_of
from tests.unit.fakes_programs import Machine, info
from tests.unit.timeless import run_timeless


@pytest.mark.parametrize(
    ("message", "name"),
    [("Error in section (file: '/run/x/a%2Fb.conf')", "a%2Fb.conf"), ("file: 'a.conf' and more", "a.conf"), ("why", None)],
)
def test_the_parser_blames_a_file_by_its_name(message: str, name: str | None) -> None:
    assert culprit_of(message) == name


def test_the_registrys_groups_are_added_in_their_order_the_first_ones_with_the_reread(tmp_path: pathlib.Path) -> None:
    order = [f"g{number:02}" for number in range(FIRST_GROUPS + 3)]

    async def main() -> None:
        machine = Machine(tmp_path, order)
        machine.supervisord.configured = {g: [info(g, state="STARTING")] for g in [*order, "local"]}
        assert await machine.loader.load([*order, "local"], False) == []
        assert machine.supervisord.said("addProcessGroup") == order
        assert len(machine.supervisord.limits) >= 2 and machine.supervisord.calls[0][0] == "reloadConfig"
        assert machine.supervisord.said("startProcess") == [], "supervisord starts what it loads by itself"

    run_timeless(main())


def test_a_reread_that_is_refused_is_told_with_supervisords_own_words(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.supervisord.reread_refused = "file: 'x.conf'"
        with pytest.raises(RereadRefused, match=r"x\.conf"):
            await machine.loader.load(["web"], False)

    run_timeless(main())


def test_a_refused_group_is_told_where_it_is_new(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "db"])
        machine.supervisord.configured = {g: [info(g)] for g in ("web", "db")}
        machine.supervisord.processes = [info("db")]
        machine.supervisord.refuses = {"addProcessGroup web": Fault(50, "no")}
        assert await machine.loader.load(["web", "db"], False) == ["no"], "what is loaded already is no refusal"

    run_timeless(main())


@pytest.mark.parametrize(("start_all", "started"), [(False, ["db:db"]), (True, ["web:web", "db:db"])])
def test_what_supervisord_does_not_start_by_itself(tmp_path: pathlib.Path, start_all: bool, started: list[str]) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "db"])
        machine.supervisord.configured = {"web": [info("web", state="STOPPED")], "db": []}
        machine.supervisord.processes = [info("db", state="STOPPED"), info("local", state="STOPPED")]
        await machine.loader.load(["web", "db"], start_all)
        assert sorted(machine.supervisord.said("startProcess")) == sorted(started)

    run_timeless(main())


def test_a_group_that_changed_while_it_was_loaded_is_loaded_again_and_a_local_one_is_not(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.supervisord.configured = {"web": [info("web")], "local": [info("local")]}
        machine.supervisord.processes = [info("web"), info("local")]
        machine.supervisord.changed = ["web", "local"]
        await machine.loader.load(["web"], False)
        assert [c for c in machine.supervisord.calls if c[1] == "web"][1:4] == [
            ("stopProcessGroup", "web"),
            ("removeProcessGroup", "web"),
            ("addProcessGroup", "web"),
        ]
        assert not any(name == "local" for _, name in machine.supervisord.calls)

    run_timeless(main())


@pytest.mark.parametrize(
    ("process", "wanted"),
    [
        (info("web"), Verified(1, {}, 0, 0)),
        (info("web", state="STARTING"), Verified(0, {}, 1, 0)),
        (info("web", state="BACKOFF"), Verified(0, {}, 1, 0)),
        (info("web", state="FATAL", spawn_error="no such file"), Verified(0, {"web": "no such file"}, 0, 0)),
        (info("web", state="EXITED", exit_status=3), Verified(0, {"web": "EXITED, exit status 3"}, 0, 0)),
        (info("web", state="STOPPED", started=0), Verified(0, {}, 0, 1)),
        (info("web", state="STOPPED", started=9), Verified(0, {"web": "STOPPED, exit status 0"}, 0, 0)),
        (info("web", state="UNKNOWN", started=0), Verified(0, {"web": "UNKNOWN, exit status 0"}, 0, 0)),
        (info("idle", state="EXITED", started=0), Verified(0, {}, 0, 1)),
        (info("local", state="FATAL"), Verified(0, {}, 0, 0)),
    ],
)
def test_what_a_look_at_a_process_finds(tmp_path: pathlib.Path, process: object, wanted: Verified) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "idle"])
        machine.supervisord.processes = [process]  # type: ignore[list-item]
        assert await machine.loader.verify(frozenset({"idle"})) == wanted

    run_timeless(main())


def test_a_stop_tells_every_process_of_the_registry_at_once_and_no_other(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "db"])
        pids = [machine.run("web"), machine.run("db"), machine.run("local")]
        machine.supervisord.processes.append(info("web", "idle", "STOPPED"))
        await machine.loader.stop()
        assert machine.supervisord.said("stopProcess") == ["web:web", "db:db"]
        assert machine.table.live.keys() == {pids[2]}

    run_timeless(main())


def in_order(*, may_wait: Callable[[], bool] = lambda: True) -> StopOrder:
    """The other way round of: b after a, c after b."""
    keys = {"program:b": OrderKeys(("a",)), "program:c": OrderKeys(("b",))}
    known = Known({name: (name,) for name in "abcd"}, {})
    return StopOrder(plan_start(keys, known, 30.0, "start"), 10.0, may_wait)


def test_a_stop_in_order_waits_for_what_needs_the_others_and_for_nothing_else(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, "abcd")
        for name in "abc":
            machine.run(name)
        machine.run("d", ignores=frozenset({signal.SIGTERM}))
        stopping = asyncio.ensure_future(machine.loader.stop(in_order()))
        await asyncio.sleep(1.0)
        assert machine.supervisord.said("stopProcess") == ["c:c", "d:d", "b:b", "a:a"]
        assert not stopping.done(), "d is waited for at the end, as without an order"
        await stopping

    run_timeless(main())


@pytest.mark.parametrize("why", ["its time is over", "nobody waits for it any more"])
def test_an_order_of_stops_never_makes_the_whole_longer(tmp_path: pathlib.Path, why: str) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, "abc")
        machine.run("c", ignores=frozenset({signal.SIGTERM}))
        machine.run("b"), machine.run("a")
        clock = asyncio.get_running_loop().time
        began, limit_s = clock(), 10.0 if why == "its time is over" else 4.0
        may_wait = in_order() if limit_s == 10.0 else in_order(may_wait=lambda: clock() - began < limit_s)
        stopping = asyncio.ensure_future(machine.loader.stop(may_wait))
        await asyncio.sleep(limit_s - 0.5)
        assert machine.supervisord.said("stopProcess") == ["c:c"]
        await asyncio.sleep(1.0)
        assert sorted(machine.supervisord.said("stopProcess")) == ["a:a", "b:b", "c:c"]
        await stopping
        assert clock() - began == pytest.approx(machine.release.stop_timeout_s, abs=0.6)

    run_timeless(main())


@pytest.mark.parametrize("when", ["at once", "while it stops", "when it was told"])
def test_a_supervisord_that_hangs_is_told_and_nobody_waits_for_it(tmp_path: pathlib.Path, when: str) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.run("web", ignores=frozenset({signal.SIGTERM}))
        machine.supervisord.down = "no answer" if when == "at once" else None
        machine.supervisord.down_at = "stopProcess" if when == "when it was told" else None
        on_stop = machine.supervisord.on_stop

        def stop_and_hang(process: object) -> str:
            machine.supervisord.down = "no answer"
            return on_stop(process)  # type: ignore[arg-type]

        machine.supervisord.on_stop = stop_and_hang
        with pytest.raises(SupervisordDown):
            await machine.loader.stop()

    run_timeless(main())


def test_a_stop_without_end_is_left_to_the_sweep(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        pid = machine.run("web", ignores=frozenset({signal.SIGTERM}))
        await machine.loader.stop()
        assert pid in machine.table.live

    run_timeless(main())


def test_an_unload_forgets_the_registrys_groups_and_says_which_supervisord_keeps(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "gone"])
        machine.supervisord.processes = [info("web", state="STOPPED"), info("local")]
        machine.supervisord.reread_refused = "another conf is bad"
        await machine.loader.unload()
        assert [i.group for i in machine.supervisord.processes] == ["local"]
        assert machine.supervisord.said("getAllProcessInfo") == [], "that takes as long as all programs take to describe"

    run_timeless(main())


def test_an_unload_waits_for_supervisord_to_notice_an_end(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.supervisord.processes = [info("web", state="STOPPING")]
        batch, rounds = machine.supervisord.batch, []

        def notice(*words: object) -> object:
            rounds.append(words)
            if len(rounds) == 3:
                machine.supervisord.processes = [replace(i, state="STOPPED") for i in machine.supervisord.processes]
            return batch(*words)  # type: ignore[arg-type]

        machine.supervisord.batch = notice  # type: ignore[assignment]
        await machine.loader.unload()
        assert machine.supervisord.processes == []

    run_timeless(main())
