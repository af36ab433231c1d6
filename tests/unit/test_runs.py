"""An operator's stop, start, load and replace of chosen programs: every result, and no start without the right to."""

from __future__ import annotations

import asyncio
import pathlib
import signal
from dataclasses import replace

import pytest

from ha_agent.adapters.supervisord import Fault, ProcessInfo, SupervisordDown
from ha_agent.core.supervisor_words import FaultCode
from ha_agent.core.targets import Catalogue, Conf
from ha_agent.core.words import Role
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.partial_groups import PartialGroups
from ha_agent.daemon.programs.runs import (
    START_LIMIT_S,
    LoadRefused,
    NotActiveAnyMore,
    ProgramRuns,
)
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_programs import Machine, MemoryChecker, info
from tests.unit.timeless import run_timeless

CATALOGUE = Catalogue(
    [
        Conf("web.conf", ("web",), {}, {"web": ("web",)}),
        Conf("many.conf", ("many",), {}, {"many": ("many_0", "many_1")}),
        Conf("pair.conf", ("left", "right"), {"pair": ("left", "right")}, {"left": ("left",), "right": ("right",)}),
    ],
    {},
)


class Node:
    """An active node."""

    def __init__(self, tmp_path: pathlib.Path, loaded: tuple[str, ...] = ("web", "many", "pair")) -> None:
        self.machine = Machine(tmp_path, loaded)
        self.supervisord = self.machine.supervisord
        self.standing = Standing("alfa", str(tmp_path / "role.json"))
        self.standing.become(Role.ACTIVE)
        active_set = ActiveSet(str(tmp_path), str(tmp_path / "active"), MemoryChecker(), lambda _path, _sha: None)
        self.partial = PartialGroups(str(tmp_path / "partial"), active_set)
        machine = self.machine
        self.runs = ProgramRuns(
            self.standing,
            machine.supervised,
            machine.loaded,
            machine.loader,
            machine.sweeper,
            self.partial,
            asyncio.get_running_loop().time,
        )

    async def start(self, *programs: str, again: tuple[str, ...] = ()) -> list[dict[str, object]]:
        """The results of a start."""
        return await self.runs.load_and_start(programs, [], CATALOGUE, again)


@pytest.mark.parametrize(
    ("before", "after", "again", "status"),
    [
        ("STOPPED", {"state": "RUNNING"}, (), FaultCode.SUCCESS),
        ("STOPPED", {"state": "EXITED"}, (), FaultCode.SUCCESS),
        ("STOPPED", {"state": "FATAL", "spawn_error": "no such file"}, (), FaultCode.SPAWN_ERROR),
        ("STOPPED", {"state": "BACKOFF", "spawn_error": "no such file"}, (), FaultCode.SPAWN_ERROR),
        ("STOPPED", {"state": "BACKOFF"}, (), FaultCode.ABNORMAL_TERMINATION),
        ("STOPPED", {"state": "FATAL"}, (), FaultCode.ABNORMAL_TERMINATION),
        ("STOPPED", {"state": "STOPPED"}, (), FaultCode.ABNORMAL_TERMINATION),
        ("STOPPED", {"state": "STARTING"}, (), FaultCode.FAILED),
        ("RUNNING", {}, (), FaultCode.ALREADY_STARTED),
        ("RUNNING", {}, ("web",), FaultCode.SUCCESS),
        ("RUNNING", {}, ("db",), FaultCode.ALREADY_STARTED),
    ],
)
def test_the_result_of_a_start(
    tmp_path: pathlib.Path, before: str, after: dict[str, str], again: tuple[str, ...], status: int
) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.processes = [info("web", state=before)]
        node.supervisord.on_start = lambda i: replace(i, **after)  # type: ignore[arg-type]
        began = asyncio.get_running_loop().time()
        assert await node.start("web", again=again) == [{"group": "web", "name": "web", "status": status}]
        assert asyncio.get_running_loop().time() - began <= START_LIMIT_S + 1

    run_timeless(main())


def test_a_start_waits_for_those_that_are_starting(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.processes = [info("web", state="STOPPED")]
        node.supervisord.on_start = lambda i: replace(i, state="STARTING")

        def run() -> None:
            node.supervisord.processes = [info("web")]

        asyncio.get_running_loop().call_later(30, run)
        assert [r["status"] for r in await node.start("web")] == [FaultCode.SUCCESS]

    run_timeless(main())


def test_a_start_ends_with_the_role(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node, loop = Node(tmp_path), asyncio.get_running_loop()
        node.supervisord.processes = [info("web", state="STOPPED")]
        node.supervisord.on_start = lambda i: replace(i, state="STARTING")
        began = loop.time()
        loop.call_later(3, node.standing.become, Role.RELEASING)
        assert [r["status"] for r in await node.start("web")] == [FaultCode.FAILED]
        assert loop.time() - began < 4

    run_timeless(main())


def test_what_is_not_loaded_is_remembered_and_loaded_first(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, ())
        node.supervisord.configured = {"pair": [info("pair", "left"), info("pair", "right", "STOPPED")]}
        results = await node.start("left", "right")
        assert [c[0] for c in node.supervisord.calls[:2]] == ["reloadConfig", "addProcessGroup"]
        assert node.machine.loaded.names == {"pair"}
        assert [(r["name"], r["status"]) for r in results] == [
            ("left", FaultCode.ALREADY_STARTED),
            ("right", FaultCode.SUCCESS),
        ]

    run_timeless(main())


def test_a_process_that_supervisord_does_not_have_is_a_bad_name(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.processes = [info("many", "many_0")]
        results = await node.runs.load_and_start([], [("many", "many_7")], CATALOGUE)
        assert [(r["name"], r["status"]) for r in results] == [("many_7", FaultCode.BAD_NAME)]

    run_timeless(main())


@pytest.mark.parametrize(("refuses", "text"), [("reloadConfig", "bad conf"), ("addProcessGroup web", "bad group")])
def test_a_load_that_is_refused_is_told_in_supervisords_words(tmp_path: pathlib.Path, refuses: str, text: str) -> None:
    async def main() -> None:
        node = Node(tmp_path, ())
        node.supervisord.configured = {"web": [info("web")]}
        node.supervisord.refuses = {refuses: Fault(92, text)}
        with pytest.raises(LoadRefused, match=text):
            await node.start("web")

    run_timeless(main())


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ACTIVE])
def test_nothing_is_started_loaded_or_replaced_by_a_node_that_is_not_active(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        node = Node(tmp_path, ())
        node.supervisord.configured = {"web": [info("web")]}
        node.standing.become(role)
        with pytest.raises(NotActiveAnyMore):
            await node.start("web")
        with pytest.raises(NotActiveAnyMore):
            await node.runs.add("web", is_registry=True)
        with pytest.raises(NotActiveAnyMore):
            await node.runs.replace(["web"])
        assert not {"addProcessGroup", "startProcess"} & {method for method, _ in node.supervisord.calls}
        assert node.machine.loaded.names == frozenset()

    run_timeless(main())


def test_a_start_that_waited_for_another_one_looks_at_the_role_once_more(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        async with node.machine.supervised.loading:
            starting = asyncio.ensure_future(node.start("web"))
            await asyncio.sleep(1)
            node.standing.become(Role.RELEASING)
        with pytest.raises(NotActiveAnyMore):
            await starting

    run_timeless(main())


@pytest.mark.parametrize(("is_registry", "names"), [(True, {"web"}), (False, set())])
def test_a_group_of_the_registry_is_remembered_even_where_supervisord_refuses_it(
    tmp_path: pathlib.Path, is_registry: bool, names: set[str]
) -> None:
    async def main() -> None:
        node = Node(tmp_path, ())
        assert isinstance(await node.runs.add("web", is_registry=is_registry), Fault)
        assert node.machine.loaded.names == names

    run_timeless(main())


# ---- stopping ---------------------------------------------------------------------------------------------


def test_a_stop_ends_what_is_chosen_and_says_what_was_running(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.machine.run("web")
        other = node.machine.run("many", "many_0")
        node.supervisord.processes.append(info("pair", "left", "STOPPED"))
        chosen = [i for i in node.supervisord.processes if i.group != "many"]
        stopped = await node.runs.stop(chosen)
        assert (stopped.running, stopped.left) == (frozenset({("web", "web")}), [])
        assert node.machine.table.live.keys() == {other}

    run_timeless(main())


@pytest.mark.parametrize(("immortal", "left"), [(False, 0), (True, 1)])
def test_what_supervisord_does_not_end_is_swept_and_what_the_sweep_does_not_end_is_named(
    tmp_path: pathlib.Path, immortal: bool, left: int
) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        ignores = frozenset({signal.SIGTERM}) | frozenset({signal.SIGKILL} if immortal else ())
        pid = node.machine.run("web", ignores=ignores)

        def notice(_stopped: ProcessInfo) -> str:
            return "STOPPED"

        node.supervisord.on_stop = notice
        stopped = await node.runs.stop(list(node.supervisord.processes))
        assert stopped.left == [f"web (pid {pid})"][:left]
        assert (pid in node.machine.table.live) == immortal

    run_timeless(main())


def test_a_supervisord_that_does_not_notice_an_end_is_told(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.processes = [info("web")]
        node.supervisord.on_stop = lambda _: "STOPPING"
        with pytest.raises(SupervisordDown):
            await node.runs.stop(list(node.supervisord.processes))
        node.supervisord.processes = [info("web")]
        assert (await node.runs.stop(list(node.supervisord.processes), seen_to_end=False)).left == []

    run_timeless(main())


def test_an_unload_stops_what_still_runs_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.machine.run("web")
        await node.runs.unload([])
        await node.runs.unload(["web", "never loaded"])
        assert (node.supervisord.processes, node.machine.table.live) == ([], {})

    run_timeless(main())


def test_an_unload_that_supervisord_refuses_for_ever_is_told(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.processes = [info("web", state="STOPPED")]
        node.supervisord.refuses = {"removeProcessGroup web": Fault(91, "STILL_RUNNING")}
        with pytest.raises(SupervisordDown, match="web"):
            await node.runs.unload(["web"])

    run_timeless(main())


def test_a_replaced_group_is_stopped_loaded_again_and_no_partial_one_any_more(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.machine.run("web")
        node.supervisord.configured = {"web": [info("web")]}
        node.partial.note("web")
        assert await node.runs.replace(["web"]) == [{"group": "web", "was_running": True}]
        assert not node.partial.is_partial("web")
        assert [i.state for i in node.supervisord.processes] == ["RUNNING"]

    run_timeless(main())


@pytest.mark.parametrize("immortal", [True, False])
def test_a_group_that_cannot_be_replaced_is_refused(tmp_path: pathlib.Path, immortal: bool) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.machine.run("web", ignores=frozenset({signal.SIGTERM, signal.SIGKILL} if immortal else ()))
        with pytest.raises(LoadRefused, match="still running" if immortal else "BAD_NAME"):
            await node.runs.replace(["web"])

    run_timeless(main())


def test_a_reread_does_not_mind_a_supervisord_that_is_gone(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        node.supervisord.down = "gone"
        await node.runs.reread()
        assert node.supervisord.said("reloadConfig") == [""]

    run_timeless(main())


def test_what_is_chosen_is_of_the_registry_and_found_under_old_names_too(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        node = Node(tmp_path, ("web", "many", "pair"))
        node.supervisord.processes = [
            info("web", "old_name"),
            info("many", "many_0"),
            info("many", "many_1"),
            info("pair", "left"),
            info("local"),
        ]
        found = await node.runs.choose(CATALOGUE, ["web", "left", "local"], [("many", "many_1")])
        assert {(i.group, i.name) for i in found} == {("web", "old_name"), ("pair", "left"), ("many", "many_1")}

    run_timeless(main())
