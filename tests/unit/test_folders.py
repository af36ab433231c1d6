"""A program's folder as `register` reads it: what it says, whose it is, and who else could have written it."""

from __future__ import annotations

import os
import pathlib

import pytest

from ha_agent.supzcli.errors import BadUsage
from ha_agent.supzcli.folders import parse_register, registration


def read(folder: pathlib.Path, *words: str) -> dict[str, object]:
    """The request for ``folder``."""
    return registration(parse_register([*words, str(folder)]))


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "writers"),
    [(0o755, 0o644, ""), (0o775, 0o664, ""), (0o755, 0o646, "everybody"), (0o777, 0o644, "everybody")],
)
def test_it_is_said_who_besides_the_owner_could_have_written_it(
    tmp_path: pathlib.Path, folder_mode: int, file_mode: int, writers: str
) -> None:
    """The owner's own group is no more than the owner: so umask 002 leaves it."""
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "program.ini").write_bytes(b"[program]\ncommand=x\xff\n")
    (folder / "program.ini").chmod(file_mode)
    folder.chmod(folder_mode)
    request = read(folder, "--user", "app")
    assert (request["writers"], request["user"], request["text"]) == (writers, "app", "[program]\ncommand=x\udcff\n")


def test_another_users_file_in_the_folder_is_that_users(tmp_path: pathlib.Path) -> None:
    if os.geteuid() != 0:
        return
    folder = tmp_path / "bill"
    folder.mkdir()
    (folder / "program.ini").write_text("[program]\n")
    os.chown(folder / "program.ini", 12345, 12345)
    assert read(folder)["writers"] == "user 12345"


@pytest.mark.parametrize("words", [[], ["a", "b"], ["--numprocs", "1"]])
def test_a_wrong_command_line_is_one_line_with_the_usage(words: list[str]) -> None:
    with pytest.raises(BadUsage) as refused:
        parse_register(words)
    text = str(refused.value)
    assert "\n" not in text and "  " not in text
    assert text.endswith("; usage: supzcli register [--update] [--no-start] [--user USER] directory")
