"""The command line: one clear line for bad input, and the documented exit codes."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from ha_agent.core.settings_sample import sample_toml

# One worker has them all: a command that finds no socket looks for an agent on the machine, and some tests start one.
pytestmark = pytest.mark.xdist_group("own_agent")


def ha_agent(*words: str, config: str | None = None) -> subprocess.CompletedProcess[str]:
    more = ["--config", config] if config else []
    return subprocess.run(
        [sys.executable, "-m", "ha_agent", *words, *more], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def config(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "agent.toml"
    values = {("paths", "run_dir"): str(tmp_path / "run"), ("paths", "state_dir"): str(tmp_path / "state")}
    path.write_text(sample_toml(values), encoding="utf-8")
    return str(path)


def test_the_sample_is_a_good_configuration(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(ha_agent("config", "sample").stdout, encoding="utf-8")
    assert ha_agent("config", "check", config=str(path)).returncode == 0
    shown = ha_agent("config", "show", config=str(path))
    path.write_text(shown.stdout, encoding="utf-8")
    assert ha_agent("config", "check", config=str(path)).returncode == 0


def test_all_problems_of_a_file_come_at_once_and_without_a_traceback(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[node]\nname = "x y"\nwrong = 1\n', encoding="utf-8")
    for command in (("config", "check"), ("daemon",), ("status",)):
        done = ha_agent(*command, config=str(path))
        assert done.returncode == 2
        assert "node.wrong: unknown key" in done.stderr and "node.name" in done.stderr and "vrrp.vip: missing" in done.stderr
        assert "Traceback" not in done.stderr
    path.write_text("= broken", encoding="utf-8")
    assert "TOML" in ha_agent("config", "check", config=str(path)).stderr


def test_a_missing_configuration_says_where_and_what_to_do(tmp_path: pathlib.Path) -> None:
    done = ha_agent("daemon", config=str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert "none.toml" in done.stderr and "config sample" in done.stderr


def test_a_node_without_its_daemon_says_so_with_its_own_exit_code(config: str) -> None:
    done = ha_agent("sync", config=config)
    assert done.returncode == 5
    assert "not running" in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_an_agent_status_says_what_else_is_seen_of_the_node(config: str) -> None:
    done = ha_agent("status", config=config)
    assert done.returncode == 5 and not done.stderr
    assert done.stdout.startswith("CRITICAL: node-a has no agent: ") and "  -> systemctl start ha-agent" in done.stdout
    assert "role          not known" in done.stdout
    asked = ha_agent("status", "--json", "--check", config=config)
    document = json.loads(asked.stdout)
    assert asked.returncode == 2 and document["severity"] == "error"
    assert [row["code"] for row in document["problems"]] == ["agent-down"] and document["nodes"] == []
    assert document["without_agent"]["role"] is None


def test_without_an_agent_the_history_is_read_from_the_disk_and_said_to_be(config: str, tmp_path: pathlib.Path) -> None:
    from ha_agent.adapters.store import History

    (tmp_path / "state").mkdir()
    history = History(str(tmp_path / "state"), "node-a", 100_000)
    for number in range(40):
        history.add("vrrp", f"number {number} \x1b[31m")
    history.add("takeover-done", "done")
    done = ha_agent("history", config=config)
    assert done.returncode == 5 and done.stdout.count("\n") == 30 and "\x1b" not in done.stdout
    assert done.stderr.count("\n") == 1 and "systemctl start ha-agent; this is what the disk has" in done.stderr
    shown = json.loads(ha_agent("history", "--json", "--code", "takeover-*", config=config).stdout)
    assert (shown["source"], shown["complete"], len(shown["events"])) == ("disk", False, 1)
    assert ha_agent("history", "--code", "takeover-don", config=config).stderr.endswith("did you mean takeover-done?\n")


def test_rendering_for_keepalived_prints_the_configuration(config: str) -> None:
    done = ha_agent("keepalived", "render", config=config)
    assert done.returncode == 0
    assert "vrrp_instance HA_AGENT" in done.stdout


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"),
        ("{", "damaged"),
        ('{"version": 1}', "damaged"),
        ('{"version": 1, "epoch": "x", "claimed_by": 1}', "damaged"),
    ],
)
def test_a_damaged_state_file_is_put_aside_and_said(tmp_path: pathlib.Path, content: str, word: str) -> None:
    """Hazard 37: the state file is empty, truncated or garbage.

    Fault: state.json is empty, truncated, or holds something else.
    Answer: it is put aside under another name, and said.
    Bound: nothing is guessed.
    """
    from ha_agent.adapters.store import Store

    store = Store(str(tmp_path))
    store.prepare()
    (tmp_path / "state.json").write_text(content, encoding="ascii")
    loaded = store.load()
    assert word in loaded.remarks[0]
    assert any(name.startswith("state.json.damaged-") for name in os.listdir(tmp_path))


def test_a_state_file_of_a_newer_version_stops_the_agent(tmp_path: pathlib.Path) -> None:
    """Hazard 37: never guess over what a newer agent meant.

    Fault: state.json is of a version that this agent does not know.
    Answer: it refuses to start and leaves the file as it is.
    Bound: none needed.
    """
    from ha_agent.adapters.store import StateTooNew, Store

    store = Store(str(tmp_path))
    store.prepare()
    (tmp_path / "state.json").write_text('{"version": 99, "epoch": 4}', encoding="ascii")
    with pytest.raises(StateTooNew, match="version 99"):
        store.load()
    assert (tmp_path / "state.json").exists()


def test_without_a_word_the_commands_are_listed() -> None:
    done = ha_agent()
    assert done.returncode == 2 and done.stderr == ""
    assert "daily:" in done.stdout and "\n  status " in done.stdout


def test_a_second_daemon_is_refused_before_it_touches_anything(config: str, tmp_path: pathlib.Path) -> None:
    from ha_agent.adapters.agent_lock import AgentLock

    AgentLock(str(tmp_path / "run" / "agent.lock")).acquire()
    done = ha_agent("daemon", config=config)
    assert done.returncode == 3
    assert done.stderr.startswith(f"ha-agent: an agent runs already (pid {os.getpid()})") and done.stderr.count("\n") == 1
    assert os.listdir(tmp_path / "run") == ["agent.lock"] and not (tmp_path / "state").exists()


EVERY_COMMAND = (
    ("status",),
    ("history",),
    ("switchover", "--yes"),
    ("failover-test", "--yes"),
    ("lint", "/dev/null"),
    ("maintenance",),
    ("maintenance", "on"),
    ("maintenance", "off"),
    ("pause",),
    ("resume",),
    ("list",),
    ("alert",),
    ("sync",),
    ("diff",),
    ("kept", "list"),
    ("config", "check"),
    ("config", "show"),
    ("keepalived", "render"),
)


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_where_nothing_is_configured_every_command_says_how_to_begin(words: tuple[str, ...], tmp_path: pathlib.Path) -> None:
    done = ha_agent(*words, config=str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "ha-agent config sample >" in done.stderr and "none.toml" in done.stderr


def test_doctor_finds_that_nothing_is_configured(tmp_path: pathlib.Path) -> None:
    done = ha_agent("doctor", "--nagios", config=str(tmp_path / "none.toml"))
    assert done.returncode == 2 and done.stdout.startswith("HA-AGENT CRITICAL") and "none.toml" in done.stdout
    bad = tmp_path / "bad.toml"
    bad.write_text('[node]\nname = "x y"\n', encoding="ascii")
    done = ha_agent("doctor", config=str(bad))
    assert done.returncode == 2 and "node.name" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("history", "--since", "yesterday"), "is not a time; write"),
        (("maintenance", "on", "--for", "x"), "is not a duration; write"),
        (("history", "-n", "0"), "must be 1 or more"),
    ],
)
def test_words_that_mean_nothing_are_told_what_would(words: tuple[str, ...], said: str, config: str) -> None:
    done = ha_agent(*words, config=config)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
