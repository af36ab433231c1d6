"""Hints that were lost are noticed, with each watchdog that a node may have: Debian 12's, Debian 13's and the newest."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ha_agent.adapters.inotify import EVERYTHING, TreeReader
from ha_agent.adapters.watch import Watcher
from tests.lab_support import wait_for

ROOT = pathlib.Path(__file__).parents[2]
VERSIONS = ("2.2.1", "6.0.0", "")
"""Those of Debian 12 and 13 (make setup puts them into build/versions), and that of the virtual environment."""

QUEUE = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))

TELLER = """
import os, sys
from ha_agent.adapters.watch import Watcher
watcher = Watcher()
watcher.watch(sys.argv[1], lambda path: os.write(1, (repr(path) + "\\n").encode()))
os.write(1, b"watching\\n")
sys.stdin.read()
"""


class Teller:
    """A process that watches ``root`` with one version of watchdog, and says what it was told."""

    def __init__(self, root: str, version: str) -> None:
        path = [str(ROOT / "build" / "versions" / f"watchdog-{version}")] if version else []
        if path:
            assert os.path.isdir(path[0]), "make setup fetches it"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TELLER, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        wait_for("it watches", lambda: "watching" in self.said, 20)

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self.said.append(line.strip())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=VERSIONS, ids=lambda version: f"watchdog-{version or 'newest'}")
def teller(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Teller]:
    root = tmp_path / "conf.d"
    (root / "sub").mkdir(parents=True)
    for name in ("a.conf", "b.conf"):
        (root / name).write_text("x", encoding="ascii")
    made = Teller(str(root), request.param)
    yield made
    made.close()


def overrun(root: pathlib.Path) -> None:
    """More events than the kernel keeps, about two files; two neighbours are never alike, because those are kept as one."""
    for _ in range(QUEUE // 2 + 500):
        for name in ("a.conf", "b.conf"):
            os.close(os.open(root / name, os.O_WRONLY))


def test_a_queue_that_ran_over_is_noticed_whatever_watchdog_there_is(teller: Teller, tmp_path: pathlib.Path) -> None:
    """Hazard 54: more happens than the kernel keeps, while nobody reads.

    Fault: the process is stopped, two files are changed until the queue runs over, and then a third one.
    Answer: the hint that anything may have changed.
    Bound: at once.
    """
    root = tmp_path / "conf.d"
    teller.process.send_signal(signal.SIGSTOP)
    overrun(root)
    (root / "last.conf").write_text("lost", encoding="ascii")
    teller.process.send_signal(signal.SIGCONT)
    wait_for("the hint for everything", lambda: repr(EVERYTHING) in teller.said, 20)
    assert "'last.conf'" not in teller.said, "this event was not lost, so nothing was tried"
    (root / "later.conf").write_text("x", encoding="ascii")
    (root / "sub" / "deep.conf").write_text("x", encoding="ascii")
    wait_for("later hints", lambda: {"'later.conf'", "'sub/deep.conf'"} <= set(teller.said), 20)


def test_every_way_of_changing_a_file_is_told_with_each_watchdog(teller: Teller, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "conf.d"
    script = (
        "echo x > new.conf; mv new.conf moved.conf; ln moved.conf link.conf; rm a.conf; mkdir d; sleep 0.2; : > d/e.conf"
    )
    subprocess.run(["sh", "-euc", script], cwd=root, check=True)
    wanted = {repr(path) for path in ("new.conf", "moved.conf", "link.conf", "a.conf", "d/e.conf", EVERYTHING)}
    wait_for("all hints", lambda: wanted <= set(teller.said), 10, show=lambda: str(wanted - set(teller.said)))


@pytest.fixture
def reader() -> Iterator[TreeReader]:
    made = TreeReader()
    yield made
    made.close()


def told_of(reader: TreeReader, root: pathlib.Path) -> list[str]:
    told: list[str] = []
    reader.watch(str(root), told.append)
    return told


@pytest.mark.parametrize(
    "script",
    [
        "mv conf.d away",
        "rm -r conf.d",
        "mv conf.d/sub conf.d/other",
        "mv conf.d/sub .",
        "rmdir conf.d/sub/deep",
        "mkdir conf.d/new",
    ],
)
def test_a_directory_that_comes_or_goes_is_told(reader: TreeReader, tmp_path: pathlib.Path, script: str) -> None:
    root = tmp_path / "conf.d"
    (root / "sub" / "deep").mkdir(parents=True)
    told = told_of(reader, root)
    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)
    wait_for("the hint for everything", lambda: EVERYTHING in told, 5)


def test_a_directory_that_was_moved_within_is_watched_under_its_new_name(reader: TreeReader, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "conf.d"
    (root / "sub" / "deep").mkdir(parents=True)
    told = told_of(reader, root)
    (root / "sub").rename(root / "other")
    wait_for("the move", lambda: EVERYTHING in told, 5)
    wait_for("all is read", lambda: not reader.has_unread(), 5)
    (root / "other" / "deep" / "x.conf").write_text("x", encoding="ascii")
    wait_for("its new name", lambda: "other/deep/x.conf" in told, 5)
    assert reader.problem(str(root)) is None


@pytest.mark.parametrize("way", ["unmounted", "mounted over"])
def test_a_file_system_that_comes_or_goes_is_seen(reader: TreeReader, tmp_path: pathlib.Path, way: str) -> None:
    """Hazard 54: a watch is lost with its file system.

    Fault: a file system is mounted over the registry, or the registry's own is unmounted.
    Answer: the end of a watch is a hint for everything; what is mounted over a directory is seen by its device number.
    Bound: at once, and with the next look at the registry's identity (a second).
    """
    root = tmp_path / "conf.d"
    root.mkdir()
    if way == "unmounted":
        subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], check=True)
        told = told_of(reader, root)
        subprocess.run(["umount", str(root)], check=True)
        wait_for("the hint for everything", lambda: EVERYTHING in told, 5)
    else:
        before = os.stat(root).st_dev
        subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], check=True)
        assert os.stat(root).st_dev != before
        subprocess.run(["umount", str(root)], check=True)


def test_what_cannot_be_watched_is_a_problem(reader: TreeReader, tmp_path: pathlib.Path) -> None:
    """As where there are more directories than watches: what is not watched must be known."""
    with pytest.raises(OSError, match="No such file"):
        reader.watch(str(tmp_path / "none"), lambda _: None)
    assert "not watched" in str(reader.problem(str(tmp_path / "none")))


def test_what_nobody_has_read_yet_is_known(tmp_path: pathlib.Path) -> None:
    """A status that is asked for in this moment must not say that both registries are one."""
    gate = threading.Event()
    watcher = Watcher()
    watcher.watch(str(tmp_path), lambda _: (gate.wait(10), None)[1])
    assert not watcher.has_unread()
    (tmp_path / "a.conf").write_text("x", encoding="ascii")
    wait_for("it is known", watcher.has_unread, 5)
    gate.set()
    wait_for("it was told", lambda: not watcher.has_unread(), 5)
    watcher.close()


def test_what_is_written_under_a_hidden_name_first_is_told_once_it_has_its_own(
    teller: Teller, tmp_path: pathlib.Path
) -> None:
    root = tmp_path / "conf.d"
    for name in ("x.conf", "sub/y.conf"):
        place, _, last = name.rpartition("/")
        hidden = root / place / f".{last}.swp"
        hidden.write_text("new", encoding="ascii")
        hidden.chmod(0o640)
        hidden.rename(root / name)
    (root / ".gone.conf").write_text("x", encoding="ascii")
    (root / "end.conf").write_text("x", encoding="ascii")
    wait_for("the hints", lambda: {"'x.conf'", "'sub/y.conf'", "'end.conf'"} <= set(teller.said), 20)
    assert not [said for said in teller.said if "swp" in said or "gone" in said], "each would wake the agent for nothing"
