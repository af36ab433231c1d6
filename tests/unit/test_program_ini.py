"""A program's own file becomes its conf; a user other than root cannot become somebody else by it."""

from __future__ import annotations

import pytest

from ha_agent.core.file_keys import read_files, read_own_files
from ha_agent.core.program_ini import (
    LogRules,
    ProgramIniError,
    Registrant,
    name_problem,
    registered_from,
    render_program,
    sample_ini,
)

LOGS = LogRules("/var/log/supervisor", "20MB", 5)
ROOT = Registrant("app", None, is_root=True)
ALICE = Registrant("alice", frozenset({"alice", "app"}), is_root=False)


def render(text: str, who: Registrant = ROOT, directory: str = "/opt/bill") -> dict[str, str]:
    lines = render_program("bill", directory, text, who, LOGS).splitlines()
    assert lines[1] == "[program:bill]"
    return dict(line.split("=", 1) for line in lines[2:] if not line.startswith(" "))


def test_what_the_file_does_not_say_has_a_good_value() -> None:
    found = render("[program]\ncommand = current/bin/run --port 80\n")
    assert found["command"] == "/opt/bill/current/bin/run --port 80" and found["directory"] == "/opt/bill"
    assert found["user"] == "app" and found["stopasgroup"] == found["killasgroup"] == "true"
    assert found["stdout_logfile"] == "/var/log/supervisor/%(program_name)s.log"
    assert (found["stdout_logfile_maxbytes"], found["stdout_logfile_backups"]) == ("20MB", "5")


def test_several_instances_have_names_and_logs_of_their_own() -> None:
    found = render("[program]\ncommand=run --n %(process_num)d\nnumprocs = 3\n")
    assert found["process_name"] == "%(program_name)s_%(process_num)02d" and "process_num" in found["stdout_logfile"]
    assert found["command"] == "run --n %(process_num)d"


def test_relative_paths_and_here_mean_the_folder() -> None:
    found = render("[program:bill]\ncommand='bin/a b' x\ndirectory=current\nenvironment=HOME=\"%(here)s\"\n")
    assert found["command"] == "'/opt/bill/bin/a b' x" and found["directory"] == "/opt/bill/current"
    assert found["environment"] == 'HOME="/opt/bill"'
    assert render("[program]\ncommand=python3 -m x\n")["command"] == "python3 -m x"
    assert render("[program]\ncommand=/usr/bin/x\n")["command"] == "/usr/bin/x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one section [program]"),
        ("command=x\n", "line 1 stands before any section"),
        ("[program]\n", "command is missing"),
        ("[program:other]\ncommand=x\n", "[program:other]"),
        ("[program]\ncommand=x\n[supervisord]\n", "[supervisord]"),
        ("[program]\ncomand=x\n", "did you mean command"),
        ("[program]\ncommand=x\ncommand=y\n", "command is set twice"),
        ("[program]\ncommand=x\nsocket=/tmp/x\n", "socket: no such key"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ProgramIniError) as caught:
        render(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "user=root",
        "user=bob",
        "stdout_logfile=/etc/cron.d/x",
        "stderr_logfile=/root/.ssh/authorized_keys",
        "serverurl=unix:///run/supervisor.sock",
        "stdout_syslog=true",
    ],
)
def test_an_ordinary_user_can_not_become_another_one(line: str) -> None:
    with pytest.raises(ProgramIniError):
        render(f"[program]\ncommand=x\n{line}\n", ALICE)
    if not line.startswith("user=bob"):
        render(f"[program]\ncommand=x\n{line}\n", ROOT)


def test_an_ordinary_user_runs_as_himself_or_as_who_was_allowed() -> None:
    assert render("[program]\ncommand=x\n", ALICE)["user"] == "alice"
    assert render("[program]\ncommand=x\nuser=app\n", ALICE)["user"] == "app"


def test_a_value_can_not_bring_in_another_key_or_section() -> None:
    sneaky = '[program]\ncommand=x\n  user=root\n  [program:evil]\nenvironment=A="1"\n\n  stdout_logfile=/etc/passwd\n'
    conf = render_program("bill", "/opt/bill", sneaky, ALICE, LOGS)
    import configparser

    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(conf)
    assert parser.sections() == ["program:bill"] and parser.get("program:bill", "user") == "alice"
    assert parser.get("program:bill", "stdout_logfile").startswith("/var/log/supervisor/")


@pytest.mark.parametrize("directory", ["relative", "/a\nb", "/a;b", "/a%(x)s", "/a#b"])
def test_a_folder_whose_path_supervisord_would_read_as_something_else_is_refused(directory: str) -> None:
    with pytest.raises(ProgramIniError):
        render_program("bill", directory, "[program]\ncommand=x\n", ROOT, LOGS)


def test_names_that_would_mean_something_else_are_refused() -> None:
    for name in ("all", "supervisord", "a b", "a:b", "", ".x", "-x", "a/b", "x" * 64, "a*"):
        assert name_problem(name), name
    assert name_problem("billing-2.x_y") is None


def test_a_conf_says_which_folder_it_is_from() -> None:
    conf = render_program("bill", "/opt/by supzcli; x/bill".replace(";", ""), "[program]\ncommand=x\n", ROOT, LOGS)
    assert registered_from(conf) == "/opt/by supzcli x/bill"
    assert registered_from("[program:x]\n") is None and registered_from("; registered from \n") is None


def test_the_sample_of_a_new_program_is_a_good_one() -> None:
    for count in (1, 4):
        text = sample_ini("bin/run", "alice", count, ".")
        found = render(text, ALICE)
        assert found["command"] == "/opt/bill/bin/run" and found["numprocs"] == str(count)
        assert ("process_name" in found) is (count > 1)


def test_files_that_belong_to_the_program_are_named_from_the_folder_on() -> None:
    text = "[program]\n; ha-agent: files = etc/app.toml, %(here)s/rules\ncommand=run ; ha-agent: files=no\n"
    text += "#ha-agent:files=/opt/bill/x\n"
    conf = render_program("bill", "/opt/bill", text, ALICE, LOGS)
    assert read_files(conf)[0]["program:bill"].files == ("/opt/bill/etc/app.toml", "/opt/bill/rules", "/opt/bill/x")
    assert render(text)["command"] == "run"


@pytest.mark.parametrize("path", ["/etc/shadow", "/opt/billing/x", "../bill2/x", "/opt/bill/../x"])
def test_an_ordinary_user_names_files_of_his_programs_folder_alone(path: str) -> None:
    text = f"[program]\n; ha-agent: files = {path}\ncommand=x\n"
    with pytest.raises(ProgramIniError, match="files="):
        render(text, ALICE)
    if ".." not in path:
        conf = render_program("bill", "/opt/bill", text, ROOT, LOGS)
        assert read_files(conf)[0]["program:bill"].files == (path,)


def test_the_sample_names_no_file() -> None:
    assert read_own_files(sample_ini("x", "app", 1, "."), "/opt/bill") == ([], [])
