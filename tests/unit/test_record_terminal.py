"""tools/record-terminal writes what a terminal saw, with times, in the form that players and renderers read."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from ha_agent.lab.demo import MARGIN, break_line

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "record-terminal"


def test_the_demo_breaks_long_lines_at_blanks_and_keeps_short_ones() -> None:
    line = f"{MARGIN}what  {'was ' * 30}seen"
    pieces = break_line(line, 60)
    assert all(len(piece) <= 60 for piece in pieces) and " ".join(line.split()) == " ".join(" ".join(pieces).split())
    assert pieces[0].startswith(f"{MARGIN}what  was") and pieces[1].startswith(f"{MARGIN}    was")
    assert break_line("a  b", 60) == ["a  b"] and break_line(line, 0) == [line]
    assert break_line(MARGIN + "x" * 90, 60) == [MARGIN + "x" * 90]


def record(path: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(TOOL), str(path), "40x10", "make demo", "--", *command]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)


def test_a_recording_has_its_size_the_typed_command_and_the_output_in_order_of_time(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.cast"
    script = "stty size; printf '\\303\\244\\n'; sleep 0.5; test -t 1 && echo end"
    assert record(path, "sh", "-c", script).returncode == 0
    head, *events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert head == {"version": 2, "width": 40, "height": 10, "title": "make demo"}
    assert "".join(text for _, _, text in events) == "$ make demo\r\n10 40\r\nä\r\nend\r\n"
    assert {kind for _, kind, _ in events} == {"o"} and [at for at, *_ in events] == sorted(at for at, *_ in events)
    assert events[-1][0] - events[-2][0] >= 0.15


def test_a_command_that_fails_leaves_no_recording_and_its_status(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.cast"
    assert record(path, "sh", "-c", "echo no; exit 3").returncode == 3
    assert not path.exists()
