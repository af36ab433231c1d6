"""Every warning of lint has a conf that earns it and one that does not, with the right line."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ha_agent.core.conf_options import PROGRAM_OPTIONS
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.lint import lint_conf, lint_stops, lint_together
from ha_agent.core.surroundings import Surroundings

GOOD = """\
[program:web]
command=/usr/sbin/nginx -g 'daemon off;'   ; in the foreground
autostart = true
autorestart=unexpected
exitcodes=0,2
umask=022
stopsignal=QUIT
stdout_logfile=/var/log/web.log
stdout_logfile_maxbytes=10MB
environment=A="1",
    B="2"
"""


def codes(text: str, path: str = "web.conf") -> list[tuple[str, int]]:
    return [(f.code, f.line) for f in lint_conf(path, text)]


def findings(text: str, path: str = "web.conf", around: Surroundings | None = None) -> list[Finding]:
    return lint_conf(path, text, around) if around else lint_conf(path, text)


def the(code: str, text: str, path: str = "web.conf", around: Surroundings | None = None) -> Finding:
    (found,) = [f for f in findings(text, path, around) if f.code == code]
    return found


def program(*lines: str, name: str = "web", command: str = "/bin/true") -> str:
    return "\n".join([f"[program:{name}]", f"command={command}", *lines]) + "\n"


def test_a_good_conf_has_no_findings() -> None:
    assert codes(GOOD) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("numprocs=l", "wrong-type"),
        ("autostart=maybe", "wrong-type"),
        ("autorestart=always", "wrong-type"),
        ("startsecs=1.5", "wrong-type"),
        ("umask=099", "wrong-type"),
        ("stopsignal=TREM", "wrong-type"),
        ("exitcodes=0;2", "wrong-type"),
        ("stdout_logfile_maxbytes=10 potatoes", "wrong-type"),
        ("autostrat=true", "unknown-option"),
        ("numprocs=3", "no-process-num"),
    ],
)
def test_a_wrong_option_is_found_on_its_line(line: str, code: str) -> None:
    assert codes(program("", "; a comment", line)) == [(code, 5)]


def test_an_unlimited_log_is_found_unless_it_is_no_file() -> None:
    assert codes(program("stdout_logfile=/var/log/x.log", "stdout_logfile_maxbytes=0")) == [("log-unlimited", 4)]
    assert codes(program("stdout_logfile=/dev/null", "stdout_logfile_maxbytes=0")) == []


def test_processes_that_share_a_log_are_found() -> None:
    many = ("numprocs=2", "process_name=%(program_name)s_%(process_num)02d")
    assert codes(program(*many, "stdout_logfile=/var/log/x.log")) == [("shared-log", 5)]
    assert codes(program(*many, "stdout_logfile=/var/log/x-%(process_num)d.log")) == []


def test_a_shell_between_is_found_unless_it_execs_or_stops_as_a_group() -> None:
    assert ("shell-wrapper", 2) in codes(program(command="/bin/sh -c 'a | b'"))
    assert ("shell-wrapper", 2) in codes(program(command="/opt/x/run.sh"))
    assert ("shell-wrapper", 2) in codes(program(command="/usr/bin/env A=1 bash /opt/x/run"))
    assert the("shell-wrapper", program(command="/opt/x/run.sh")).text.startswith("run.sh runs the program: unless it hands")
    assert codes(program(command="/bin/sh -c 'exec a'")) == []
    assert codes(program("stopasgroup=true", command="/opt/x/run.sh")) == []
    assert codes(program(command="/usr/bin/python3 /opt/run.py")) == []


def test_pidproxy_that_starts_by_itself_is_found() -> None:
    found = codes(program(command="pidproxy /run/x.pid /usr/bin/mysqld_safe"))
    assert found == [("pidproxy-restarts", 2), ("pidproxy-autostart", 2)]
    assert codes(program("autorestart=false", "autostart=no", command="pidproxy /run/x.pid /usr/bin/x")) == [
        ("not-started", 4)
    ]


def test_sections_that_do_not_belong_are_found() -> None:
    text = program() + "[eventlistener:x]\ncommand=y\n[include]\n[unix_http_server]\n[programm:y]\n"  # codespell:ignore
    assert codes(text) == [("foreign-section", n) for n in (3, 5, 6)] + [("unknown-section", 7)]
    found = the("foreign-section", "[DEFAULT]\nuser=x\n" + program())
    assert found.line == 1 and "all other confs" in found.text


def test_a_main_conf_is_said_to_be_one_once() -> None:
    text = "[unix_http_server]\nfile=/x\n[supervisord]\n[rpcinterface:supervisor]\nx=y\n[include]\nfiles=/x\n" + program()
    (found,) = findings(text)
    assert (found.code, found.line) == ("foreign-section", 3)
    assert "main conf" in found.text and "[unix_http_server], [rpcinterface:supervisor], [include]" in found.text


def test_a_missing_command_and_quotes_that_do_not_end_are_found() -> None:
    assert codes("[program:web]\nnumprocs=1\n") == [("no-command", 1)]
    assert codes(program(command="/bin/sh -c 'x")) == [("bad-command", 2)]


def test_a_file_whose_name_is_not_its_programs_is_found() -> None:
    assert codes(program(name="other")) == [("name-differs", 1)]
    assert codes(program(name="web"), "sub/web.conf.parked") == []
    assert codes(program(name="a") + program(name="b"), "both.conf") == []


def test_a_new_name_keeps_the_kind_of_the_section_and_the_ending_of_the_file() -> None:
    found = the("name-differs", program(name="other"), "web.ini.parked")
    assert found.remedy == "rename the file to other.ini.parked, or the section to [program:web] if it was copied"
    found = the("name-differs", "[fcgi-program:other]\nsocket=unix:///x\ncommand=/x\n", "web.conf")
    assert "[fcgi-program:web]" in found.remedy
    other = "[fcgi-program:a]\ncommand=/x\n"
    (copied,) = lint_together({"a.conf": other, "b.conf": other})
    assert copied.remedy == "rename the section to [fcgi-program:b]"


def test_what_a_repository_calls_its_conf_is_renamed_when_it_is_deployed() -> None:
    elsewhere = Surroundings(is_registered=False)
    assert findings(program(name="app"), "deploy/supervisor.conf", elsewhere) == []
    assert findings(program(name="app"), "supervisord-app.ini", elsewhere) == []
    assert the("name-differs", program(name="app"), "web.conf", elsewhere).line == 1
    assert the("name-differs", program(name="app"), "/etc/supervisor/conf.d/supervisor.conf").line == 1


def test_a_copied_conf_and_one_name_twice_are_found() -> None:
    texts = {"a.conf": program(name="a"), "b.conf": program(name="a"), "c.conf": program(name="c")}
    assert [(f.code, f.where) for f in lint_together(texts)] == [("copied", "b.conf")]
    assert [(f.code, f.where) for f in lint_together({"a.conf": program(name="a"), "sub/a.conf": program(name="a")})] == [
        ("duplicate-program", "sub/a.conf")
    ]
    assert [(f.code, f.line) for f in lint_together({"a.conf": program(name="a") * 2})] == [("duplicate-program", 3)]
    assert lint_together({"a.conf": program(name="a"), "a.conf.parked": program(name="a")}) == []


def test_a_daemon_is_found_unless_its_own_conf_can_be_read_and_says_that_it_stays() -> None:
    text = program(command="/usr/sbin/nginx -c /srv/n.conf")
    found = the("daemonises", text)
    assert found.line == 2
    assert found.text.startswith("nginx leaves the foreground, unless /srv/n.conf says 'daemon off;': supervisord loses it")
    assert codes(text) == [("daemonises", 2)]
    stays = Surroundings({"/srv/n.conf": "daemon off;\n"}.get)
    assert findings(text, around=stays) == []
    leaves = Surroundings({"/srv/n.conf": "user x;\n"}.get)
    assert the("daemonises", text, around=leaves).text.startswith("nginx leaves the foreground: supervisord loses it")


def test_files_beside_the_conf_are_found_by_here() -> None:
    text = program("directory=%(here)s", command="%(here)s/run.sh")
    around = Surroundings({"/srv/confs/run.sh": "#!/bin/sh\nexec java\n"}.get, cwd="/srv")
    assert findings(text, "confs/web.conf", around) == []
    assert [f.code for f in findings(text, "web.conf", around)] == ["shell-wrapper"]


def test_pidproxy_is_to_be_dropped_and_needs_a_file_and_a_program() -> None:
    found = the("pidproxy-restarts", program(command="pidproxy /run/x.pid /usr/sbin/nginx -g 'daemon off;'"))
    assert found.remedy == "drop pidproxy where the program stays in the foreground; or autorestart=false"
    found = the("pidproxy-autostart", program(command="/usr/bin/pidproxy /run/x.pid /usr/bin/mysqld_safe"))
    assert found.remedy == "drop pidproxy, and have mysqld_safe stay in the foreground: run mysqld itself"
    for command in ("pidproxy /run/x/ /usr/bin/x", "pidproxy /run/x.pid"):
        assert ("pidproxy-file", 2) in codes(program(command=command))


@pytest.mark.parametrize("device", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"])
def test_a_log_that_is_a_socket_under_systemd_is_found(device: str) -> None:
    lines = (f"stdout_logfile={device}", "stdout_logfile_maxbytes=0", f"stderr_logfile={device}")
    assert codes(program(*lines)) == [("log-device", 3), ("log-device", 5)]
    assert the("log-device", program(lines[0])).remedy.startswith(
        "name a file, or stdout_logfile=NONE and stdout_syslog=true"
    )
    assert codes(program("stdout_logfile=/dev/null", "stderr_logfile=NONE")) == []


def test_a_log_of_errors_that_is_ignored_is_found() -> None:
    assert codes(program("redirect_stderr=true", "stderr_logfile=/var/log/x.err")) == [("ignored-log", 4)]
    for value in ("AUTO", "none", "/dev/null"):
        assert codes(program("redirect_stderr=false", f"stderr_logfile={value}")) == []
    assert codes(program("redirect_stderr=true", "stderr_logfile=NONE")) == []


def test_one_file_for_both_is_found_unless_nothing_is_rotated() -> None:
    both = ("stdout_logfile=/var/log/x.log", "stderr_logfile=/var/log/x.log")
    assert codes(program(*both)) == [("one-log-for-both", 4)]
    assert codes(program(*both, "redirect_stderr=true")) == [("ignored-log", 4)]
    never = ("stdout_logfile_maxbytes=0", "stderr_logfile_maxbytes=0")
    assert {code for code, _ in codes(program(*both, *never))} == {"log-unlimited"}
    assert codes(program("stdout_logfile=/var/log/x.log", "stderr_logfile=/var/log/y.log")) == []


def test_paths_that_depend_on_where_supervisord_was_started_are_found() -> None:
    text = program("directory=/srv/app", command="bin/run --x")
    assert codes(text) == [("relative-path", 2)] and the("relative-path", text).remedy == "write /srv/app/bin/run"
    assert codes(program("directory=app", "stdout_logfile=logs/x.log")) == [("relative-path", 4), ("relative-path", 3)]
    for command in ("run", "/bin/run", "%(here)s/bin/run", "~/bin/run"):
        assert "relative-path" not in dict(codes(program(command=command)))
    assert codes(program("stdout_logfile=%(ENV_LOGS)s/x.log", "directory=%(here)s")) == []


def test_an_option_that_stands_twice_is_found_with_what_it_may_have_been() -> None:
    text = program("stdout_logfile=/x/a.log", "stdout_logfile=/x/b.err")
    found = the("option-twice", text)
    assert (found.line, found.text) == (4, "stdout_logfile stands on lines 3, 4: the last one counts")
    assert found.remedy == "was one of them meant to be stderr_logfile?"
    assert the("option-twice", program("user=a", "user=b")).remedy == "remove the others"
    assert codes(program("user=a", "user=a")) == []


def test_an_option_that_means_nothing_is_named_once_with_all_its_lines() -> None:
    text = "".join(program("group=www", name=f"p{n}") for n in range(8))
    (found,) = findings(text)
    assert (found.code, found.line) == ("unknown-option", 3)
    assert found.text == "group means nothing to supervisord (also on lines 6, 9, 12, 15, 18 and 2 more)"
    assert found.remedy.startswith("remove it: the program has the groups of the user")
    found = the("unknown-option", program("environment=A=1", "PYTHONPATH=/srv"))
    assert found.text == "PYTHONPATH means nothing to supervisord" and "into environment=" in found.remedy


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("prog > /log", "'>'"),
        ("prog 2>&1", "'2>&1'"),
        ("cd /x && prog", "'&&'"),
        ("java -jar x.jar &", "'&'"),
        ("prog | cat", "'|'"),
        ("prog ~/x", "'~/x'"),
        ("prog --home $HOME/x", "'$HOME'"),
        ('prog --home "${HOME}"', "'${HOME}'"),
        ("prog --ip `hostname -i`", "'`'"),
        ("A=1 prog", "A=..."),
    ],
)
def test_words_of_a_shell_are_found_where_there_is_none(command: str, word: str) -> None:
    found = the("shell-syntax", program(command=command))
    assert found.line == 2 and word in found.text and found.remedy


@pytest.mark.parametrize(
    "command",
    [
        "bash -c 'exec prog > /log'",
        "sudo sh -c 'exec a $X'",
        "su - app -c 'prog && x'",
        "prog 'a | b' \"c; d\" '$HOME'",
        "java -cp x com.x.Main$Server",
        "grep a&b",
        "curl http://x/?a=1&b=2",
        "env A=1 prog",
    ],
)
def test_words_that_a_program_may_well_want_are_not(command: str) -> None:
    assert "shell-syntax" not in dict(codes(program(command=command)))


def test_a_comment_within_quotes_is_said_to_be_one() -> None:
    found = the("bad-command", program(command="bash -c 'a ;b'"))
    assert found.text.startswith('command ends before ";b\'", which begins a comment behind a blank, also in quotes')
    assert found.remedy.startswith("take away the blank before it")
    assert the("bad-command", program(command="bash -c 'a")).remedy == "correct the quotes"


def test_a_stop_that_does_not_reach_what_was_started_is_found() -> None:
    assert codes(program("killasgroup=true")) == [("killasgroup-alone", 3)]
    assert codes(program("killasgroup=true", "stopasgroup=true")) == []
    assert codes(program("killasgroup=true", command="sh -c 'a | b'")) == [("shell-wrapper", 2)]


@pytest.mark.parametrize("signal", ["KILL", "SIGKILL", "9", "kill"])
def test_a_stop_that_kills_is_found(signal: str) -> None:
    assert codes(program(f"stopsignal={signal}")) == [("stop-kills", 3)]


def test_a_stop_that_takes_longer_than_a_release_waits_is_found() -> None:
    found = the("stop-too-long", program("stopwaitsecs=90"))
    assert found.line == 3 and "release.stop_timeout_s, 60 s" in found.text
    assert found.remedy == "lower it, or set both above 90 in agent.toml of both nodes"
    assert the("stop-too-long", program("stopwaitsecs=3600")).remedy == "lower it below 3600"
    assert codes(program("stopwaitsecs=60")) == []
    roomy = Surroundings(stop_timeout_s=120.0, interlock_timeout_s=100.0)
    assert findings(program("stopwaitsecs=90"), around=roomy) == []
    assert "takeover.interlock_timeout_s, 100 s" in the("stop-too-long", program("stopwaitsecs=110"), around=roomy).text


def test_a_program_that_no_failover_starts_is_said_aloud_and_is_no_fault() -> None:
    found = the("not-started", program("autostart=false"))
    assert (found.severity, found.line) == (Severity.OK, 3) and "unless takeover.start_all" in found.text
    assert "unless" not in the("not-started", program("autostart=0"), around=Surroundings(starts_all=False)).text
    assert findings(program("autostart=false"), around=Surroundings(starts_all=True)) == []


def test_a_section_whose_options_are_all_indented_is_checked() -> None:
    assert codes("[program:web]\n  command=/bin/true\n  autostrat=true\n") == [("unknown-option", 3)]


def test_a_name_is_not_cut_at_a_bracket() -> None:
    assert "[program:{{ apps['x'] }}]" in the("no-command", "[program:{{ apps['x'] }}]\nuser=a\n").text


def test_a_member_that_nothing_defines_is_found_where_all_confs_are_known() -> None:
    group = "[group:g]\nprograms=a, b,c\n"
    texts = {"a.conf": program(name="a"), "b.conf.parked": program(name="b"), "g.conf": group}
    (found,) = lint_together(texts)
    assert (found.code, found.where, found.line) == ("unknown-member", "g.conf", 2) and "has c, which" in found.text


def test_a_command_that_is_made_to_take_for_ever_does_not() -> None:
    began = time.process_time()
    for part in ("kafka-server-start.sh ", "bash -c ", "exec sh ", "$", "`", "a&", "> "):
        lint_conf("web.conf", program(command=part * (300_000 // len(part))))
        lint_conf("web.conf", program(command=part * (60_000 // len(part))))
    assert time.process_time() - began < 10.0


def test_a_thousand_confs_are_linted_in_seconds() -> None:
    texts = {
        f"p{n}.conf": program("user=x", "numprocs=1", name=f"p{n}", command=f"bash -c 'cd /x && exec y {n}'")
        for n in range(1000)
    }
    began = time.process_time()
    assert [f for path, text in texts.items() for f in lint_conf(path, text)] == lint_together(texts) == []
    assert time.process_time() - began < 5.0


@given(st.text())
def test_any_text_at_all_is_judged_without_an_error(text: str) -> None:
    for finding in lint_conf("x.conf", text) + lint_together({"x.conf": text, "y.conf": text}):
        assert finding.severity is not Severity.UNKNOWN and finding.text


@given(st.sampled_from(sorted(PROGRAM_OPTIONS - {"command"})), st.text(max_size=20))
def test_any_value_of_any_option_is_judged_without_an_error(option: str, value: str) -> None:
    lint_conf("web.conf", program(f"{option}={value}"))


@given(st.text("[program:x]\ncomand=stwis 0123456789;#gl", max_size=300))
@example("[program:x]\ncommand=/bin/x\nstopwaitsecs=500\nstopsignal=KILL\n")
@example("[program:x]\nstopwaitsecs=500\n")
def test_what_is_said_of_stops_alone_is_what_is_said_of_them_among_all(text: str) -> None:
    stops = ("stop-kills", "stop-too-long")
    among_all = [finding for finding in lint_conf("x.conf", text, Surroundings()) if finding.code in stops]
    assert lint_stops("x.conf", text, Surroundings()) == among_all
