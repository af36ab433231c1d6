"""Setup and its undo on a file system that is full."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from ha_agent.adapters.setup_changes import SetupChanges
from ha_agent.core.setup_plan import FileChange


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: pathlib.Path, room: int) -> pathlib.Path:
    """Leaves ``room`` bytes at most."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
    os.truncate(ballast, max(0, ballast.stat().st_size - room))
    return ballast


@pytest.mark.parametrize("room", range(0, 13 * 4096, 4096))
def test_whatever_room_there_is_setup_is_done_or_done_again_and_undone(disk: pathlib.Path, room: int) -> None:
    before = {f"{name}.conf": f"{name}\n" * 600 for name in ("main", "keepalived", "other")}
    for name, text in before.items():
        (disk / name).write_text(text, encoding="ascii")

    def changes() -> list[FileChange]:
        texts = {name: (disk / name).read_text(encoding="ascii") for name in before}
        found = [FileChange(str(disk / name), text, before[name] + "ours\n", 0o644) for name, text in texts.items()]
        new = disk / "new.conf"
        return [*found, FileChange(str(new), new.read_text(encoding="ascii") if new.exists() else None, "new\n", 0o644)]

    setup = SetupChanges(str(disk / "state/setup.json"), str(disk / "aside"))
    ballast = fill(disk, room)
    try:
        setup.apply(changes(), peer_name="node-b")
    except OSError as error:
        assert error.errno == errno.ENOSPC
    for name, text in before.items():
        assert (disk / name).read_text(encoding="ascii") in (text, f"{text}ours\n"), "never a half"
    ballast.unlink()
    setup.apply(changes(), peer_name="node-b")
    assert all((disk / name).read_text(encoding="ascii").endswith("ours\n") for name in before)
    ballast = fill(disk, room)
    try:
        setup.undo("")
    except OSError as error:
        assert error.errno == errno.ENOSPC
    ballast.unlink()
    setup.undo("")
    left = {path.name: path.read_text(encoding="ascii") for path in disk.iterdir() if path.is_file()}
    assert left == before
