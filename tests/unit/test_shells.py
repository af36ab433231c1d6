"""When a shell stays between supervisord and a program, so that a stop ends the shell alone."""

from __future__ import annotations

import pytest

from ha_agent.core.shells import Wrapper, find_wrapper


def find(command: str, script: str | None = None, path: str = "/opt/x/run.sh", directory: str = "") -> Wrapper | None:
    return find_wrapper(command, directory, lambda wanted: script if wanted == path else None)


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh -c 'a | b'",
        "/bin/sh -c 'cd /x && a'",
        "sh -c a",
        "bash -c 'a > /log'",
        "bash -c 'a; b | c'",
        "bash -c 'while true; do a; sleep 1; done'",
        "bash -c 'a &'",
        "bash -c '(a)'",
        "sudo -u x sh -c 'a b'",
        "bash",
    ],
)
def test_a_shell_with_its_script_in_the_command_stays(command: str) -> None:
    assert find(command) == Wrapper()


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh -c 'exec a'",
        "sh -c 'cd /x && exec a -b'",
        "/bin/bash -c 'a'",
        "bash -c 'cd /x && a --b'",
        "bash -lc 'source /x/env; a'",
        "bash -c 'exec > /log; exec a'",
        "sh -c 'trap \"kill 0\" TERM; a & wait'",
        "/usr/bin/python3 /opt/run.py",
        "java -jar x.jar",
        "'a",
    ],
)
def test_a_shell_that_hands_over_or_that_passes_the_stop_on_does_not(command: str) -> None:
    assert find(command) is None


@pytest.mark.parametrize(
    "command", ["/opt/x/run.sh", "bash /opt/x/run.sh", "env A=1 bash -x /opt/x/run.sh y", "nice ./run.sh"]
)
def test_a_script_is_read_where_it_can_be(command: str) -> None:
    directory = "/opt/x"
    for text in (
        "#!/bin/sh\nexec java -jar x.jar\n",
        '#!/bin/bash\ncd /x || exit 1\n[ -f y ] && exec "$@"\n',
        "#!/bin/bash\ntrap stop TERM\njava -jar x.jar &\nwait\n",
    ):
        assert find(command, text, directory=directory) is None, text
    for text in ("#!/bin/sh\njava -jar x.jar\n", "#!/bin/sh\n# exec java\nexec > /log 2>&1\njava\n"):
        found = find(command, text, directory=directory)
        assert found is not None and found.is_certain and found.script.endswith("run.sh")


def test_a_script_that_is_none_of_a_shell_is_a_program() -> None:
    assert find("/opt/x/run.sh", "#!/usr/bin/python3\nimport os\n") is None
    assert find("/opt/x/run.sh", "#!/usr/bin/env python3\n") is None
    assert find("/opt/x/start", "#!/usr/bin/env bash\njava\n", path="/opt/x/start") == Wrapper("/opt/x/start")
    assert find("/opt/x/start", "\x7fELF", path="/opt/x/start") is None


def test_a_script_that_cannot_be_read_is_doubted_unless_it_is_known() -> None:
    for command in ("/opt/x/run.sh", "bash /opt/x/run", "bash -c 'cd /opt/x && ./run.sh'"):
        found = find(command)
        assert found is not None and not found.is_certain
    for command in (
        "/opt/kafka/bin/kafka-server-start.sh /x",
        "/opt/kafka/bin/zookeeper-server-start.sh x",
        "/opt/tomcat/bin/catalina.sh run",
        "/opt/zk/bin/zkServer.sh start-foreground",
        "bash /usr/local/bin/jenkins.sh",
    ):
        assert find(command) is None, command
    assert find("/opt/x/run") is None


def test_a_script_is_looked_for_where_the_shell_has_gone() -> None:
    assert find("bash -c 'cd /opt/x && ./run.sh'", "exec java\n") is None
    assert find("bash -c 'cd /opt && cd x && exec ./run.sh'", "java\n", directory="/") == Wrapper("./run.sh")
