"""What supervisord is given: the loadable confs of the registry, judged once a content, and the others named."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pathlib
import tempfile
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_agent.core.manifest import Manifest
from ha_agent.core.settings import ReadinessSettings
from ha_agent.core.words import Role
from ha_agent.daemon.programs import active_set as module
from ha_agent.daemon.programs.active_set import FEW, ROUND, SETTLED_NS, ActiveSet
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.readiness import Readiness
from tests.unit.fakes_programs import MemoryChecker
from tests.unit.fakes_replication import PairNode, manifest_of
from tests.unit.timeless import run_timeless

INTERVAL_S, IDLE_S = 600.0, 30.0


class Ready:
    """A node with a registry and its active set."""

    def __init__(self, root: pathlib.Path, **files: str) -> None:
        self.node = PairNode(root, "alfa", "bravo")
        node, self.checker = self.node, MemoryChecker()
        self.directory = root / "active"
        self.groups_path, self.partial_path = root / "groups", root / "partial"
        self.local: frozenset[str] = frozenset()
        registry, read = str(node.registry_dir), node.view.read_content
        self.active_set = ActiveSet(registry, str(self.directory), self.checker, read, lambda: self.local)
        self.loaded = LoadedGroups(str(self.groups_path))
        self.readiness = Readiness(
            ReadinessSettings(interval_s=INTERVAL_S, idle_s=IDLE_S),
            node.standing,
            node.view,
            self.active_set,
            self.loaded,
            self.checker,
            node.events,
            asyncio.get_running_loop().time,
        )
        self.catalogue = CatalogueReader(node.view, self.active_set, self.readiness)
        self.partial = PartialGroups(str(self.partial_path), self.active_set)
        node.view.on_change.append(self.readiness.wake)
        self.edit(**files)

    def edit(self, **files: str | None) -> None:
        """Changes confs by hand."""
        self.node.edit({f"{name}.conf": None if text is None else text.encode() for name, text in files.items()})

    async def judge(self) -> Manifest:
        """Judges what is there now."""
        await self.node.view.compare()
        await self.active_set.judge(self.node.view.manifest)
        return self.node.view.manifest

    def active(self) -> dict[str, str]:
        """What the active directory holds."""
        return {p.name: p.read_text() for p in self.directory.iterdir()} if self.directory.is_dir() else {}


def test_a_conf_is_judged_once_a_content_unless_afresh(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two")
        manifest = await ready.judge()
        await ready.active_set.judge(manifest)
        ready.edit(b="three")
        manifest = await ready.judge()
        await ready.active_set.judge(manifest, afresh=True)
        assert ready.checker.asked == [["a.conf", "b.conf"], ["b.conf"], ["a.conf", "b.conf"]]
        ready.edit(a=None)
        await ready.judge()
        assert ready.active_set.verdict_of("a.conf") is None

    run_timeless(main())


def test_a_conf_with_the_name_of_a_local_program_is_not_loaded_until_that_one_is_gone(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two")
        ready.local = frozenset({"one"})
        manifest = await ready.judge()
        assert list(ready.active_set.selection.problems) == ["a.conf"]
        await ready.active_set.write(keep_last_good=False)
        assert ready.active() == {"b.conf": "two"}
        ready.local = frozenset()
        await ready.active_set.judge(manifest, afresh=True)
        assert not ready.active_set.selection.problems

    run_timeless(main())


def test_a_bad_conf_keeps_no_other_one_out_and_the_last_good_content_may_stay(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two")
        await ready.judge()
        await ready.active_set.write(keep_last_good=False)
        assert ready.active() == {"a.conf": "one", "b.conf": "two"}
        ready.edit(a="bad", b="three")
        await ready.judge()
        await ready.active_set.write(keep_last_good=True)
        assert ready.active() == {"a.conf": "one", "b.conf": "three"}
        await ready.active_set.write(keep_last_good=False)
        assert ready.active() == {"b.conf": "three"}

    run_timeless(main())


def test_a_parser_that_cannot_be_asked_makes_unknown_confs_not_loadable_and_spares_known_ones(
    tmp_path: pathlib.Path,
) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.judge()
        ready.checker.failure = "it died"
        ready.edit(b="two")
        await ready.judge()
        assert not ready.active_set.is_current
        assert ready.active_set.selection.loadable == ("a.conf",)
        assert "it died" in ready.active_set.selection.problems["b.conf"]
        ready.checker.failure = None
        await ready.judge()
        assert ready.active_set.is_current and ready.active_set.selection.loadable == ("a.conf", "b.conf")

    run_timeless(main())


def test_a_conf_that_vanished_meanwhile_is_not_loadable(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path)
        await ready.active_set.judge(manifest_of({"ghost.conf": b"boo"}))
        assert "vanished" in ready.active_set.selection.problems["ghost.conf"]

    run_timeless(main())


def test_what_supervisord_refuses_is_dropped_by_its_name_in_the_active_set(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two")
        await ready.judge()
        assert ready.active_set.drop("a.conf", "refused") == "a.conf"
        assert ready.active_set.selection.problems == {"a.conf": "refused"}
        assert ready.active_set.drop("a.conf", "refused") is None

    run_timeless(main())


def test_a_conf_with_a_local_programs_name_stays_out_also_when_supervisord_refuses_another(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", taken="two")
        ready.local = frozenset({"two"})
        await ready.judge()
        before = dict(ready.active_set.selection.problems)
        assert list(before) == ["taken.conf"]
        assert ready.active_set.drop("a.conf", "refused") == "a.conf"
        assert ready.active_set.selection.problems == {**before, "a.conf": "refused"}

    run_timeless(main())


def test_a_removed_set_stays_empty_also_against_a_write_that_had_begun(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two", c="three")
        manifest = await ready.judge()
        reads: list[str] = []

        def read(path: str, sha: str) -> bytes | None:
            reads.append(path)
            if len(reads) == 2:
                interrupted.remove()
            return ready.node.view.read_content(path, sha)

        interrupted = ActiveSet(str(ready.node.registry_dir), str(ready.directory), ready.checker, read)
        await interrupted.judge(manifest)
        reads.clear()
        await interrupted.write(keep_last_good=False)
        assert ready.active() == {}
        await interrupted.write(keep_last_good=False)
        assert len(ready.active()) == 3, "the next one fills it"
        interrupted.remove()
        assert ready.active() == {}

    run_timeless(main())


def test_a_group_is_written_anew_when_its_members_change(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two", g="group both: one,two")
        await ready.judge()
        assert dict(ready.active_set.selection.groups) == {"both": ("one", "two")}
        ready.edit(b=None)
        await ready.judge()
        assert dict(ready.active_set.selection.groups) == {"both": ("one",)}
        assert "two" in ready.active_set.selection.warnings["g.conf"]

    run_timeless(main())


class StubbornSet(ActiveSet):
    """An active set on a file system that does not take the files named in ``refused``."""

    refused: frozenset[str] = frozenset({"b.conf"})

    def _write_one(self, name: str, *rest: Any) -> bool:
        if name in self.refused:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return super()._write_one(name, *rest)


def test_a_conf_whose_file_cannot_be_written_keeps_no_other_one_out_and_leaves_its_group(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two", g="group both: one,two")
        one = StubbornSet(str(ready.node.registry_dir), str(ready.directory), ready.checker, ready.node.view.read_content)
        await ready.judge()
        manifest = ready.node.view.manifest
        await one.judge(manifest)
        await one.write(keep_last_good=False)
        assert sorted(ready.active()) == ["a.conf", "g.conf"]
        assert "b.conf: " not in one.selection.problems["b.conf"]
        assert "cannot be written" in one.selection.problems["b.conf"]
        assert dict(one.selection.groups) == {"both": ("one",)}
        one.refused = frozenset()
        await one.judge(manifest, afresh=True)
        await one.write(keep_last_good=False)
        assert sorted(ready.active()) == ["a.conf", "b.conf", "g.conf"], "what can be written by now is written"

    run_timeless(main())


def test_an_active_set_that_cannot_be_written_at_all_is_no_problem_of_single_confs(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.judge()
        in_the_way = tmp_path / "a file"
        in_the_way.write_text("no directory")
        ready.active_set.directory = str(in_the_way / "active")
        with pytest.raises(OSError, match="active"):
            await ready.active_set.write(keep_last_good=False)
        assert ready.active_set.selection.loadable == ("a.conf",)

    run_timeless(main())


def test_the_last_good_content_that_an_older_agent_wrote_stays_under_its_present_name(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path)
        ready.node.edit({"x.ini": b"bad", "y.ini": b"bad", "y.ini.conf": b"two"})
        ready.directory.mkdir()
        (ready.directory / "x.ini.conf").write_text("one")
        (ready.directory / "y.ini.conf").write_text("whose?")
        await ready.judge()
        await ready.active_set.write(keep_last_good=True)
        assert ready.active() == {"x%2Eini.conf": "one", "y.ini.conf": "two"}

    run_timeless(main())


def test_nobody_but_its_owner_reads_the_active_set(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.judge()
        await ready.active_set.write(keep_last_good=False)
        assert ready.directory.stat().st_mode & 0o777 == 0o700
        assert (ready.directory / "a.conf").stat().st_mode & 0o777 == 0o600

    run_timeless(main())


# ---- readiness --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_the_active_set_follows_the_registry_on_an_active_node_alone(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.node.view.compare()
        ready.node.standing.become(role)
        assert not ready.readiness.is_current
        await ready.readiness.judge()
        assert ready.readiness.is_current
        assert bool(ready.active()) == (role is Role.ACTIVE)
        assert (ready.loaded.names == {"one"}) == (role is Role.ACTIVE)

    run_timeless(main())


def test_an_active_set_that_was_not_judged_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.node.view.compare()
        ready.node.standing.become(Role.ACTIVE)
        await ready.readiness.judge()
        ready.checker.failure = "it died"
        ready.edit(a="two")
        await ready.node.view.compare()
        await ready.readiness.judge()
        assert ready.active() == {"a.conf": "one"} and not ready.readiness.is_current

    run_timeless(main())


def test_a_conf_that_cannot_be_loaded_is_told_once(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="bad")
        await ready.node.view.compare()
        for _ in range(2):
            await ready.readiness.judge()
        assert ready.node.events.codes == ["conf-not-loadable"]

    run_timeless(main())


def test_a_change_is_judged_at_once_everything_now_and_then_and_an_idle_parser_goes(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.node.view.compare()
        running = asyncio.ensure_future(ready.readiness.run())
        await asyncio.sleep(1)
        ready.edit(b="two")
        await asyncio.sleep(1)
        assert ready.checker.asked == [["a.conf"], ["b.conf"]]
        assert ready.checker.closed == 0
        await asyncio.sleep(2 * IDLE_S)
        assert ready.checker.closed > 0
        await asyncio.sleep(INTERVAL_S)
        assert ready.checker.asked[2:] == [["a.conf", "b.conf"]]
        running.cancel()

    run_timeless(main())


def test_an_active_node_keeps_its_parser(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        await ready.node.view.compare()
        ready.node.standing.become(Role.ACTIVE)
        running = asyncio.ensure_future(ready.readiness.run())
        await asyncio.sleep(10 * IDLE_S)
        assert ready.checker.closed == 0
        running.cancel()

    run_timeless(main())


# ---- catalogue, groups ------------------------------------------------------------------------------------


def test_the_catalogue_has_loadable_parked_and_bad_confs_and_is_made_once(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one")
        ready.node.edit({"p.conf.parked": b"[program:rest]\n", "x.conf": b"[program:sick]\nbad"})
        await ready.node.view.compare()
        catalogue = await ready.catalogue.read()
        assert catalogue.names() == {"one", "rest", "sick"}
        assert (list(catalogue.registered), list(catalogue.unloadable)) == (["one"], ["sick"])
        assert [c.path for c in catalogue.parked("rest")] == ["p.conf.parked"]
        assert catalogue.processes("one") == ("one",)
        assert await ready.catalogue.read() is catalogue
        ready.edit(a="other")
        await ready.node.view.compare()
        assert (await ready.catalogue.read()).names() == {"other", "rest", "sick"}

    run_timeless(main())


def test_loaded_groups_outlive_the_agent_and_are_one_a_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "groups"
    loaded = LoadedGroups(str(path))
    assert loaded.names == frozenset()
    loaded.remember(["web", "db"])
    loaded.remember(["web"])
    assert path.read_text() == "db\nweb\n"
    assert LoadedGroups(str(path)).names == {"db", "web"}
    loaded.forget()
    loaded.forget()
    assert (loaded.names, path.exists(), LoadedGroups(str(path)).names) == (frozenset(), False, frozenset())


def test_groups_that_cannot_be_written_down_are_not_remembered() -> None:
    loaded = LoadedGroups("/proc/nothing-can-be-made-here/groups")
    with pytest.raises(OSError, match="nothing-can-be-made-here"):
        loaded.remember(["web"])
    assert loaded.names == frozenset()


def test_a_group_is_partial_until_its_other_members_change_or_it_is_loaded(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two", g="group both: one,two")
        await ready.judge()
        assert not ready.partial.is_partial("both")
        ready.edit(b=None)
        await ready.judge()
        ready.partial.note("both")
        assert PartialGroups(str(ready.partial_path), ready.active_set).is_partial("both"), "the next agent knows it"
        ready.edit(a="one\nmore")
        await ready.judge()
        assert not ready.partial.is_partial("both"), "a member is another one"
        ready.partial.note("both")
        ready.partial.forget("both")
        ready.partial.forget("both")
        assert not ready.partial.is_partial("both")

    run_timeless(main())


@pytest.mark.parametrize("content", ["", "no json", "[]", "{"])
def test_a_damaged_note_of_partial_groups_counts_as_none(tmp_path: pathlib.Path, content: str) -> None:
    async def main() -> None:
        ready = Ready(tmp_path)
        ready.partial_path.write_text(content)
        assert not ready.partial.is_partial("both")

    run_timeless(main())


NAMES = ("a", "b", "c", "d")
TEXTS = ("one", "two", "one lacks x", "bad", "group g: one,two", "group g: two", "local", "three\nfour", None)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.sampled_from(NAMES), st.sampled_from(TEXTS)),
        st.tuples(st.just("park"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("local"), st.sampled_from((frozenset(), frozenset({"local"}), frozenset({"one"}))), st.none()),
        st.tuples(st.just("judge"), st.sampled_from(("", "afresh", "cancelled", "failed")), st.none()),
        st.tuples(st.just("write"), st.booleans(), st.none()),
        st.tuples(st.just("spoil"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("remove"), st.none(), st.none()),
    ),
    max_size=30,
)


class Course:
    """An active set that takes a course of edits, and one that judges what is there in the end for the first time."""

    def __init__(self, root: pathlib.Path) -> None:
        self.ready = Ready(root)
        self.root = root
        self.files: dict[str, bytes] = {}

    async def step(self, what: str, one: Any, other: Any) -> None:
        """One step of the course."""
        ready = self.ready
        if what == "edit":
            self._edit(f"{one}.conf", None if other is None else other.encode())
        elif what == "park":
            before, after = (f"{one}.conf", f"{one}.conf.parked")[:: 1 if other else -1]
            if (content := self.files.get(before)) is not None:
                self._edit(before, None)
                self._edit(after, content)
        elif what == "local":
            ready.local = one
        elif what == "judge":
            await self._judge(one)
        elif what == "write":
            await ready.active_set.write(keep_last_good=one)
        elif what == "spoil" and ready.directory.is_dir():
            (ready.directory / f"{one}.conf").write_text("stranger")
            ready.active_set.keep()
        elif what == "remove":
            ready.active_set.remove()

    def _edit(self, name: str, content: bytes | None) -> None:
        self.files = {**{n: c for n, c in self.files.items() if n != name}, **({} if content is None else {name: content})}
        self.ready.node.edit({name: content})

    async def _judge(self, how: str) -> None:
        ready = self.ready
        await ready.node.view.compare()
        ready.checker.failure = "it is away" if how == "failed" else None
        judging = asyncio.ensure_future(ready.active_set.judge(ready.node.view.manifest, afresh=how == "afresh"))
        if how == "cancelled":
            await asyncio.sleep(0)
            judging.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await judging
        ready.checker.failure = None

    async def check_now(self) -> None:
        """The set says and writes what one that has seen nothing before does, besides what it keeps of confs with problems.

        Somebody has written into the first of its files in between.
        """
        ready = self.ready
        for _ in range(2):
            ready.active_set.keep()
            await ready.active_set.write(keep_last_good=True)
            for path in sorted(ready.directory.iterdir())[:1]:
                path.write_text("somebody's")
        ready.active_set.keep()
        await ready.active_set.write(keep_last_good=True)
        fresh, fresh_dir = await self._judge_afresh()
        if ready.active_set._local != ready.local:  # noqa: SLF001 - they are asked for with the next new conf
            return
        assert ready.active_set.selection == fresh.selection
        await fresh.write(keep_last_good=False)
        wanted = {p.name: p.read_text() for p in fresh_dir.iterdir()}
        assert {name: text for name, text in ready.active().items() if name in wanted} == wanted

    async def _judge_afresh(self) -> tuple[ActiveSet, pathlib.Path]:
        ready, directory = self.ready, self.root / "fresh"
        registry, read = str(ready.node.registry_dir), ready.node.view.read_content
        fresh = ActiveSet(registry, str(directory), MemoryChecker(), read, lambda: ready.local)
        await fresh.judge(ready.node.view.manifest)
        return fresh, directory

    async def check(self) -> None:
        """The set that took the course says and writes what the other one does."""
        ready = self.ready
        await ready.node.view.compare()
        # What nothing is asked about again is known with the local names of then; every round of readiness asks afresh.
        await ready.active_set.judge(ready.node.view.manifest, afresh=True)
        fresh, fresh_dir = await self._judge_afresh()
        assert ready.active_set.selection == fresh.selection
        ready.active_set.keep()
        await ready.active_set.write(keep_last_good=False)
        await fresh.write(keep_last_good=False)
        assert ready.active() == {p.name: p.read_text() for p in fresh_dir.iterdir()}


@given(steps=STEPS, last=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS)), min_size=1, max_size=4))
@settings(deadline=None)
def test_whatever_came_before_the_set_is_what_one_look_at_the_registry_gives(
    steps: list[tuple[str, Any, Any]], last: list[tuple[str, str | None]]
) -> None:
    async def main(root: pathlib.Path) -> None:
        course = Course(root)
        for step in steps:
            await course.step(*step)
        for name, text in last:
            await course.step("edit", name, text)
            await course.step("judge", "", None)
            await course.check_now()
        await course.check()

    with tempfile.TemporaryDirectory() as root:
        run_timeless(main(pathlib.Path(root)))


def test_of_many_files_a_part_is_looked_at_each_time_unless_one_came_or_went(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3 * FEW

    async def main() -> None:
        ready = Ready(tmp_path, **{f"p{n}": f"x{n}" for n in range(count)})
        await ready.judge()
        active_set, looks = ready.active_set, Looks(monkeypatch)
        await active_set.write(keep_last_good=False)
        os.utime(ready.directory, ns=(0, time.time_ns() - 2 * SETTLED_NS))
        assert looks.of(active_set) == (False, count) and looks.of(active_set) == (False, FEW)
        ready.directory.joinpath("p7.conf").write_text("somebody's, written into the file itself")
        found = [looks.of(active_set)[0] for _ in range(ROUND)]
        assert found.count(True) == 1, "once a round"
        await active_set.write(keep_last_good=False)
        assert looks.of(active_set) == (False, count), "an entry of the directory is another one"
        assert looks.of(active_set) == (False, count), "the change is a young one, and may hide another"
        ready.directory.joinpath("p9.conf").unlink()
        assert looks.of(active_set) == (True, count)

    run_timeless(main())


class Looks:
    """Counts the files that a set looks at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        real = module._look_of  # noqa: SLF001

        def look(path: str) -> tuple[int, int, int]:
            self._count += 1
            return real(path)

        monkeypatch.setattr(module, "_look_of", look)

    def of(self, one: ActiveSet) -> tuple[bool, int]:
        self._count = 0
        return one.keep(), self._count


class SpoiltWhileWritten(ActiveSet):
    """Somebody writes into ``a.conf`` while ``b.conf`` is written, and that is noticed at once."""

    spoils = False

    def _write_one(self, name: str, *rest: Any) -> bool:
        if self.spoils and name.startswith("b"):
            self.spoils = False
            pathlib.Path(self.directory, "a.conf").write_text("somebody's")
            assert self.keep()
        return super()._write_one(name, *rest)


def test_what_is_damaged_while_another_conf_is_written_is_written_by_the_next_call(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        ready = Ready(tmp_path, a="one", b="two")
        view = ready.node.view
        one = SpoiltWhileWritten(str(ready.node.registry_dir), str(ready.directory), ready.checker, view.read_content)
        for text in ("two", "two\n", "two"):
            ready.edit(b=text)
            await view.compare()
            await one.judge(view.manifest)
            one.spoils = text == "two\n"
            await one.write(keep_last_good=True)
        assert ready.active() == {"a.conf": "one", "b.conf": "two"}

    run_timeless(main())
