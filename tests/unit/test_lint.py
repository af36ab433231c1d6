"""Every warning of lint has a conf that earns it and one that does not, with the right line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.findings import Severity
from ha_agent.core.lint import (
    DAEMONS,
    PROGRAM_OPTIONS,
    find_daemon,
    lint_conf,
    lint_together,
    lint_verdict,
    read_sections,
)

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
    assert codes(program("stdout_logfile=/dev/stdout", "stdout_logfile_maxbytes=0")) == []


def test_processes_that_share_a_log_are_found() -> None:
    many = ("numprocs=2", "process_name=%(program_name)s_%(process_num)02d")
    assert codes(program(*many, "stdout_logfile=/var/log/x.log")) == [("shared-log", 5)]
    assert codes(program(*many, "stdout_logfile=/var/log/x-%(process_num)d.log")) == []


@pytest.mark.parametrize(
    "command",
    [
        "service nginx start",
        "/usr/sbin/service x restart",
        "systemctl start x",
        "/etc/init.d/x start",
        "nginx",
        "/usr/sbin/nginx -c /etc/nginx.conf",
        "/usr/sbin/php-fpm8.2 -y /etc/php.conf",
        "/usr/bin/mysqld_safe --user=mysql",
        "apachectl start",
        "/usr/sbin/apache2 -k start",
        "/opt/tomcat/bin/catalina.sh start",
        "/opt/tomcat/bin/startup.sh",
        "zkServer.sh start",
        "kafka-server-start.sh -daemon x",
        "redis-server --daemonize yes",
        "lighttpd -f x",
        "/usr/sbin/sshd",
        "cron",
        "memcached -m 64 -d",
        "gunicorn app --daemon",
        "celery -A x worker --detach",
        "pg_ctl -D x start",
        "supervisord -c x",
        "nohup java -jar x.jar",
        "/bin/bash -c 'exec java -jar x.jar &'",
        "java -jar x.jar &",
    ],
)
def test_a_command_that_leaves_the_foreground_is_found_with_its_fix(command: str) -> None:
    found = [f for f in lint_conf("web.conf", program(command=command)) if f.code == "daemonises"]
    assert len(found) == 1 and found[0].remedy and found[0].line == 2


@pytest.mark.parametrize(
    "command",
    [
        "/usr/sbin/nginx -g 'daemon off;'",
        "php-fpm -F",
        "mysqld --user=mysql",
        "apachectl -D FOREGROUND",
        "apache2 -DFOREGROUND",
        "catalina.sh run",
        "zkServer.sh start-foreground",
        "redis-server --daemonize no",
        "redis-server /etc/redis.conf",
        "lighttpd -D -f x",
        "/usr/sbin/sshd -D",
        "cron -f",
        "memcached -m 64",
        "supervisord -n",
        "java -jar x.jar",
        "/bin/bash -c 'exec a 2>&1'",
        "my-service start",
        "/opt/nginx-exporter --port 9113",
        "python3 -m http.server && true",
    ],
)
def test_a_command_that_stays_is_not(command: str) -> None:
    assert find_daemon(command) is None


def test_a_shell_between_is_found_unless_it_execs_or_stops_as_a_group() -> None:
    assert ("shell-wrapper", 2) in codes(program(command="/bin/sh -c 'a | b'"))
    assert ("shell-wrapper", 2) in codes(program(command="/opt/x/run.sh"))
    assert ("shell-wrapper", 2) in codes(program(command="/usr/bin/env A=1 bash /opt/x/run"))
    assert codes(program(command="/bin/sh -c 'exec a'")) == []
    assert codes(program("stopasgroup=true", command="/opt/x/run.sh")) == []
    assert codes(program(command="/usr/bin/python3 /opt/run.py")) == []


def test_pidproxy_that_starts_by_itself_is_found() -> None:
    found = codes(program(command="pidproxy /run/x.pid /usr/bin/mysqld_safe"))
    assert found == [("pidproxy-restarts", 2), ("pidproxy-autostart", 2)]
    assert codes(program("autorestart=false", "autostart=no", command="pidproxy /run/x.pid /usr/bin/x")) == []


def test_sections_that_do_not_belong_are_found() -> None:
    text = program() + "[eventlistener:x]\ncommand=y\n[supervisord]\n[unix_http_server]\n[programm:y]\n"  # codespell:ignore
    assert codes(text) == [("foreign-section", n) for n in (3, 5, 6)] + [("unknown-section", 7)]


def test_a_missing_command_and_quotes_that_do_not_end_are_found() -> None:
    assert codes("[program:web]\nnumprocs=1\n") == [("no-command", 1)]
    assert codes(program(command="/bin/sh -c 'x")) == [("bad-command", 2)]


def test_a_file_whose_name_is_not_its_programs_is_found() -> None:
    assert codes(program(name="other")) == [("name-differs", 1)]
    assert codes(program(name="web"), "sub/web.conf.parked") == []
    assert codes(program(name="a") + program(name="b"), "both.conf") == []


def test_a_copied_conf_and_one_name_twice_are_found() -> None:
    texts = {"a.conf": program(name="a"), "b.conf": program(name="a"), "c.conf": program(name="c")}
    assert [(f.code, f.where) for f in lint_together(texts)] == [("copied", "b.conf")]
    assert [(f.code, f.where) for f in lint_together({"a.conf": program(name="a"), "sub/a.conf": program(name="a")})] == [
        ("duplicate-program", "sub/a.conf")
    ]
    assert [(f.code, f.line) for f in lint_together({"a.conf": program(name="a") * 2})] == [("duplicate-program", 3)]
    assert lint_together({"a.conf": program(name="a"), "a.conf.parked": program(name="a")}) == []


def test_what_the_parser_said_gets_its_line_and_code() -> None:
    text = program("user=nobodyx", "directory=/nowhere", "stdout_logfile=/nowhere/x.log")
    for problem, code, line in (
        ("Invalid user name nobodyx in section 'program:web'", "missing-user", 3),
        (
            "The directory named as part of the path /nowhere/x.log does not exist in section 'program:web'",
            "missing-log-directory",
            5,
        ),
        ("Source contains parsing errors: [line 4]: 'x'", "conf-not-loadable", 4),
    ):
        (found,) = lint_verdict("web.conf", text, {"problem": problem}, "node-b")
        assert (found.code, found.line) == (code, line) and "node-b" in found.text
    missing = ["executable /bin/true is missing", "directory /nowhere is missing"]
    verdict = {"problem": None, "programs": [{"name": "web", "missing": missing}]}
    gone = lint_verdict("web.conf", text, verdict, "node-b")
    assert [(f.code, f.line) for f in gone] == [("missing-binary", 2), ("missing-directory", 4)]


def test_every_row_of_the_table_of_daemons_has_a_fix() -> None:
    assert all(row.fix for row in DAEMONS)


def test_continued_lines_and_comments_are_read_as_supervisor_does() -> None:
    (section,) = read_sections(GOOD)
    assert section.value("environment") == 'A="1", B="2"'
    assert section.value("command") == "/usr/sbin/nginx -g 'daemon off;'"
    autostart = section.find("autostart")
    assert autostart is not None and autostart.line == 3


@given(st.text())
def test_any_text_at_all_is_judged_without_an_error(text: str) -> None:
    for finding in lint_conf("x.conf", text) + lint_together({"x.conf": text, "y.conf": text}):
        assert finding.severity in (Severity.ERROR, Severity.WARNING) and finding.text


@given(st.sampled_from(sorted(PROGRAM_OPTIONS - {"command"})), st.text(max_size=20))
def test_any_value_of_any_option_is_judged_without_an_error(option: str, value: str) -> None:
    lint_conf("web.conf", program(f"{option}={value}"))
