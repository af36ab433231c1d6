"""Notes in /run: right again whatever has become of them, of their directory, or of the room for them."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Callable

import pytest

from ha_agent.adapters.files import (
    keep_note,
    make_dir,
    put_aside,
    read_note,
    read_room,
    remove_note,
    write_atomic,
    write_note,
)


def gone(path: pathlib.Path) -> None:
    path.unlink()


def emptied(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def rubbish(path: pathlib.Path) -> None:
    path.write_bytes(b"\xff\0rubbish" * 100)


def empty_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


def full_directory(path: pathlib.Path) -> None:
    empty_directory(path)
    (path / "x").touch()


def without_directory(path: pathlib.Path) -> None:
    path.unlink()
    path.parent.rmdir()


def file_for_the_directory(path: pathlib.Path) -> None:
    without_directory(path)
    path.parent.touch()


def link_to_nowhere(path: pathlib.Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


DAMAGES = [
    gone,
    emptied,
    rubbish,
    empty_directory,
    full_directory,
    without_directory,
    file_for_the_directory,
    link_to_nowhere,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_note_is_right_again_whatever_was_made_of_it(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    note = tmp_path / "run" / "note"
    write_note(str(note), b"old")
    damage(note)
    assert keep_note(str(note), b"new", 0o640)
    assert note.read_bytes() == b"new" and stat.S_IMODE(note.lstat().st_mode) == 0o640
    assert not keep_note(str(note), b"new", 0o640), "what is right is not written again"
    assert read_note(str(note)) == b"new"


@pytest.mark.parametrize("damage", [emptied, empty_directory, full_directory])
def test_a_durable_file_takes_its_place_back_from_a_directory(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    path = tmp_path / "state.json"
    path.touch()
    damage(path)
    write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"


def test_what_was_put_aside_is_not_lost(tmp_path: pathlib.Path) -> None:
    (tmp_path / "track").mkdir()
    (tmp_path / "track" / "x").write_bytes(b"somebody's")
    write_note(str(tmp_path / "track"), b"1\n")
    (aside,) = tmp_path.glob("track.aside-*")
    assert (aside / "x").read_bytes() == b"somebody's"


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not file_for_the_directory])
def test_a_note_that_is_to_go_goes_whatever_was_made_of_it(
    tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    note = tmp_path / "run" / "note"
    write_note(str(note), b"old")
    damage(note)
    remove_note(str(note))
    assert not os.path.lexists(note)


def test_a_note_that_cannot_be_read_is_none(tmp_path: pathlib.Path) -> None:
    assert read_note(str(tmp_path)) is None and read_note(str(tmp_path / "x")) is None
    assert read_note("/dev/null/x") is None


def test_a_directory_is_made_with_its_mode_and_something_else_in_its_place_is_put_aside(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "active"
    path.write_bytes(b"a file")
    assert make_dir(str(path), 0o755)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755 and len(list(tmp_path.glob("active.aside-*"))) == 1
    path.chmod(0o700)
    assert not make_dir(str(path), 0o755), "it was there"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_nothing_can_be_put_aside_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="missing"):
        put_aside(str(tmp_path / "missing"))


def test_where_notes_cannot_be_written_the_reason_is_the_kernels(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="proc") as caught:
        write_note("/proc/nothing-can-be-made-here/note", b"x")
    assert caught.value.errno in (errno.ENOENT, errno.EACCES, errno.EPERM)


def test_the_room_of_a_file_system_is_in_bytes_and_inodes(tmp_path: pathlib.Path) -> None:
    room = read_room(str(tmp_path))
    assert room.bytes > 0 and (room.files is None or room.files > 0)
