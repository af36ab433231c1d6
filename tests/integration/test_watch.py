"""Real inotify through watchdog: every way of changing a file gives a hint for it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.watch import EVERYTHING, Watcher, WatchError
from tests.lab_support import wait_for


class Sink:
    def __init__(self) -> None:
        self.hints: list[str] = []
        self.lock = threading.Lock()

    def __call__(self, path: str) -> None:
        with self.lock:
            self.hints.append(path)

    def take(self) -> set[str]:
        with self.lock:
            taken, self.hints = set(self.hints), []
        return taken


@pytest.fixture
def watched(tmp_path: pathlib.Path) -> Iterator[tuple[str, Sink, Watcher]]:
    root = os.path.join(tmp_path, "conf.d")
    os.mkdir(root)
    sink, watcher = Sink(), Watcher()
    watcher.watch(root, sink)
    yield root, sink, watcher
    watcher.close()


@pytest.mark.parametrize(
    ("script", "path"),
    [
        ("echo x > a.conf", "a.conf"),
        ("echo x > .t; mv .t a.conf", "a.conf"),
        ("echo x > ../t; mv ../t a.conf", "a.conf"),
        ("echo x > ../t; ln ../t a.conf", "a.conf"),
        ("echo x > a.conf; mv a.conf ../", "a.conf"),
        ("echo x > a.conf; chmod 600 a.conf", "a.conf"),
        ("mkdir d; echo x > d/a.conf", EVERYTHING),
        ("mkdir -p ../e; echo x > ../e/a.conf; mv ../e d", EVERYTHING),
    ],
)
def test_a_change_gives_a_hint(watched: tuple[str, Sink, Watcher], script: str, path: str) -> None:
    root, sink, _ = watched
    subprocess.run(["sh", "-euc", script], cwd=root, check=True)
    wait_for(f"a hint for {path!r}", lambda: path in sink.hints, 2)


def test_a_file_in_a_new_directory_is_seen_afterwards(watched: tuple[str, Sink, Watcher]) -> None:
    root, sink, _ = watched
    os.mkdir(os.path.join(root, "d"))
    wait_for("the new directory", lambda: EVERYTHING in sink.hints, 2)
    time.sleep(0.1)
    sink.take()
    subprocess.run(["sh", "-c", "echo x > d/a.conf"], cwd=root, check=True)
    wait_for("a hint below it", lambda: "d/a.conf" in sink.hints, 2)


def test_reading_gives_no_hint(watched: tuple[str, Sink, Watcher]) -> None:
    """Hazard 27: a watcher that reacts to its own reads loops for ever.

    Fault: files of the registry are read and listed.
    Answer: no hint.
    Bound: none needed.
    """
    root, sink, _ = watched
    with open(os.path.join(root, "a.conf"), "w", encoding="ascii") as file:
        file.write("x")
    wait_for("the write", lambda: "a.conf" in sink.hints, 2)
    time.sleep(0.1)
    sink.take()
    for _ in range(5):
        with open(os.path.join(root, "a.conf"), encoding="ascii") as file:
            file.read()
        os.listdir(root)
    time.sleep(0.2)
    assert sink.take() == set()


def test_a_replaced_directory_is_said_and_can_be_watched_again(watched: tuple[str, Sink, Watcher]) -> None:
    """Hazard 29: watched directories get removed, recreated, replaced.

    Fault: the registry is moved away and made again.
    Answer: said at once, and the new one is watched.
    Bound: none needed.
    """
    root, sink, watcher = watched
    os.rename(root, root + ".old")
    wait_for("the removal", lambda: EVERYTHING in sink.hints, 2)
    sink.take()
    os.mkdir(root)
    wait_for("the new one", lambda: EVERYTHING in sink.hints, 2)
    watcher.watch(root, sink)
    sink.take()
    subprocess.run(["sh", "-c", "echo x > a.conf"], cwd=root, check=True)
    wait_for("a hint in the new one", lambda: "a.conf" in sink.hints, 2)


def test_a_move_out_does_not_hold_back_what_follows(watched: tuple[str, Sink, Watcher]) -> None:
    """watchdog waits for the second half of a move and lets every later event wait with it."""
    root, sink, _ = watched
    for name in ("a.conf", "b.conf"):
        with open(os.path.join(root, name), "w", encoding="ascii") as file:
            file.write("x")
    time.sleep(0.2)
    sink.take()
    os.rename(os.path.join(root, "a.conf"), root + "-away")
    time.sleep(0.02)
    began = time.monotonic()
    os.chmod(os.path.join(root, "b.conf"), 0o600)
    wait_for("the later hint", lambda: "b.conf" in sink.hints, 2, 0.001)
    assert time.monotonic() - began < 0.3


def test_what_is_not_there_can_not_be_watched(tmp_path: os.PathLike[str]) -> None:
    watcher = Watcher()
    with pytest.raises(WatchError, match="cannot watch"):
        watcher.watch(os.path.join(tmp_path, "no", "where"), lambda _: None)
    watcher.close()
