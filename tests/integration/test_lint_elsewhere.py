"""``ha-agent lint FILE`` on a machine that is no node, with supervisord's parser, and the hook for pre-commit."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from ha_agent.adapters.settings_paths import DEFAULT_PATH

ROOT = pathlib.Path(__file__).parents[2]
HOOKS = ROOT / ".pre-commit-hooks.yaml"


@pytest.fixture(autouse=True)
def _no_node() -> None:
    assert not os.path.lexists(DEFAULT_PATH), "these tests are of a machine without the file"


def lint(folder: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As somebody types it in ``folder``."""
    command = [sys.executable, "-m", "ha_agent", "lint", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment)


def found(folder: pathlib.Path, *words: str) -> dict[str, dict[str, Any]]:
    """By their codes."""
    return {f["code"]: f for f in json.loads(lint(folder, "--json", *words).stdout)["findings"]}


def write(folder: pathlib.Path, name: str, *lines: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return name


NODES_OWN = (
    "[program:web]",
    "command=/opt/nowhere/web --port %(ENV_PORT)s",
    "user=user-of-the-node",
    "directory=/opt/nowhere",
    "stdout_logfile=/opt/nowhere/logs/web.log",
    "numprocs=%(ENV_COUNT)s",
    'environment=A="%(ENV_A)s"',
)


def test_what_only_a_node_has_is_not_missed_there_and_that_is_said(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "web.conf", *NODES_OWN)
    write(
        tmp_path,
        "fcgi.conf",
        "[fcgi-program:fcgi]",
        "command=/x",
        "socket=unix:///x",
        "socket_owner=no:body",
        "user=nobodyx",
    )
    done = lint(tmp_path, name, "fcgi.conf")
    assert done.returncode == 0 and done.stderr == "", done
    assert "were not looked at: there is no /etc/ha-agent/agent.toml here  [no-node]" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 confs, 0 errors, 0 warnings"
    assert {code: f["severity"] for code, f in found(tmp_path, name).items()} == {"no-node": "unknown"}


def test_what_supervisord_would_refuse_everywhere_is_an_error_there_too(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "web.conf", "[program:web]", "command=/x --at 5%", "stopasgroup=true", "killasgroup=false")
    done = lint(tmp_path, name, "--format", "lines")
    assert done.returncode == 1
    wanted = "web.conf:3: error: supervisord cannot load it: Cannot set stopasgroup=true and killasgroup=false"
    assert done.stdout.startswith(wanted) and "last good content" not in done.stdout
    assert done.stderr.startswith("ha-agent: unknown: users, directories")
    (tmp_path / name).write_text("[program:web]\ncommand=/x --at 5%\n")
    error = found(tmp_path, name)["conf-not-loadable"]
    assert (error["line"], error["remedy"]) == (2, "write %% for each percent sign that is meant")
    (tmp_path / name).write_text("[program:web]\ncommand=/x %(nothing)s\n")
    assert found(tmp_path, name)["conf-not-loadable"]["remedy"] == "correct the name; a percent sign is written %%"


def test_a_main_conf_is_said_to_be_one_and_nothing_else(tmp_path: pathlib.Path) -> None:
    name = write(
        tmp_path, "supervisord.conf", "[unix_http_server]", "file=/x", "[supervisord]", "[include]", "files=/x/*.conf"
    )
    assert set(found(tmp_path, name)) == {"foreign-section", "no-node"}


def test_scripts_of_the_repository_are_read_and_the_machines_own_files_are_not(tmp_path: pathlib.Path) -> None:
    outside = write(tmp_path, "outside/run.sh", "#!/bin/sh", "exec java")
    repository = tmp_path / "repository"
    write(repository, "confs/run.sh", "#!/bin/sh", "exec java")
    write(repository, "confs/a.conf", "[program:a]", "command=%(here)s/run.sh", "user=x")
    write(repository, "confs/b.conf", "[program:b]", f"command={tmp_path / outside}", "user=x")
    assert set(found(repository, "confs/a.conf")) == {"no-node"}
    assert found(repository, "confs/b.conf")["shell-wrapper"]["text"].startswith("run.sh runs the program: unless it")


def test_what_needs_a_node_still_asks_for_its_configuration(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "web.conf", *NODES_OWN)
    for words in (("--registry",), ("--peer", name), ("--config", "/nowhere/agent.toml", name)):
        done = lint(tmp_path, *words)
        assert done.returncode == 2 and "No such file or directory; make one with" in done.stderr, words
    assert lint(tmp_path).returncode == 2
    missing = lint(tmp_path, "none.conf")
    assert (missing.returncode, missing.stderr) == (1, "ha-agent: none.conf: No such file or directory\n")


def test_programs_without_a_user_are_counted_and_no_more(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "two.conf", "[program:a]", "command=/x", "[program:b]", "command=/x", "user=y")
    assert lint(tmp_path, name).stdout.endswith("1 conf, 0 errors, 0 warnings; 1 program of 2 without user=, run as root\n")
    assert lint(tmp_path, name, "--strict").returncode == 0


def test_a_note_fails_nothing(tmp_path: pathlib.Path) -> None:
    name = write(tmp_path, "a.conf", "[program:a]", "command=/x", "autostart=false", "user=y")
    done = lint(tmp_path, name, "--strict")
    assert done.returncode == 0 and "a.conf, line 3: note: autostart=false" in done.stdout
    assert done.stdout.endswith("1 conf, 0 errors, 0 warnings, 1 note\n")


# ---- the hook ---------------------------------------------------------------------------------------------------


def hook() -> dict[str, str]:
    """The one hook, as far as it is written with plain values."""
    text = HOOKS.read_text(encoding="utf-8")
    assert text.count("- id:") == 1
    return dict(re.findall(r"^(?:- |  )([a-z_]+): (.+)$", text, re.MULTILINE))


def test_the_hook_names_what_pre_commit_needs() -> None:
    """pre-commit.com, "Creating new hooks": id, name, entry and language; with language python the package is installed."""
    given = hook()
    assert given.keys() >= {"id", "name", "description", "entry", "language", "files", "types", "require_serial"}
    assert (given["id"], given["language"], given["require_serial"]) == ("ha-agent-lint", "python", "true")
    # pip builds it from a clean clone, in which there is no build/.
    assert not (ROOT / "setup.cfg").exists()


@pytest.mark.parametrize(
    ("path", "is_taken"),
    [
        ("supervisor/web.conf", True),
        ("deploy/supervisor/conf.d/web.ini", True),
        ("etc/supervisord.d/web.ini", True),
        ("deploy/supervisor.conf", True),
        ("supervisor-app.conf", True),
        ("supervisor/web.conf.parked", True),
        ("nginx/conf.d/web.conf", False),
        ("supervisor/README.md", False),
        ("tox.ini", False),
    ],
)
def test_the_hook_takes_confs_of_supervisord_and_nothing_else(path: str, is_taken: bool) -> None:
    """``files`` is a regular expression of Python that pre-commit searches for in each path."""
    assert bool(re.search(hook()["files"], path)) is is_taken


def test_the_hook_runs_and_fails_for_a_conf_that_cannot_be_loaded(tmp_path: pathlib.Path) -> None:
    """pre-commit puts the names of the files behind the entry, and takes another exit status than 0 for a failure."""
    good = write(tmp_path, "supervisor/web.conf", *NODES_OWN)
    bad = write(tmp_path, "supervisor/bad.conf", "[program:bad]", "command=/x", "numprocs=l", "user=y")
    program, *words = shlex.split(hook()["entry"])
    assert program == "ha-agent" and words[0] == "lint"
    assert lint(tmp_path, *words[1:], good).returncode == 0
    done = lint(tmp_path, *words[1:], good, bad)
    assert done.returncode == 1 and "supervisor/bad.conf:3: error: numprocs=l: not a whole number" in done.stdout
