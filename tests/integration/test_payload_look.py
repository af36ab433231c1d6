"""The look at programs' files, by its real process: what is read, what never is, and a disk that does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pathlib
import pwd
import sys
import time
from collections.abc import Mapping

import pytest

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.adapters.payload_looker import LookFailed, PayloadLooker, Wanted
from ha_agent.core.confs import Run
from ha_agent.core.drift import find_drifts
from ha_agent.core.payload import HASHED_BYTES, Kind, Payload
from ha_agent.core.payload_words import Part
from ha_agent.core.settings import SupervisorSettings
from ha_agent.payload_look import Looker

SEARCH = ("/usr/local/bin", "/usr/bin", "/bin")


def make_looker(silent_s: float = 20.0, words: tuple[str, ...] = ()) -> PayloadLooker:
    return PayloadLooker(time.monotonic, silent_s, words) if words else PayloadLooker(time.monotonic, silent_s)


def wanted(command: str, directory: str = "", *listed: str, uid: int | None = None) -> dict[str, Wanted]:
    return {"web": Wanted("c", [(command, directory, SEARCH, uid)], listed)}


def look(programs: Mapping[str, Wanted], ignore: tuple[str, ...] = ()) -> Payload:
    return asyncio.run(make_looker().look(programs, ignore))


def named(payload: Payload) -> dict[tuple[Part, str], str]:
    return {(one.part, one.path): payload.marks[one.path].kind for one in payload.programs["web"].files}


@pytest.fixture
def app(tmp_path: pathlib.Path) -> pathlib.Path:
    """A program with two versions, a link to one of them, a configuration and a directory of rules."""
    for version in ("v1", "v2"):
        script = tmp_path / version / "run"
        script.parent.mkdir()
        script.write_text(f"#!/usr/bin/env python3\n# {version}\n")
        script.chmod(0o755)
    (tmp_path / "current").symlink_to("v2")
    (tmp_path / "app.toml").write_text("a = 1\n")
    (tmp_path / "rules" / "__pycache__").mkdir(parents=True)
    (tmp_path / "rules" / "one").write_text("1")
    (tmp_path / "rules" / "app.log").write_text("x")
    (tmp_path / "rules" / "__pycache__" / "x").write_text("x")
    return tmp_path


def test_a_command_its_script_its_interpreter_and_its_files_are_found(app: pathlib.Path) -> None:
    run, rules = f"{app}/current/run", f"{app}/rules"
    # pytest's own directory is one of those that programs write into, so its files are listed.
    payload = look(wanted(f"{run} -v", str(app), f"{app}/app.toml", rules, f"{app}/none"))
    found = named(payload)
    python = next(path for part, path in found if part is Part.INTERPRETER)
    assert os.path.basename(python) == "python3"
    assert {key: kind for key, kind in found.items() if key[0] is not Part.INTERPRETER} == {
        (Part.BINARY, run): "file",
        (Part.DIRECTORY, str(app)): "directory",
        (Part.LISTED, f"{app}/app.toml"): "file",
        (Part.LISTED, rules): "directory",
        (Part.LISTED, f"{rules}/one"): "file",
        (Part.LISTED, f"{app}/none"): "missing",
    }
    mark = payload.marks[run]
    assert mark.links[-1][:2] == (f"{app}/current", "v2") and mark.mode == 0o755
    assert mark.digest == hashlib.sha256((app / "v2" / "run").read_bytes()).hexdigest()
    assert payload.programs["web"].is_whole and payload.remarks == ()


def test_an_argument_counts_where_it_is_a_file() -> None:
    payload = look(wanted("sleep /etc/passwd /etc /no/such --x=/etc/hostname.none"))
    assert [one.path for one in payload.programs["web"].files if one.part is Part.ARGUMENT] == ["/etc/passwd"]


def test_what_is_ignored_is_not_looked_at(app: pathlib.Path) -> None:
    payload = look(wanted("sleep 1", "", f"{app}/app.toml", f"{app}/rules"), ("*.toml", "*/one"))
    assert f"{app}/rules/one" not in payload.marks and payload.ignore == ("*.toml", "*/one")


def test_nothing_but_a_regular_file_is_opened(tmp_path: pathlib.Path) -> None:
    """A FIFO without a writer would hold whoever opens it for reading."""
    os.mkfifo(tmp_path / "fifo")
    payload = look(wanted("sleep 1", "", f"{tmp_path}/fifo", "/dev/zero"))
    assert [payload.marks[path].kind for path in (f"{tmp_path}/fifo", "/dev/zero")] == [Kind.OTHER, Kind.OTHER]


def test_a_large_file_is_not_read(tmp_path: pathlib.Path) -> None:
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(HASHED_BYTES + 1)
    mark = look(wanted("sleep 1", "", str(large))).marks[str(large)]
    assert (mark.kind, mark.digest, mark.size) == (Kind.FILE, "", HASHED_BYTES + 1)


def test_users_and_their_groups_are_told() -> None:
    payload = look({"web": Wanted("c", [("sleep 1", "", SEARCH, 0), ("sleep 1", "", SEARCH, 0x70000001)])})
    assert payload.programs["web"].users == ("root", f"uid {0x70000001}")
    assert payload.users["root"].uid == 0 and payload.users["root"].groups["root"] == 0


def test_a_file_that_has_not_changed_is_not_read_again_and_one_that_has_is(tmp_path: pathlib.Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"one")
    seen = os.stat(binary)
    known = [seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, "not-read-again", ""]
    programs = {"web": {"conf": "c", "runs": [[str(binary), "", SEARCH, None]], "listed": []}}

    def look_again() -> tuple[str, Looker]:
        looker = Looker({str(binary): known}, (), (), 1000)
        return looker.look(programs).marks[str(binary)].digest, looker

    digest, looker = look_again()
    assert digest == "not-read-again" and looker.known == {str(binary): known}
    # The same size and the same time stamp, as cp -p and package managers leave them: st_ctime tells.
    time.sleep(0.02)
    binary.write_bytes(b"two")
    os.utime(binary, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    digest, looker = look_again()
    assert digest == hashlib.sha256(b"two").hexdigest()
    assert looker.known == {}, "it changed so lately that it may change again without another time stamp"


def test_a_look_reads_so_many_bytes_and_leaves_the_rest_to_the_next_one(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(600))
    programs = {"web": {"conf": "c", "runs": [], "listed": [f"{tmp_path}/a", f"{tmp_path}/b"]}}
    payload = Looker({}, (), (), 1000).look(programs)
    assert [mark.kind for mark in payload.marks.values()] == [Kind.FILE, Kind.UNREAD]
    assert "one of the next looks" in payload.remarks[0]


def test_a_look_finds_what_has_changed_since_the_one_before(tmp_path: pathlib.Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"one")

    async def work() -> None:
        looker = make_looker()
        before = await looker.look(wanted(str(binary)), ())
        assert (await looker.look(wanted(str(binary)), ())).hash == before.hash
        binary.write_bytes(b"two")
        after = await looker.look(wanted(str(binary)), ())
        (drift,) = find_drifts(before, after, "node-a", "node-b")
        assert drift.say("node-b", "node-a") == f"node-b would start another build of web: {binary} differs"

    asyncio.run(work())


HANGING = """
import json, os, sys, time
if os.path.exists({flag!r}):
    print(json.dumps({{"at": "/dead/file"}}), flush=True)
    time.sleep(60)
os.execv(sys.executable, [sys.executable, "-m", "ha_agent.payload_look"])
"""


def test_a_disk_that_does_not_answer_costs_that_path_and_nothing_else(tmp_path: pathlib.Path) -> None:
    """The stand-in says what it asks for and then nothing, as the look does on a dead NFS server."""
    flag, hanging = tmp_path / "flag", tmp_path / "hanging"
    flag.touch()
    hanging.write_text(HANGING.format(flag=str(flag)))

    async def work() -> None:
        looker = make_looker(1.0, (sys.executable, str(hanging)))
        with pytest.raises(LookFailed, match="did not answer within 1 s when it was asked for /dead/file"):
            await looker.look(wanted("sleep 1"), ())
        flag.unlink()
        payload = await looker.look(wanted("sleep /etc/passwd", "", "/dead/file"), ())
        assert payload.marks["/dead/file"].kind is Kind.UNREAD
        assert payload.remarks == ("/dead/file: the disk did not answer lately",)
        assert payload.marks["/etc/passwd"].kind is Kind.FILE

    asyncio.run(work())


@pytest.mark.parametrize("words", [("/no/such",), (sys.executable, "-c", "print('{}')"), (sys.executable, "-c", "")])
def test_a_look_that_comes_to_nothing_says_why(words: tuple[str, ...]) -> None:
    with pytest.raises(LookFailed):
        asyncio.run(make_looker(5.0, words).look({}, ()))


CONF = """\
[program:web]
command=/opt/web/run %(ENV_SECRET)s %(process_num)d
numprocs=2
process_name=%(program_name)s_%(process_num)d
environment=PATH="/opt/bin:/bin"
directory=/tmp
user=nobody
"""


@pytest.mark.parametrize("is_stranger", [False, True])
def test_supervisords_own_parser_says_what_would_be_run_and_to_the_agent_alone(
    tmp_path: pathlib.Path, is_stranger: bool
) -> None:
    main = tmp_path / "supervisord.conf"
    main.write_text("[supervisord]\nenvironment=SECRET=word\n")

    async def judge() -> tuple[Run, ...]:
        checker = ConfChecker(SupervisorSettings(python=sys.executable, config=str(main)))
        try:
            verdicts = await checker.judge({"a.conf": CONF}, {"a.conf": "/r"}, for_stranger=is_stranger)
        finally:
            await checker.close()
        (program,) = verdicts["a.conf"].programs
        return program.runs

    nobody = pwd.getpwnam("nobody").pw_uid
    runs = tuple(Run(f"/opt/web/run word {n}", "/tmp", ("/opt/bin", "/bin"), nobody) for n in (0, 1))
    assert asyncio.run(judge()) == (() if is_stranger else runs)
