"""What an installation with pip puts beside Python's own folders."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys


def test_units_hook_and_commands_come_and_go(tmp_path: pathlib.Path) -> None:
    words = [sys.executable, "-m", "ha_agent", "install-units", "--root", str(tmp_path)]
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert os.access(tmp_path / "usr/lib/ha-agent/ha-agent-notify", os.X_OK)
    unit = (tmp_path / "etc/systemd/system/ha-agent.service").read_text(encoding="ascii")
    assert "ExecStart=/usr/bin/ha-agent daemon" in unit
    for name in ("ha-agent", "ha-agent-peer", "ha-agent-witness", "ha-agent-keeper", "supzcli"):
        assert os.access(tmp_path / "usr/bin" / name, os.X_OK), "a link to what pip installed"
    assert subprocess.run(words, capture_output=True).returncode == 0, "once more does no harm"
    assert subprocess.run([*words, "--remove"], capture_output=True).returncode == 0
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []
    assert not (tmp_path / "usr/lib/ha-agent").exists(), "a folder of its own stays no more than a file"


def test_a_file_of_somebody_elses_is_neither_replaced_nor_removed(tmp_path: pathlib.Path) -> None:
    theirs = tmp_path / "usr/bin/supzcli"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n")
    for more in ([], ["--remove"]):
        words = [sys.executable, "-m", "ha_agent", "install-units", "--root", str(tmp_path), *more]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 3 and f"{theirs} is in the way" in done.stderr
        assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == [theirs]


SYSTEMD = pathlib.Path(__file__).parents[2] / "systemd"
MOST_EXPOSURE = 1.3
"""Of the dashboard's unit, as `systemd-analyze security` counts it, from 0 to 10."""


def exposures(unit: str) -> dict[str, float]:
    """What `systemd-analyze security` finds open in a unit of ours, by setting, and how much each weighs."""
    words = ["systemd-analyze", "security", "--offline=true", "--json=short", str(SYSTEMD / unit)]
    rows = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return {str(row["name"]): float(row["exposure"]) for row in rows if row["exposure"] not in (None, "")}


def test_the_dashboards_unit_gives_away_only_what_it_gives_a_reason_for() -> None:
    words = ["systemd-analyze", "security", "--offline=true", str(SYSTEMD / "ha-agent-web.service")]
    last = subprocess.run(words, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    assert float(last.split(":", 1)[1].split()[0]) <= MOST_EXPOSURE, last
    comments = [line for line in (SYSTEMD / "ha-agent-web.service").read_text().splitlines() if line.startswith("#")]
    text = "\n".join(comments)
    unexplained = [name for name in exposures("ha-agent-web.service") if name.split("=")[0] not in text]
    assert unexplained == []


def test_the_agents_unit_gives_a_reason_for_each_thing_that_it_leaves_open() -> None:
    text = "\n".join(line for line in (SYSTEMD / "ha-agent.service").read_text().splitlines() if line.startswith("#"))
    assert [name for name in exposures("ha-agent.service") if name.split("=")[0] not in text] == []
