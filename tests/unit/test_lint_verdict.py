"""What supervisord's parser says of a conf gets its code, the line that is to blame, and a remedy that can be followed."""

from __future__ import annotations

import pytest

from ha_agent.core.conf_text import read_sections
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.lint import lint_conf
from ha_agent.core.lint_verdict import drop_doubts, find_line, lint_verdict

HERE = " in section 'program:web' (file: 'this file')"


def conf(*lines: str, head: str = "program:web") -> str:
    return "\n".join([f"[{head}]", "command=/bin/true", *lines]) + "\n"


def verdict_on(text: str, problem: str, *, is_registered: bool = True) -> Finding:
    (found,) = lint_verdict("web.conf", text, {"problem": problem}, "node-b", is_registered=is_registered)
    return found


NO_LOG = "The directory named as part of the path {} does not exist"

LINES: list[tuple[str, str, int]] = [
    (conf("priority=1", "user=nobodyx"), "Invalid user name nobodyx" + HERE, 4),
    (conf("user=a", "user=nobodyx"), "Invalid user name nobodyx" + HERE, 4),
    (conf("socket=unix:///x", "user=nobodyx", head="fcgi-program:web"), "Invalid user name nobodyx", 4),
    (conf("socket=unix:///x", "socket_owner=nobodyx", head="fcgi-program:web"), "Invalid socket_owner value nobodyx", 4),
    (conf("socket=unix:///x", "socket_mode=9", head="fcgi-program:web"), "Invalid socket_mode value 9", 4),
    (conf("socket=foo", head="fcgi-program:web"), "('Bad socket format %s', 'foo') in [fcgi-program:web] socket", 3),
    (conf(head="fcgi-program:web"), '[fcgi-program:web] section requires a "socket" line', 1),
    (conf("stdout_logfile=/tmp/x", "stderr_logfile=/b/x"), NO_LOG.format("/b/x"), 4),
    (conf("stderr_logfile=/b/x", "stdout_logfile=/b/x.log"), NO_LOG.format("/b/x.log"), 4),
    (conf("stdout_logfile=/a/x", "stdout_logfile=/b/x"), NO_LOG.format("/b/x"), 4),
    (conf("stdout_logfile=/tmp/x", "stderr_logfile=/b/%(program_name)s.log"), NO_LOG.format("/b/web.log"), 4),
    (conf("environment=A=1", "directory=/b"), "/b is not an existing directory" + HERE, 4),
    (conf("directory=/"), "program:web.command: incomplete format; a percent sign is written %%" + HERE, 2),
    (conf("directory=/a", "environment=B=/a%"), "environment: incomplete format; a percent sign is written %%" + HERE, 4),
    (conf("user=%(ENV_U)s"), "program:web.user: there is nothing that %(ENV_U)s could stand for" + HERE, 3),
    (conf("autostart=maybe"), "not a valid boolean value: 'maybe'" + HERE, 3),
    (conf("startsecs=1", "numprocs=l"), "invalid literal for int() with base 10: 'l'", 4),
    (conf("stdout_logfile_maxbytes=10 potatoes"), "invalid literal for int() with base 10: '10 potatoes'" + HERE, 3),
    (conf("stopsignal=TREM"), "value 'TREM' is not a valid signal name" + HERE, 3),
    (conf("numprocs=3"), "%(process_num) must be present within process_name when numprocs > 1" + HERE, 3),
    (conf("process_name=a b"), "Invalid name: 'a b' because of character: ' '" + HERE, 3),
    (conf("stopasgroup=true", "killasgroup=false"), "Cannot set stopasgroup=true and killasgroup=false" + HERE, 3),
    ("[program:web]\nnumprocs=1\n", "program section program:web does not specify a command" + HERE, 1),
    (conf("foo"), "line 3 is neither a section nor an option (name=value)", 3),
    (
        conf(head="program:celery") + conf("user=nobodyx", head="program:celerybeat"),
        "Invalid user name nobodyx in section 'program:celerybeat' (file: 'this file')",
        5,
    ),
    (
        conf("user=nobodyx", head="program:celerybeat") + conf("user=nobodyx", head="program:celery"),
        "Invalid user name nobodyx in section 'program:celery' (file: 'this file')",
        6,
    ),
    (conf(), "something that nobody has seen before", 1),
    ("", "defines no program", 0),
]


@pytest.mark.parametrize(("text", "problem", "line"), LINES)
def test_a_message_leads_to_the_line_that_is_to_blame(text: str, problem: str, line: int) -> None:
    assert find_line(read_sections(text), problem) == line


@pytest.mark.parametrize(
    ("problem", "code", "remedy"),
    [
        ("Invalid user name x" + HERE, "missing-user", "create the user on node-b"),
        (NO_LOG.format("/b/x"), "missing-log-directory", "create the directory on node-b"),
        ("/b is not an existing directory", "missing-directory", "create the directory on node-b"),
        (
            "program:web.command: there is nothing that %(ENV_X)s could stand for" + HERE,
            "conf-not-loadable",
            "set it in supervisord's environment on node-b (environment= of [supervisord]), or write its value here",
        ),
        (
            "program:web.command: there is nothing that %(directory)s could stand for" + HERE,
            "conf-not-loadable",
            "correct the name; a percent sign is written %%",
        ),
        (
            "program:web.command: incomplete format; a percent sign is written %%" + HERE,
            "conf-not-loadable",
            "write %% for each percent sign that is meant",
        ),
        ("begins with a byte order mark", "conf-not-loadable", "save it as UTF-8 without a byte order mark"),
        (
            "line 1 is neither a section nor an option (name=value)",
            "conf-not-loadable",
            "write name=value; what goes on with a value is indented",
        ),
        ("value 'TREM' is not a valid signal name", "conf-not-loadable", "correct it"),
    ],
)
def test_each_problem_has_its_code_and_its_remedy(problem: str, code: str, remedy: str) -> None:
    found = verdict_on(conf("directory=/b"), problem, is_registered=False)
    assert (found.code, found.remedy, found.text) == (code, remedy, f"node-b cannot load it: {problem}")


def test_the_last_good_content_is_named_for_what_is_in_the_registry_alone() -> None:
    assert verdict_on(conf(), "x").remedy == "correct it; until then the last good content runs on"
    assert verdict_on(conf(), "x", is_registered=False).remedy == "correct it"


def test_what_the_text_alone_has_said_is_not_said_again() -> None:
    for problem in (
        "section [supervisord] does not belong in the registry",
        "section [DEFAULT] would change the programs of all other confs",
    ):
        assert lint_verdict("web.conf", conf(), {"problem": problem}, "node-b") == []
    programs = [{"name": "web", "missing": ["command cannot be read"]}]
    assert lint_verdict("web.conf", conf(), {"problem": None, "programs": programs}, "node-b") == []


def test_what_a_program_lacks_has_the_line_of_its_option() -> None:
    relative = "executable bin/x is relative: supervisord looks for it from /, where it is not"
    log = "log /dev/stderr is a socket of supervisord's, which cannot be opened"
    missing = ["executable /bin/true is missing", "directory /nowhere is missing", relative, log]
    found = lint_verdict(
        "web.conf",
        conf("directory=/nowhere", "stdout_logfile=/dev/stdout", "stderr_logfile=/dev/stderr"),
        {"problem": None, "programs": [{"name": "web", "missing": missing}]},
        "node-b",
    )
    assert [(f.code, f.line) for f in found] == [
        ("missing-binary", 2),
        ("missing-directory", 3),
        ("missing-binary", 2),
        ("log-device", 5),
    ]
    assert [f.remedy for f in found][:3] == ["install it on node-b", "create it on node-b", "write the whole path"]


def test_a_warning_of_what_a_node_knows_for_certain_is_dropped() -> None:
    text = conf("stdout_logfile=/dev/stdout", "stderr_logfile=/dev/stderr")
    warnings = [f for f in lint_conf("web.conf", text) if f.code == "log-device"]
    missing = ["log /dev/stdout is a socket of supervisord's, which cannot be opened"]
    certain = lint_verdict("web.conf", text, {"programs": [{"name": "web", "missing": missing}]}, "node-b")
    left = [(f.line, f.severity) for f in drop_doubts([*warnings, *certain])]
    assert left == [(4, Severity.WARNING), (3, Severity.ERROR)]
