"""The sweep ends what is left of the registry, also what forks, ignores TERM, or belongs to a supervisord that is gone."""

from __future__ import annotations

import pathlib
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.core.kinship import UNKNOWN_GROUP, Found, Kin, Marked
from ha_agent.daemon.programs.sweep import FORK_ROUNDS
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


def test_what_supervisord_named_last_is_known_by_its_process_id_until_another_may_have_it(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        machine.supervised.note_process()
        machine.supervisord.processes = [info("web", "one", pid=5), info("local", pid=6), info("web", "two", "STOPPED")]
        await machine.supervised.read_all()
        await machine.sweeper.find_left()
        kin = machine.table.kin
        assert (kin.supervisord, kin.leaders, kin.spared) == (77, {5: ("web", "one")}, frozenset({6}))
        assert kin.seen_ticks == machine.supervised.seen.at_ticks > 0

    run_timeless(main())


def test_a_fork_of_supervisords_is_waited_for_until_it_is_a_program(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        fork = Marked(9, 77, 150, UNKNOWN_GROUP, "process 9")
        machine.table.pending = [[fork], [fork]]
        assert await machine.sweeper.find_left() == [], "it has become a local program"
        machine.table.pending = [[fork]] * (FORK_ROUNDS + 1)
        assert await machine.sweeper.find_left() == [fork], "one that stays so counts"

    run_timeless(main())


def test_a_lost_note_hides_nothing_and_what_is_local_is_no_sign_of_the_registry(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        assert machine.loaded.names == frozenset()
        pid = machine.run("web")
        machine.run("local")
        machine.supervisord.processes.append(info("db", state="BACKOFF"))
        signs = await machine.sweeper.find_evidence()
        assert [(p.pid, p.group) for p in signs] == [(pid, "web"), (0, "db")]
        await machine.loader.stop()
        assert machine.loaded.names == {"web", "db"}, "the release takes the groups from supervisord itself"
        assert [r.marked.group for r in machine.table.live.values()] == ["local"]

    run_timeless(main())


def test_a_program_that_starts_between_a_look_and_supervisords_answer_is_a_sign(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        find = machine.table.find

        def start_after_it(kin: Kin) -> Found:
            found = find(kin)
            if not machine.table.live:
                machine.table.add("web")
            return found

        monkeypatch.setattr(machine.table, "find", start_after_it)
        machine.supervisord.processes = [info("web", pid=1001)]
        assert [p.pid for p in await machine.sweeper.find_evidence()] == [1001]

    run_timeless(main())


def test_what_no_program_can_be_told_of_is_a_sign_only_where_it_is_older_than_supervisord(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path)
        old, _ = machine.table.add(UNKNOWN_GROUP, ticks=50), machine.table.add(UNKNOWN_GROUP, ticks=150)
        assert [p.pid for p in await machine.sweeper.find_evidence()] == [old]
        assert len(await machine.sweeper.find_left()) == 2, "a release ends both"

    run_timeless(main())


def test_with_the_last_program_what_no_program_can_be_told_of_is_ended_too(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        machine = Machine(tmp_path, ["web"])
        one, two, lost = (machine.table.add(*names) for names in (("web", "one"), ("web", "two"), (UNKNOWN_GROUP,)))
        await machine.sweeper.end_named({("web", "one")}, [])
        assert machine.table.live.keys() == {two, lost}
        await machine.sweeper.end_named({("web", "two")}, [])
        assert machine.table.live.keys() == set()
        assert one not in machine.table.live

    run_timeless(main())
