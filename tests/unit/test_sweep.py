"""The sweep ends what is left of the registry, also what forks, ignores TERM, or belongs to a supervisord that is gone."""

from __future__ import annotations

import pathlib
import signal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.adapters.procs import Lineage
from tests.unit.fakes_programs import Machine, info
from tests.unit.timeless import run_timeless

TERM, KILL, STOP = signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP


def test_one_that_heeds_term_is_not_killed(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        pid = machine.table.add("web")
        assert await machine.sweeper.sweep() == []
        assert machine.table.received(pid) == [TERM]

    run_timeless(main())


def test_one_that_ignores_term_is_killed_after_the_grace(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        pid = machine.table.add("web", ignores=frozenset({TERM}))
        assert await machine.sweeper.sweep() == []
        assert machine.table.received(pid) == [TERM, STOP, KILL]

    run_timeless(main())


def test_one_that_forks_while_it_is_swept_is_stopped_first_and_nothing_is_left(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.table.add("web", forks=True, ignores=frozenset({TERM}))
        assert await machine.sweeper.sweep() == []
        assert machine.table.live == {}
        killed = [pid for pid, number in machine.table.signals if number is KILL]
        first_kill = machine.table.signals.index((killed[0], KILL))
        assert {pid for pid, n in machine.table.signals[:first_kill] if n is STOP} >= set(killed), "killed while others fork"

    run_timeless(main())


def test_what_cannot_be_ended_is_named(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        pid = machine.table.add("web", ignores=frozenset({TERM, KILL}))
        machine.table.add("web", "other")
        assert [p.pid for p in await machine.sweeper.sweep()] == [pid]

    run_timeless(main())


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["web", "db", "local"]), st.booleans(), st.booleans(), st.booleans()), max_size=6))
def test_whatever_is_of_the_registry_ends_or_is_named_and_nothing_else_is_touched(
    tmp_path: pathlib.Path, rows: list[tuple[str, bool, bool, bool]]
) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "db"])
        for group, forks, stubborn, immortal in rows:
            ignores = frozenset({TERM} if stubborn else ()) | frozenset({TERM, KILL} if immortal else ())
            machine.table.add(group, forks=forks and group != "local", ignores=ignores)
        local = {pid for pid, r in machine.table.live.items() if r.marked.group == "local"}
        left = {p.pid for p in await machine.sweeper.sweep()}
        assert machine.table.live.keys() == left | local
        assert not local & {pid for pid, _ in machine.table.signals}

    run_timeless(main())


def test_only_orphans_of_an_earlier_supervisord_are_ended_before_a_takeover(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        old, new = machine.table.add("web", ticks=50), machine.table.add("web", ticks=150)
        child = machine.table.add("web", ticks=160, parent=old)
        assert {p.pid for p in await machine.sweeper.find_orphans()} == {old, child}
        assert await machine.sweeper.end_orphans() == []
        assert machine.table.live.keys() == {new}
        machine.watch.found = None
        assert [p.pid for p in await machine.sweeper.find_orphans()] == [new], "without a supervisord all are orphans"

    run_timeless(main())


def test_of_the_named_processes_alone_the_rest_is_ended(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        chosen, other = machine.table.add("web", "one"), machine.table.add("web", "two")
        assert await machine.sweeper.end_named({("web", "one")}, []) == []
        assert (chosen in machine.table.live, other in machine.table.live) == (False, True)

    run_timeless(main())


def test_a_supervisord_that_shuts_down_has_its_programs_told_at_once(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web", "db"])
        pids = {machine.table.add("web"), machine.table.add("db"), machine.table.add("web", ignores=frozenset({TERM}))}
        await machine.sweeper.hurry_shutdown()
        assert set(machine.table.signals) == {(pid, TERM) for pid in pids}

    run_timeless(main())


def test_the_lineage_spares_what_is_not_of_the_registry(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.table.leaders = {77}
        machine.supervised.note_process()
        machine.supervisord.processes = [info("web", "one", pid=5), info("local", pid=6), info("web", "two", "STOPPED")]
        await machine.supervised.read_all()
        assert machine.sweeper.lineage == Lineage(frozenset({77}), {5: ("web", "one")}, frozenset({6}))

    run_timeless(main())
