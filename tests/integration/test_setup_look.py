"""What setup sees of a real supervisord, and what it plans for its confs: nothing is written."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ha_agent.adapters.setup_changes import SetupChanges
from ha_agent.adapters.supervisord import Supervisord, SupervisordDown, find_supervisord, python_of
from ha_agent.adapters.supervisord_survey import find_running
from ha_agent.cli.setup_look import ConfPlan, Look, look_at_supervisord, plan_confs, read_running
from ha_agent.core.settings import check_settings
from ha_agent.core.supervisor_survey import find_obstacles
from tests.lab_support import wait_for

BIN = os.path.join(sys.prefix, "bin")
SLEEPER = "[program:{}]\ncommand=/bin/sleep 300\nstartsecs=0\n"
ACTIVE = "/run/ha-agent/active/*.conf"


class Host:
    """A supervisord below a directory, with the main conf and the confs of one kind of server."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.main, self.socket = root / "supervisord.conf", root / "s.sock"
        self.confs = root / "conf.d"
        self.confs.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, name: str, *programs: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(SLEEPER.format(program) for program in programs), encoding="utf-8")

    def start(self, files: str = "conf.d/*.conf", door: str = "", more: str = "", programs: int = 1) -> None:
        door = door or f"[unix_http_server]\nfile={self.socket}\n"
        text = f"[supervisord]\nlogfile={self.root}/log\npidfile={self.root}/pid\nchildlogdir={self.root}\n"
        rpc = "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
        self.main.write_text(f"{door}{text}{rpc}{more}[include]\nfiles = {files}\n", encoding="utf-8")
        words = [sys.executable, f"{BIN}/supervisord", "-n", "-c", str(self.main)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("it answers", lambda: self.client.is_up() or "password" in self._refusal())
        wait_for("its programs run", lambda: len(read_running(self.look())) == programs)

    def _refusal(self) -> str:
        try:
            self.client.read_pid()
        except SupervisordDown as error:
            return str(error)
        return ""

    @property
    def client(self) -> Supervisord:
        return Supervisord(str(self.socket), 5.0, str(self.main))

    def look(self) -> Look:
        changes = SetupChanges(str(self.root / "state" / "setup.json"), str(self.root / "undone"))
        return look_at_supervisord(str(self.main), None, ACTIVE, changes)

    def plan(self, *, start_all: bool = False, move_programs: bool = False) -> ConfPlan:
        look = self.look()
        settings = check_settings(
            {
                "node": {"name": "node-a", "address": "192.0.2.11"},
                "peer": {"name": "node-b", "address": "192.0.2.12"},
                "vrrp": {"vip": "192.0.2.10/24"},
                "registry": {"path": look.registry},
                "supervisor": {"socket": str(self.socket), "config": str(self.main), "python": sys.executable},
            }
        )
        return plan_confs(look, settings, start_all=start_all, move_programs=move_programs)

    def due(self, plan: ConfPlan) -> dict[str, str | None]:
        return {os.path.relpath(c.path, self.root): c.new for c in plan.changes if c.is_due}

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.end()


def test_confs_that_all_run_stay_as_they_are(host: Host) -> None:
    host.write("conf.d/a.conf", "a")
    host.write("conf.d/b.conf", "b1", "b2")
    host.start(programs=3)
    plan = host.plan()
    assert plan.refused == () and host.due(plan) == {} and plan.said == ()
    look = host.look()
    assert look.registry == str(host.confs) and look.is_adopting and read_running(look) == ["a", "b1", "b2"]


def test_backups_in_sub_directories_and_files_that_are_not_included_are_parked(host: Host) -> None:
    host.write("conf.d/app.conf", "app")
    host.write("conf.d/2023-backup/app.conf", "app")
    host.write("conf.d/old.ini", "old")
    host.start()
    plan = host.plan()
    assert plan.refused == ()
    assert {name: new is None for name, new in host.due(plan).items()} == {
        "conf.d/2023-backup/app.conf": True,
        "conf.d/2023-backup/app.conf.not-included": False,
        "conf.d/old.ini": True,
        "conf.d/old.ini.not-included": False,
    }
    assert any("old.ini is left out, as" in text and "does not include it today" in text for text in plan.said)


def test_a_linked_conf_keeps_its_name_and_is_copied(host: Host) -> None:
    host.write("deploy/one/supervisor.conf", "one")
    host.write("deploy/two/supervisor.conf", "two")
    for name in ("one", "two"):
        (host.confs / f"{name}.conf").symlink_to(f"../deploy/{name}/supervisor.conf")
    host.start(programs=2)
    plan = host.plan()
    assert plan.refused == () and set(host.due(plan)) == {"conf.d/one.conf", "conf.d/two.conf"}
    assert len([text for text in plan.said if "is a link to" in text and "is copied" in text]) == 2


def test_confs_of_another_directory_are_copied_and_two_of_one_name_are_refused(host: Host) -> None:
    host.write("conf.d/a.conf", "a")
    host.write("srv/s2.ini", "s2")
    host.start("conf.d/*.conf srv/*.ini", programs=2)
    assert set(host.due(host.plan())) == {"conf.d/s2.ini"}
    host.write("conf.d/s2.ini", "else")
    assert any("would both become s2.ini" in text for text in host.plan().refused)


def test_a_socket_elsewhere_with_a_password_is_asked_as_the_main_conf_says(host: Host) -> None:
    host.socket = host.root / "else" / "x.sock"
    host.socket.parent.mkdir()
    host.write("conf.d/a.conf", "a")
    host.start(door="[unix_http_server]\nfile=%(here)s/else/x.sock\nusername=u\npassword=p:%%word ; secret\n")
    look = host.look()
    assert look.survey.door.socket == str(host.socket) and look.survey.answering == find_supervisord(str(host.socket))
    assert read_running(look) == ["a"] and host.plan().refused == ()
    with pytest.raises(SupervisordDown, match="a user name and a password"):
        Supervisord(str(host.socket), 5.0).read_pid()


def test_an_inet_port_alone_is_an_obstacle(host: Host) -> None:
    host.main.write_text("[inet_http_server]\nport=127.0.0.1:9001\n[supervisord]\n", encoding="utf-8")
    assert "only [inet_http_server]" in find_obstacles(host.look().survey, leave_others=True)[0]


def test_programs_of_the_main_conf_are_refused_or_moved_and_mean_the_same(host: Host) -> None:
    inline = (
        SLEEPER.format("in1").replace("300", "301")
        + "directory=%(here)s\n"
        + SLEEPER.format("in2")
        + "[group:g]\nprograms=in2\n"
    )
    host.start(more=inline, programs=2)
    assert "--move-programs" in host.plan().refused[0]
    plan = host.plan(move_programs=True)
    assert plan.refused == () and set(host.due(plan)) == {"conf.d/g.conf", "conf.d/in1.conf"}
    assert "[program" not in plan.main
    for change in plan.changes:
        assert change.new is not None
        pathlib.Path(change.path).write_text(change.new, encoding="utf-8")
    host.main.write_text(plan.main, encoding="utf-8")
    assert host.client.reread() == ([], [], []), "supervisord sees no difference"


def test_what_is_stopped_is_parked_and_what_was_edited_since_is_refused(host: Host) -> None:
    host.write("conf.d/a.conf", "a")
    host.write("conf.d/b.conf", "b")
    host.start(programs=2)
    host.client.call("stopProcess", ["b"])
    plan = host.plan()
    assert set(host.due(plan)) == {"conf.d/b.conf", "conf.d/b.conf.parked"} and plan.refused == ()
    assert host.due(host.plan(start_all=True)) == {}
    (host.confs / "a.conf").write_text(SLEEPER.format("a") + "stopwaitsecs=7\n", encoding="utf-8")
    assert any("a.conf was changed since supervisord loaded a" in text for text in host.plan().refused)
    (host.confs / "a.conf").write_text("nonsense\n", encoding="utf-8")
    assert any("refuses its own configuration" in text for text in host.plan().refused)


def test_an_event_listener_in_a_conf_of_the_registry_is_refused_before_it_is_lost(host: Host) -> None:
    listener = "[eventlistener:mail]\ncommand=/bin/cat\nevents=PROCESS_STATE\n"
    (host.confs / "a.conf").write_text(SLEEPER.format("a") + listener, encoding="utf-8")
    host.start(programs=2)
    assert any("a.conf runs now and cannot be loaded" in text for text in host.plan().refused)


def test_every_supervisord_of_the_machine_is_found_with_its_main_conf(host: Host) -> None:
    host.write("conf.d/a.conf", "a")
    host.start()
    found = [one for one in find_running() if one.main_conf == str(host.main)]
    assert len(found) == 1 and found[0].uid == os.geteuid() and found[0].pid == host.client.read_pid()


def test_a_conf_from_elsewhere_means_the_same_in_the_registry_also_where_it_says_here(host: Host) -> None:
    host.write("real/s2.ini", "s2")
    with open(host.root / "real/s2.ini", "a", encoding="utf-8") as file:
        file.write('directory=%(here)s\nenvironment=HOME="%(here)s"\n')
    (host.root / "srv").symlink_to("real")
    host.write("conf.d/a.conf", "a")
    host.start("conf.d/*.conf srv/*.ini", programs=2)
    plan = host.plan()
    for change in plan.changes:
        assert change.new is not None
        pathlib.Path(change.path).write_text(change.new, encoding="utf-8")
    host.main.write_text(host.main.read_text(encoding="utf-8").replace("srv/*.ini", "conf.d/*.ini"), encoding="utf-8")
    assert host.client.reread() == ([], [], []), "supervisord sees no difference"


def test_a_conf_that_is_not_root_s_is_refused_before_the_agent_leaves_it_out(host: Host) -> None:
    host.write("conf.d/a.conf", "a")
    host.start()
    os.chown(host.confs / "a.conf", 65534, 65534)
    assert any("a.conf belongs to nobody and not to root: chown root" in text for text in host.plan().refused)
    os.chown(host.confs / "a.conf", 0, 0)
    os.chmod(host.confs / "a.conf", 0o666)
    assert any("may be written by everybody" in text for text in host.plan().refused)


def test_an_include_with_an_expansion_is_read_as_supervisord_reads_it(host: Host) -> None:
    host.write(f"conf.d/{os.uname().nodename}.conf", "a")
    os.environ["SETUP_LOOK"] = "conf"
    try:
        host.start("conf.d/%(host_node_name)s.%(ENV_SETUP_LOOK)s")
    finally:
        del os.environ["SETUP_LOOK"]
    plan = host.plan()
    assert plan.refused == () and host.due(plan) == {} and host.look().registry == str(host.confs)


def test_the_interpreter_that_env_has_found_is_known(tmp_path: pathlib.Path) -> None:
    environment = {"PATH": f"{BIN}:/usr/bin"}
    process = subprocess.Popen(["python3", "-c", "import time; time.sleep(60)"], executable=sys.executable, env=environment)
    try:
        wait_for("it runs", lambda: python_of(process.pid) == f"{BIN}/python3")
    finally:
        process.kill()
        process.wait()
