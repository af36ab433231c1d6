"""What keeps a pair from being made of a supervisord, said before anything is written."""

from __future__ import annotations

import pytest

from ha_agent.core.host_profile import DEBIAN, RED_HAT, choose_profile, choose_registry
from ha_agent.core.main_conf import Door, parse_main_conf, read_door
from ha_agent.core.supervisor_survey import Running, Survey, find_obstacles, is_supervisord_line, main_conf_in

MAIN = DEBIAN.main_conf
OURS = Running(10, 0, MAIN, "supervisor")


def survey(
    door: Door | None = None,
    running: tuple[Running, ...] = (OURS,),
    answering: int | None = 10,
    *,
    has_main_conf: bool = True,
    has_confs: bool = True,
) -> Survey:
    silence = "" if answering else "connection refused"
    where = Door("/run/supervisor.sock") if door is None else door
    return Survey(DEBIAN, MAIN, has_main_conf, where, running, answering, silence, has_confs)


OBSTACLES = {
    "no main conf": (survey(has_main_conf=False), "is supervisor installed? (apt install supervisor)"),
    "inet alone": (survey(Door(port="127.0.0.1:9001"), answering=None), "only [inet_http_server] port=127.0.0.1:9001"),
    "no door": (survey(Door(), answering=None), "has no [unix_http_server],"),
    "a digest": (survey(Door("/s", "u", "{SHA}82ab876d", "", True), answering=None), "its password as a digest"),
    "an expansion": (survey(Door("%(ENV_HOME)s/s"), answering=None), "expansions"),
    "another socket": (
        survey(answering=None),
        "does not answer as /etc/supervisor/supervisord.conf says (connection refused)",
    ),
    "confs and no supervisord": (survey(running=(), answering=None), "systemctl start supervisor"),
    "not as root": (survey(running=(Running(10, 1000, MAIN, "supervisor"),)), "runs as user 1000"),
    "no unit": (survey(running=(Running(10, 0, MAIN, ""),)), "in no systemd service"),
    "another unit": (survey(running=(Running(10, 0, MAIN, "app"),)), "runs in app.service"),
    "several": (survey(running=(OURS, Running(11, 0, "/srv/b.conf", ""))), "pid 11 with /srv/b.conf beside pid 10"),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_each_obstacle_is_one_sentence(what: str) -> None:
    seen, said = OBSTACLES[what]
    found = find_obstacles(seen, leave_others=False)
    assert len(found) == 1 and said in found[0]


def test_a_usual_supervisord_has_none_nor_has_a_bare_machine_nor_others_that_may_stay() -> None:
    assert find_obstacles(survey(), leave_others=False) == []
    assert find_obstacles(survey(running=(), answering=None, has_confs=False), leave_others=False) == []
    assert find_obstacles(survey(running=(OURS, Running(11, 0, "", ""))), leave_others=True) == []
    assert find_obstacles(survey(Door("/tmp/supervisor.sock", "u", "p")), leave_others=False) == []


@pytest.mark.parametrize(
    ("line", "is_one", "conf"),
    [
        ("/usr/bin/python3 /usr/bin/supervisord -n -c /etc/a.conf", True, "/etc/a.conf"),
        ("/usr/bin/python3 -W ignore /usr/local/bin/supervisord --configuration=/b.conf", True, "/b.conf"),
        ("python3 -m supervisor.supervisord -c/c.conf", True, "/c.conf"),
        ("supervisord", True, None),
        ("supervisord -c", True, None),
        ("journalctl -u supervisord", False, None),
        ("vim /usr/bin/supervisord", False, None),
        ("/usr/bin/python3 /usr/bin/supervisorctl -c /etc/a.conf", False, "/etc/a.conf"),
        ("", False, None),
    ],
)
def test_a_supervisord_is_known_by_its_command_line(line: str, is_one: bool, conf: str | None) -> None:
    assert is_supervisord_line(line.split()) is is_one and main_conf_in(line.split()) == conf


def test_the_door_is_what_the_main_conf_says() -> None:
    text = "[unix_http_server]\nfile=%(here)s/run/s.sock ; here\nusername=u\npassword=p\n[inet_http_server]\nport=*:9001\n"
    assert read_door(parse_main_conf(text), "/srv/s.conf") == Door("/srv/run/s.sock", "u", "p", "*:9001")
    assert read_door(parse_main_conf("[supervisord]\n"), "/srv/s.conf") == Door()
    assert read_door(parse_main_conf("[unix_http_server]\nfile=/s\npassword={SHA}0\n"), "/s.conf").has_hash


def test_the_layout_is_that_of_what_runs_then_that_of_the_disk() -> None:
    assert choose_profile("/etc/supervisord.conf", lambda path: True) is RED_HAT
    assert choose_profile(MAIN, lambda path: False) is DEBIAN
    assert choose_profile(None, lambda path: path == RED_HAT.main_conf) is RED_HAT
    assert choose_profile("/opt/s.conf", lambda path: path == "/etc/redhat-release") is RED_HAT
    assert choose_profile(None, lambda path: False) is DEBIAN


def test_the_registry_is_the_usual_directory_or_the_first_that_is_included() -> None:
    foreign = ("/run/ha-agent/active", "/etc/supervisor/local.d")
    assert choose_registry(DEBIAN, ["/srv/p/*.ini", "/etc/supervisor/conf.d/*.conf"], foreign) == DEBIAN.registry
    assert choose_registry(DEBIAN, ["/run/ha-agent/active/*.conf", "/srv/p/*.ini"], foreign) == "/srv/p"
    assert choose_registry(RED_HAT, ["/srv/*/a.conf"], foreign) == "/etc/supervisord.d"
    assert choose_registry(RED_HAT, [], foreign) == "/etc/supervisord.d"
