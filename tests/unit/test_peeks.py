"""Files that confs name are read with bounds: regular ones, their beginnings, with the caller's rights, and nothing else."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from ha_agent.adapters.peeks import MOST_BYTES, Peeks, read_regular


@pytest.fixture
def ordinary() -> Iterator[pathlib.Path]:
    """A directory that is not below /dev, of which nothing is read: what pytest has may be in /dev/shm."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield pathlib.Path(path)


def test_the_beginning_of_a_text_file_is_read_once(ordinary: pathlib.Path) -> None:
    path = ordinary / "run.sh"
    path.write_text("exec x\n" + "y" * 2 * MOST_BYTES)
    peeks = Peeks()
    first = peeks.read(str(path))
    assert first is not None and first.startswith("exec x\n") and len(first) == MOST_BYTES
    path.unlink()
    assert peeks.read(str(path)) == first


def test_nothing_but_regular_files_is_opened(ordinary: pathlib.Path) -> None:
    """A FIFO without a writer would block for ever, and a device may do something when it is opened."""
    fifo = ordinary / "fifo"
    os.mkfifo(fifo)
    (ordinary / "link").symlink_to(fifo)
    for path in (fifo, ordinary / "link", ordinary, ordinary / "none", pathlib.Path("/dev/null"), pathlib.Path("/dev/tty")):
        assert Peeks().read(str(path)) is None
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(str(fifo), 10)


def test_what_the_kernel_makes_up_is_not_read(ordinary: pathlib.Path) -> None:
    (ordinary / "link").symlink_to("/proc/self/environ")
    for path in ("/proc/self/environ", "/sys/kernel/notes", str(ordinary / "link"), "/etc/../proc/self/status"):
        assert Peeks().read(path) is None


def test_no_name_at_all_does_harm(ordinary: pathlib.Path) -> None:
    for path in ("", "run.sh", "\0", "/x\0y", "/\udcff", "/" + "x" * 5000, "/" * 5000, "%(here)s/x"):
        assert Peeks().read(path) is None
    (ordinary / "binary").write_bytes(b"\x7fELF\0\0")
    assert Peeks().read(str(ordinary / "binary")) is None
    (ordinary / "loop").symlink_to(ordinary / "loop")
    assert Peeks().read(str(ordinary / "loop")) is None


def test_files_outside_are_not_read_where_a_directory_is_given(ordinary: pathlib.Path) -> None:
    inside, outside = ordinary / "in", ordinary / "in-not"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a").write_text("text")
    (inside / "link").symlink_to(outside / "a")
    peeks = Peeks(below=str(inside))
    assert peeks.read(str(inside / "a")) == "text"
    for path in (outside / "a", inside / "link", inside / ".." / "in-not" / "a"):
        assert peeks.read(str(path)) is None
