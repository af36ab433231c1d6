"""Commands on programs: the registry of both nodes says what runs here, and a command that fails says what it has done."""

from __future__ import annotations

import asyncio
import os
import pathlib
import pwd
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_agent.core.answers import CommandAnswer
from ha_agent.core.kinship import Marked
from ha_agent.core.requests import DeregisterRequest, NamesRequest, RegisterRequest, StartRequest, StopRequest
from ha_agent.core.supervisor_words import FaultCode
from ha_agent.core.words import Outcome, Refused, Role
from ha_agent.daemon.operations.registration import MAX_INI_BYTES
from tests.unit.fakes_operations import Node, on_node, operator, program_conf

T = TypeVar("T")
CONFS = {"web.conf": program_conf("web"), "db.conf": program_conf("db")}
PARKED = {**CONFS, "old.conf.parked": program_conf("old")}


def on_active(base: pathlib.Path, work: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    on_node(base, work, **{"confs": CONFS, "active": True, **options})


def stop(*names: str, **options: Any) -> StopRequest:
    return StopRequest(names, **options)


def start(*names: str, **options: Any) -> StartRequest:
    return StartRequest(names, **options)


def statuses(answer: CommandAnswer) -> dict[str, int]:
    return {row["name"]: row["status"] for row in answer["results"]}


def peer_names(node: Node) -> list[str]:
    """The registry as the peer has taken it."""
    manifest = node.peer_holds()
    assert manifest is not None
    return sorted(entry.path for entry in manifest)


class InlineExecutor(ThreadPoolExecutor):
    """Does at once what is handed to it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whatever it raises is its result
            future.set_exception(error)
        return future


# ---- the frame of every command -------------------------------------------------------------------------------


def test_what_is_expected_to_fail_is_an_answer_and_a_defect_is_not(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        async def fail(error: Exception) -> CommandAnswer:
            raise error

        run = node.commands.run
        assert await run(lambda: fail(Refused("no"))) == {"outcome": "refused", "reason": "no"}
        full = OSError(28, "No space left on device", "/etc/web.conf")
        answer = await run(lambda: fail(full))
        assert answer["outcome"] is Outcome.FAILED and answer["reason"].endswith("/etc/web.conf: No space left on device")
        with pytest.raises(RuntimeError):
            await run(lambda: fail(RuntimeError("a defect")))
        node.client.problem = "refused"
        answer = await node.programs.restart(NamesRequest(("web",)), operator())
        assert answer["outcome"] is Outcome.FAILED and answer["reason"] == "supervisord: refused"

    on_active(tmp_path, work)


def test_no_two_commands_are_at_work_at_once(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        inside, most = 0, 0

        async def command() -> CommandAnswer:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            return {}

        await asyncio.gather(*(node.commands.run(command) for _ in range(5)))
        assert most == 1

    on_node(tmp_path, work)


@pytest.mark.parametrize("peer_role", [Role.ACTIVE, Role.STANDBY])
def test_a_command_on_a_node_that_may_not_names_the_one_that_may(tmp_path: pathlib.Path, peer_role: Role) -> None:
    async def work(node: Node) -> None:
        node.standing.become(Role.STANDBY)
        node.link.role = peer_role
        answers = [
            await node.programs.stop(stop("web"), operator()),
            await node.programs.start(start("old"), operator()),
            await node.programs.restart(NamesRequest(("web",)), operator()),
            await node.update.update(NamesRequest(()), operator()),
            await node.registration.register(RegisterRequest("x", "/x", "", "root"), operator()),
            await node.registration.deregister(DeregisterRequest("web"), operator()),
        ]
        wanted = "b is active: run this there" if peer_role is Role.ACTIVE else "no node is known to be active"
        assert all(a["outcome"] is Outcome.REFUSED and wanted in a["reason"] for a in answers)
        assert node.conf_names() == sorted(PARKED) and node.running() == ["db", "web"]

    on_active(tmp_path, work, confs=PARKED)


# ---- stop -----------------------------------------------------------------------------------------------------


def test_a_stop_parks_on_both_nodes_and_ends_and_unloads_the_program(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.stop(stop("web"), operator())
        assert answer["outcome"] is Outcome.DONE and answer["ack"] == {"on_peer": True, "reason": None}
        assert answer["park"] == ["web.conf"] and answer["left"] == [] and answer["processes"] == ["web"]
        assert [(row["name"], row["was_running"]) for row in answer["programs"]] == [("web", True)]
        assert node.conf_names() == peer_names(node) == ["db.conf", "web.conf.parked"]
        assert node.running() == ["db"] and "web" not in node.client.loaded
        assert node.codes()[-2:] == ["parked", "program-stopped"]

    on_active(tmp_path, work)


def test_a_stop_that_keeps_leaves_the_registry_as_it_is(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.stop(stop("web", keep=True), operator())
        assert answer["outcome"] is Outcome.DONE and answer["ack"] is None and answer["park"] == []
        assert node.conf_names() == sorted(CONFS) and node.running() == ["db"] and "web" in node.client.loaded

    on_active(tmp_path, work)


def test_a_name_that_is_none_is_said_and_the_others_are_stopped(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.stop(stop("nothing"), operator())
        assert answer["unknown"] == ["nothing"] and node.running() == ["db", "web"] and node.told == []
        answer = await node.programs.stop(stop("nothing", "web"), operator())
        assert answer["unknown"] == ["nothing"] and node.running() == ["db"]

    on_active(tmp_path, work)


def test_what_supervisord_does_not_end_is_swept_and_what_cannot_be_ended_is_named(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.stubborn = {"web"}
        node.table.left = [Marked(77, 1, 5, "web", "web")]
        answer = await node.programs.stop(stop("web"), operator())
        assert answer["left"] == ["web (pid 77)"] and (77, 9) in node.table.sent
        assert "web" in node.client.loaded, "nothing is unloaded that still runs"
        assert node.conf_names() == ["db.conf", "web.conf.parked"]

    on_active(tmp_path, work)


def test_a_stop_that_supervisord_does_not_answer_says_what_was_parked(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.problem = "refused"
        answer = await node.programs.stop(stop("web"), operator())
        assert answer["outcome"] is Outcome.FAILED and answer["park"] == ["web.conf"] and answer["ack"] is not None
        assert answer["reason"] == "supervisord: refused"
        assert node.conf_names() == ["db.conf", "web.conf.parked"]

    on_active(tmp_path, work)


def test_a_conf_that_cannot_be_parked_stops_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        (node.registry / "web.conf").unlink()
        answer = await node.programs.stop(stop("web"), operator())
        assert answer["outcome"] is Outcome.FAILED and answer["reason"].startswith("nothing was stopped: web.conf")
        assert node.running() == ["db", "web"]

    on_active(tmp_path, work)


def test_a_peer_that_has_not_taken_it_is_told_of_and_the_stop_stands(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.link.answers["transaction"] = {"answer": "NO_SPACE", "reason": "full"}
        answer = await node.programs.stop(stop("web"), operator())
        assert answer["outcome"] is Outcome.DONE and answer["ack"] is not None
        assert answer["ack"]["on_peer"] is False and "full" in answer["ack"]["reason"]
        assert node.running() == ["db"]

    on_active(tmp_path, work)


GROUPED = {
    "a.conf": program_conf("one") + program_conf("two"),
    "g.conf": "[group:g]\nprograms=m,n\n",
    "m.conf": program_conf("m"),
    "n.conf": program_conf("n"),
}


def test_a_conf_of_several_programs_is_parked_as_a_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.stop(stop("one"), operator())
        assert answer["outcome"] is Outcome.REFUSED and "two" in answer["reason"] and "one" in node.running()
        answer = await node.programs.stop(stop("one", file=True), operator())
        assert answer["park"] == ["a.conf"] and not {"one", "two"} & set(node.running())

    on_active(tmp_path, work, confs=GROUPED)


def test_a_member_of_a_group_is_parked_and_no_update_restarts_the_others_for_it(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.stop(stop("m"), operator())
        assert answer["outcome"] is Outcome.DONE and "n" in node.running() and "m" not in node.running()
        pid = node.client.processes["g", "n"].pid
        answer = await node.update.update(NamesRequest(()), operator())
        assert answer["lines"] == ["g: not touched, only a parked program is missing from it"]
        assert node.client.processes["g", "n"].pid == pid
        answer = await node.programs.start(start("m"), operator())
        assert statuses(answer) == {"m": FaultCode.SUCCESS} and node.client.processes["g", "n"].pid == pid

    on_active(tmp_path, work, confs=GROUPED)


def test_a_group_that_lacks_a_program_is_loaded_again_only_where_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    confs = {"m.conf.parked" if name == "m.conf" else name: text for name, text in GROUPED.items()}

    async def work(node: Node) -> None:
        answer = await node.programs.start(start("m"), operator())
        assert answer["outcome"] is Outcome.REFUSED and "restarts n: start --regroup does it" in answer["reason"]
        assert node.conf_names() == sorted(confs)
        answer = await node.programs.start(start("m", regroup=True), operator())
        assert statuses(answer) == {"m": FaultCode.SUCCESS} and {"m", "n"} <= set(node.running())

    on_active(tmp_path, work, confs=confs)


# ---- start ----------------------------------------------------------------------------------------------------


def test_a_start_registers_on_both_nodes_loads_and_starts(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.start(start("old"), operator())
        assert answer["outcome"] is Outcome.DONE and statuses(answer) == {"old": FaultCode.SUCCESS}
        assert answer["unparked"] == ["old.conf"] and answer["ack"] == {"on_peer": True, "reason": None}
        assert node.conf_names() == peer_names(node) == ["db.conf", "old.conf", "web.conf"]
        assert "old" in node.running() and "old" in node.group.loaded.names
        assert node.codes()[-2:] == ["unparked", "program-started"]

    on_active(tmp_path, work, confs=PARKED)


def test_a_program_that_cannot_be_started_is_told_by_its_result_and_one_that_runs_by_another(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.broken = {"old"}
        answer = await node.programs.start(start("old", "web"), operator())
        assert statuses(answer) == {"old": FaultCode.SPAWN_ERROR, "web": FaultCode.ALREADY_STARTED}
        assert "program-started" not in node.codes()

    on_active(tmp_path, work, confs=PARKED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("broken [program:old]\n[program:old]\n", "it is broken"), (program_conf("old", "; lacks /bin/old"), "/bin/old")],
)
def test_what_could_not_be_loaded_here_stays_parked(tmp_path: pathlib.Path, text: str, reason: str) -> None:
    async def work(node: Node) -> None:
        answer = await node.programs.start(start("old"), operator())
        assert answer["outcome"] is Outcome.REFUSED and reason in answer["reason"]
        assert "it stays parked" in answer["reason"] and "old.conf.parked" in node.conf_names()

    on_active(tmp_path, work, confs={**CONFS, "old.conf.parked": text})


def test_what_the_peer_could_not_run_is_a_warning(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        # What a thread does is done at once: the conf has its own name before the peer is asked.
        asyncio.get_running_loop().set_default_executor(InlineExecutor())
        lacking = {"problem": None, "programs": [{"name": "old", "missing": ["/bin/old"]}]}
        node.link.answers["judge"] = {"failure": None, "verdicts": {"old.conf": lacking}}
        answer = await node.programs.start(start("old"), operator())
        assert answer["outcome"] is Outcome.DONE and "b could not run old: /bin/old" in answer["warnings"]
        node.link.answers["judge"] = TimeoutError()
        answer = await node.programs.start(start("old"), operator())
        assert any("could not be asked" in warning for warning in answer["warnings"])

    on_active(tmp_path, work, confs=PARKED)


def test_a_start_by_a_name_that_is_none_and_a_role_that_is_lost_start_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        assert (await node.programs.start(start("nothing"), operator()))["unknown"] == ["nothing"]

        def lose_role(_message: Any) -> dict[str, Any]:
            node.standing.become(Role.RELEASING)
            return {"answer": "COMMITTED"}

        node.link.answers["transaction"] = lose_role
        answer = await node.programs.start(start("old"), operator())
        assert answer["outcome"] is Outcome.FAILED and "old" not in node.running()

    on_active(tmp_path, work, confs=PARKED)


# ---- restart, update ------------------------------------------------------------------------------------------


def test_a_restart_ends_what_runs_before_it_starts_it_again(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        before = node.client.processes["web", "web"].pid
        answer = await node.programs.restart(NamesRequest(("web", "nothing")), operator())
        assert statuses(answer) == {"web": FaultCode.SUCCESS} and answer["stopped"] == ["web:web"]
        assert answer["unknown"] == ["nothing"] and node.client.processes["web", "web"].pid != before
        methods = [name for name, _ in node.client.calls]
        assert methods.index("stopProcess") < methods.index("startProcess")
        assert (await node.programs.restart(NamesRequest(("nothing",)), operator()))["results"] == []
        parked = await node.programs.restart(NamesRequest(("old",)), operator())
        assert parked["outcome"] is Outcome.REFUSED and "supzcli start old" in parked["reason"]

    on_active(tmp_path, work, confs=PARKED)


def test_a_program_that_is_left_running_is_not_started_beside_itself(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.stubborn = {"web"}
        node.table.left = [Marked(77, 1, 5, "web", "web")]
        answer = await node.programs.restart(NamesRequest(("web",)), operator())
        assert answer["outcome"] is Outcome.FAILED and answer["left"] == ["web (pid 77)"]
        assert node.client.named("startProcess") == []

    on_active(tmp_path, work)


def test_an_update_removes_replaces_and_adds_what_has_changed_and_nothing_else(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        pid = node.client.processes["db", "db"].pid
        (node.registry / "gone.conf").unlink()
        (node.registry / "web.conf").write_text(program_conf("web", "; changed"))
        (node.registry / "new.conf").write_text(program_conf("new"))
        answer = await node.update.update(NamesRequest(("new",)), operator())
        assert answer["lines"] == ["new: added process group"] and "gone" in node.running()
        answer = await node.update.update(NamesRequest(("all", "nothing:*")), operator())
        assert answer["unknown"] == ["nothing"] and answer["lines"] == []
        answer = await node.update.update(NamesRequest(("all",)), operator())
        assert answer["lines"] == [
            "gone: stopped",
            "gone: removed process group",
            "web: stopped",
            "web: updated process group",
        ]
        assert answer["ack"] is not None and answer["ack"]["on_peer"] and node.running() == ["db", "new", "web"]
        assert node.client.processes["db", "db"].pid == pid and node.codes().count("updated") == 2
        assert (await node.update.update(NamesRequest(()), operator()))["lines"] == []
        assert node.codes().count("updated") == 2

    on_active(tmp_path, work, confs={**CONFS, "gone.conf": program_conf("gone")})


def test_an_update_that_is_cut_off_says_what_was_done(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        node.client.refusal = "a section is wrong"
        answer = await node.update.update(NamesRequest(()), operator())
        assert answer["outcome"] is Outcome.FAILED and "a section is wrong" in answer["reason"]
        node.client.refusal = None
        for name in ("gone", "web"):
            (node.registry / f"{name}.conf").write_text(program_conf(name, "; changed"))
        (node.registry / "gone.conf").unlink()
        node.client.stubborn = {"web"}
        node.table.left = [Marked(77, 1, 5, "web", "web")]
        answer = await node.update.update(NamesRequest(()), operator())
        assert answer["outcome"] is Outcome.FAILED and answer["lines"] == ["gone: stopped", "gone: removed process group"]
        assert "web (pid 77)" in answer["reason"]

    on_active(tmp_path, work, confs={**CONFS, "gone.conf": program_conf("gone")})


def test_a_group_that_cannot_be_ended_is_not_removed(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        (node.registry / "web.conf").unlink()
        node.client.stubborn = {"web"}
        node.table.left = [Marked(77, 1, 5, "web", "web")]
        answer = await node.update.update(NamesRequest(()), operator())
        assert answer["lines"] == ["web: has problems; not removing"] and "web" in node.client.loaded

    on_active(tmp_path, work)


# ---- registration ---------------------------------------------------------------------------------------------

INI = "[program]\ncommand = /bin/sleep 1000\n"


def register(node: Node, name: str = "new", text: str = INI, **options: Any) -> RegisterRequest:
    owner = pwd.getpwuid(os.getuid()).pw_name
    return RegisterRequest(name, str(node.base / "srv" / name), text, owner, **options)


def test_a_registration_writes_the_conf_on_both_nodes_and_starts_the_program_and_again_changes_nothing(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        call = operator("root", 0)
        answer = await node.registration.register(register(node), call)
        assert answer["outcome"] is Outcome.DONE and statuses(answer) == {"new": FaultCode.SUCCESS}
        assert answer["changed"] and not answer["was_registered"] and answer["path"] == "new.conf"
        assert "new.conf" in peer_names(node) and "new" in node.running()
        pid = node.client.processes["new", "new"].pid
        answer = await node.registration.register(register(node), call)
        assert not answer["changed"] and answer["was_registered"] and node.client.processes["new", "new"].pid == pid
        answer = await node.registration.register(register(node, text=INI + "autostart = true\n", update=True), call)
        assert answer["changed"] and node.client.processes["new", "new"].pid != pid, "what changed is loaded again"
        other = RegisterRequest("new", "/elsewhere/new", INI, "root")
        assert "is registered from" in (await node.registration.register(other, call))["reason"]

    on_active(tmp_path, work)


def test_a_registration_that_is_not_to_start_is_parked_until_it_is(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        call = operator("root", 0)
        answer = await node.registration.register(register(node, start=False), call)
        assert answer["path"] == "new.conf.parked" and answer["results"] == [] and "new" not in node.running()
        answer = await node.registration.register(register(node), call)
        assert answer["path"] == "new.conf" and answer["unparked"] is True and "new" in node.running()

    on_active(tmp_path, work)


@pytest.mark.parametrize(
    ("name", "text", "uid", "options", "reason"),
    [
        ("new", INI, 0, {"update": True}, "is not registered"),
        ("new", "x" * (MAX_INI_BYTES + 1), 0, {}, "longer than"),
        ("new", INI, None, {}, "on the node where its folder is"),
        ("new", INI, 4_000_000_000, {}, "has no name on this node"),
        ("new", INI + "; lacks /bin/new\n", 0, {}, ""),
        ("new", "nonsense", 0, {}, "program.ini"),
        ("web", INI, 0, {}, "written by hand"),
        ("taken", INI, 0, {}, "is there already and defines other"),
    ],
)
def test_a_registration_that_is_refused_leaves_the_registry_as_it_was(
    tmp_path: pathlib.Path, name: str, text: str, uid: int | None, options: dict[str, Any], reason: str
) -> None:
    async def work(node: Node) -> None:
        if not reason:
            node.checker.failure = "no parser"
        before = node.conf_names()
        answer = await node.registration.register(register(node, name, text, **options), operator("x", uid))
        assert answer["outcome"] is Outcome.REFUSED and (reason or "the registry is as it was") in answer["reason"]
        assert node.conf_names() == before

    on_active(tmp_path, work, confs={**CONFS, "taken.conf": program_conf("other")})


AS_ROOT, LOGS = INI + "user = root\n", INI + "stdout_logfile = /etc/cron.d/x\n"


@pytest.mark.parametrize(
    ("text", "options", "user"),
    [
        (INI, {}, "daemon"),
        (AS_ROOT, {}, None),
        (LOGS, {}, None),
        (INI, {"writers": "everybody"}, None),
        (INI, {"writers": "everybody", "user": "daemon"}, "daemon"),
        (AS_ROOT, {"user": "root"}, "root"),
        (AS_ROOT, {"user": "daemon"}, None),
        (LOGS, {"user": "daemon"}, "daemon"),
        (AS_ROOT, {"owner": "root"}, "root"),
    ],
)
def test_a_file_that_another_user_wrote_has_that_users_rights_unless_root_says_otherwise(
    tmp_path: pathlib.Path, text: str, options: dict[str, Any], user: str | None
) -> None:
    """The rule of `root-registers-foreign-ini`."""

    async def work(node: Node) -> None:
        request = replace(RegisterRequest("new", str(node.base / "srv" / "new"), text, "daemon"), **options)
        answer = await node.registration.register(request, operator("root", 0))
        assert (answer["outcome"] is Outcome.DONE) == (user is not None), answer
        if user is None:
            assert "--user NAME" in answer["reason"] or "not as root" in answer["reason"]
            assert "new.conf" not in node.conf_names()
        else:
            assert f"\nuser={user}\n" in (node.registry / "new.conf").read_text()

    on_active(tmp_path, work)


def test_a_deregistration_removes_the_conf_on_both_nodes_keeps_it_and_ends_the_program(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.registration.deregister(DeregisterRequest("web"), operator())
        assert answer["outcome"] is Outcome.DONE and answer["path"] == "web.conf"
        assert node.conf_names() == peer_names(node) == ["db.conf"]
        assert node.running() == ["db"] and "web" not in node.client.loaded
        assert len(list((node.state_dir / "kept").rglob("web.conf"))) == 1
        again = await node.registration.deregister(DeregisterRequest("web"), operator())
        assert again["outcome"] is Outcome.REFUSED and "not registered" in again["reason"]

    on_active(tmp_path, work)


def test_a_conf_of_others_too_goes_only_where_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        answer = await node.registration.deregister(DeregisterRequest("one"), operator())
        assert answer["outcome"] is Outcome.REFUSED and "two" in answer["reason"]
        answer = await node.registration.deregister(DeregisterRequest("one", file=True), operator())
        assert answer["outcome"] is Outcome.DONE and not {"one", "two"} & set(node.running())
        (node.registry / "o1.conf.parked").write_text(program_conf("m"))
        await node.group.view.compare_now()
        answer = await node.registration.deregister(DeregisterRequest("m"), operator())
        assert answer["outcome"] is Outcome.REFUSED and "m.conf and o1.conf.parked" in answer["reason"]

    on_active(tmp_path, work, confs=GROUPED)


@pytest.mark.parametrize("how", ["left", "down"])
def test_a_deregistration_that_cannot_end_the_program_says_that_the_conf_is_gone(tmp_path: pathlib.Path, how: str) -> None:
    async def work(node: Node) -> None:
        if how == "left":
            node.client.stubborn, node.table.left = {"web"}, [Marked(77, 1, 5, "web", "web")]
        else:
            node.client.problem = "refused"
        answer = await node.registration.deregister(DeregisterRequest("web"), operator())
        wanted = "still running: web (pid 77)" if how == "left" else "supervisord: refused"
        assert answer["outcome"] is Outcome.FAILED and answer["reason"] == f"web.conf is removed, but {wanted}"
        assert answer["ack"] == {"on_peer": True, "reason": None}

    on_active(tmp_path, work)


# ---- whatever the order ---------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["stop", "start", "restart", "update"]), st.sampled_from(["web", "db"])), max_size=4
)


@settings(max_examples=12, deadline=None)
@given(STEPS)
def test_after_any_commands_what_runs_is_what_both_registries_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """So a failover after any of them starts just what runs."""

    async def work(node: Node) -> None:
        for verb, name in steps:
            match verb:
                case "stop":
                    await node.programs.stop(stop(name), operator())
                case "start":
                    await node.programs.start(start(name), operator())
                case "restart":
                    await node.programs.restart(NamesRequest((name,)), operator())
                case _:
                    await node.update.update(NamesRequest(()), operator())
            registered = sorted(p.removesuffix(".conf") for p in node.conf_names() if p.endswith(".conf"))
            assert node.running() == registered and peer_names(node) == node.conf_names()

    on_active(tmp_path_factory.mktemp("node"), work)
