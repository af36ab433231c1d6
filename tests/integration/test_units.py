"""What an installation with pip puts beside Python's own folders."""

from __future__ import annotations

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
    for name in ("ha-agent", "ha-agent-peer", "supzcli"):
        assert os.access(tmp_path / "usr/bin" / name, os.X_OK), "a link to what pip installed"
    assert subprocess.run(words, capture_output=True).returncode == 0, "once more does no harm"
    assert subprocess.run([*words, "--remove"], capture_output=True).returncode == 0
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []
