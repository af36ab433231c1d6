"""supervisord's own parser on confs that were made to do harm: each is a problem of its own, and of nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

import pytest

from ha_agent.adapters.conf_checker import SCRIPT, ConfChecker
from ha_agent.adapters.supervisord import directory_of, sockets_of
from ha_agent.core.confs import Verdict
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.supervisor_words import without_values
from tests.fuzz.targets import check_verdict, make_conf
from tests.lab_support import wait_for

INNOCENT = "[program:innocent]\ncommand=/bin/sleep 1\n"
MAIN = """\
[supervisord]
environment=SHARED="from the main conf",
    DIRECTORY="%(here)s"   ; a remark
"""


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> SupervisorSettings:
    """A main conf that root alone reads; no supervisord runs."""
    path = tmp_path / "supervisord.conf"
    path.write_text(MAIN)
    path.chmod(0o600)
    return SupervisorSettings(socket=str(tmp_path / "none.sock"), config=str(path), python=sys.executable)


def judge(
    settings: SupervisorSettings, confs: Mapping[str, str | bytes], *, for_stranger: bool = False
) -> dict[str, Verdict]:
    """The verdicts on ``confs``, all in one request."""

    async def main() -> dict[str, Verdict]:
        checker = ConfChecker(settings)
        texts = {p: t if isinstance(t, str) else t.decode("utf-8", "surrogateescape") for p, t in confs.items()}
        try:
            return await checker.judge(texts, dict.fromkeys(confs, "/etc/supervisor/conf.d"), for_stranger=for_stranger)
        finally:
            await checker.close()

    return asyncio.run(main())


HIDDEN = "[program:x]\ncommand=/bin/true\n;\r[eventlistener:y]\rcommand=/bin/true\revents=TICK_5\r"

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "a section behind a lone CR": (HIDDEN, "section [eventlistener:y] does not belong"),
    "NUL": ("[program:x]\ncommand=/bin/true\0\n", "NUL byte"),
    "byte order mark": ("\ufeff[program:x]\ncommand=/bin/true\n", "begins with a byte order mark"),
    "bytes that are no text": (b"[program:x]\ncommand=/bin/true \xff\n", "byte 0xff at offset 30 is not utf-8 text"),
    "characters that are no text": ("[program:x]\ncommand=/bin/true \ud800\n", "not text"),
    "[DEFAULT]": ("[DEFAULT]\nuser=nobody\n[program:x]\ncommand=/bin/true\n", "[DEFAULT] would change"),
    "an empty [DEFAULT]": ("[DEFAULT]\n[program:x]\ncommand=/bin/true\n", "[DEFAULT] would change"),
    "an indented section": ("[program:x]\n [program:y]\ncommand=/bin/true\n", "section [program:y] must stand alone"),
    "a group with an indented list": ("[program:x]\ncommand=/bin/true\n[group:g] ]\nprograms=x\n", "must stand alone"),
    "a name with blanks": ("[program: x]\ncommand=/bin/true\n", "blanks around it"),
    "one name twice": (
        "[program:x]\ncommand=/bin/true\n[fcgi-program:x]\ncommand=/bin/true\nsocket=unix:///x\n",
        "and as [fcgi-program:]",
    ),
    "numprocs": (
        "[program:x]\ncommand=/bin/true\nnumprocs=6000\nprocess_name=%(process_num)d\n",
        "numprocs=6000 in section 'program:x'; 1000 are allowed",
    ),
    "numprocs by a variable": (
        "[program:x]\ncommand=/bin/true\nnumprocs=1%(numprocs_start)s\n",
        "numprocs: there is nothing that %(numprocs_start)s could stand for",
    ),
    "numprocs times length": (
        "[program:x]\nnumprocs=900\nprocess_name=%(process_num)d\ncommand=/bin/true " + "x" * 20_000 + "\n",
        "are allowed",
    ),
    "a width": ("[program:x]\ncommand=/bin/true %(program_name)999999999s\n", "too much memory"),
    "a smaller width": ("[program:x]\ncommand=/bin/true %(program_name)99999999s\n", "65536 are allowed"),
    "a line that takes for ever": ("[program:x]\ncommand=/bin/true\na" + " " * 400_000 + "b\n", "needs more than 3 s"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_supervisord_would_read_otherwise_or_choke_on_is_a_problem_of_that_conf_alone(
    settings: SupervisorSettings, case: str
) -> None:
    text, problem = REFUSED[case]
    verdicts = judge(settings, {"a.conf": INNOCENT, "b.conf": text, "c.conf": INNOCENT})
    assert problem in (verdicts["b.conf"].problem or "no problem")
    assert [p.name for path in ("a.conf", "c.conf") for p in verdicts[path].programs] == ["innocent", "innocent"]


def test_memory_and_time_that_confs_take_are_bounded_and_the_parser_lives_on(settings: SupervisorSettings) -> None:
    """The rule of `parser-memory`."""
    large = "".join(f"[program:x{n}]\nnumprocs=1000\nprocess_name=%(process_num)d\ncommand=/bin/true\n" for n in range(100))

    async def main() -> tuple[dict[str, Verdict], int]:
        checker = ConfChecker(settings)
        await checker.judge({"a.conf": INNOCENT}, {"a.conf": "/etc"})
        before, pid = resident_mib(checker.pid), checker.pid
        verdicts = await checker.judge({"b.conf": large, "a.conf": INNOCENT}, dict.fromkeys(("a.conf", "b.conf"), "/etc"))
        assert checker.pid == pid
        grown = resident_mib(checker.pid) - before
        await checker.close()
        return verdicts, grown

    verdicts, grown = asyncio.run(main())
    assert verdicts["a.conf"].problem is None
    assert "supervisord's parser needs" in (verdicts["b.conf"].problem or ""), "too much memory, or too long"
    assert grown < 64, f"the parser's own process grew by {grown} MiB"


def resident_mib(pid: int | None) -> int:
    """Resident memory of a process, MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) // 1024


def test_the_largest_conf_that_a_registry_takes_is_judged_within_the_limits(settings: SupervisorSettings) -> None:
    large = "".join(f"[program:x{n}]\ncommand=/bin/sleep {n}\nuser=root\n" for n in range(2_000))
    large += ";" + "x" * (4 * 1024 * 1024 - len(large) - 2) + "\n"
    began = time.monotonic()
    assert judge(settings, {"a.conf": large})["a.conf"].problem is None, f"after {time.monotonic() - began:.1f} s"


@pytest.mark.parametrize("cut", ["in the middle of its question", "before the answer"])
def test_a_parser_whose_agent_is_killed_ends_without_a_word(settings: SupervisorSettings, cut: str) -> None:
    """Hazard 37: the agent is killed while it asks supervisord's parser about a conf.

    Fault: the parser gets half a question and the end of its input, or nobody reads its answer any more.
    Answer: it ends; what it says of that would stand in the agent's log as a crash.
    Bound: at once.
    """
    confs = {"confs": {"a.conf": INNOCENT}, "directories": {"a.conf": "/etc"}, "sections": {"a.conf": ["program:innocent"]}}
    words = json.dumps({**confs, "environment": "", "stranger": False}).encode() + b"\n"
    if cut == "in the middle of its question":
        words = words[: len(words) // 2]
    command = [sys.executable, "-W", "ignore", SCRIPT, settings.config]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parser:
        assert parser.stdin is not None and parser.stdout is not None and parser.stderr is not None
        parser.stdout.close()
        parser.stdin.write(words)
        parser.stdin.close()
        said = parser.stderr.read()
    assert (parser.returncode, said) == (0, b"")


def test_a_conf_is_parsed_by_a_process_that_may_do_nothing_and_leaves_nothing_when_it_is_killed(
    settings: SupervisorSettings, tmp_path: pathlib.Path
) -> None:
    """Caught while it works on a conf that takes for ever."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root")

    def look(parser: int) -> dict[str, str] | None:
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/status", encoding="utf-8") as file:
                        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                    with open(f"/proc/{entry}/oom_score_adj", encoding="ascii") as file:
                        fields["oom"] = file.read().strip()
                except OSError:
                    continue
                if fields["PPid"] == str(parser) and fields["Uid"].split()[0] != "0":
                    return fields
        return None

    async def main() -> tuple[dict[str, str], str]:
        checker = ConfChecker(settings)
        await checker.judge({"a.conf": INNOCENT}, {"a.conf": "/etc"})
        assert checker.pid is not None
        own = pathlib.Path(f"/proc/{checker.pid}/oom_score_adj").read_text().strip()
        slow = {"a.conf": REFUSED["a line that takes for ever"][0]}
        asking = asyncio.ensure_future(checker.judge(slow, {"a.conf": "/etc"}))  # type: ignore[arg-type]
        found = None
        while found is None and not asking.done():
            await asyncio.sleep(0.01)
            found = await asyncio.to_thread(look, checker.pid)
        assert found is not None, "no child was seen"
        await checker.close()
        with pytest.raises(Exception, match="did not answer"):
            await asking
        wait_for("the child ends with its parent", lambda: not is_alive(found["Pid"]), 5)
        return found, own

    before = set(os.listdir("/tmp"))
    child, own = asyncio.run(main())
    assert set(child["Uid"].split()) == {str(0x70000000)} == set(child["Gid"].split())
    assert (child["Groups"].strip(), child["CapEff"], child["oom"], own) == ("", "0" * 16, "500", "0")
    assert not [name for name in set(os.listdir("/tmp")) - before if "check" in name]


def is_alive(pid: str) -> bool:
    """Whether a process works on; one that has ended may wait to be reaped."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return "State:\tZ" not in file.read()
    except OSError:
        return False


# ---- what stands behind %(ENV_x)s ------------------------------------------------------------------------------


def test_the_environment_of_the_main_conf_stands_for_itself_in_every_conf(settings: SupervisorSettings) -> None:
    text = '[program:x]\ncommand=/bin/echo "%(ENV_SHARED)s" %(ENV_DIRECTORY)s\n'
    assert judge(settings, {"a.conf": text})["a.conf"].problem is None
    pathlib.Path(settings.config).write_text("[supervisord]\nenvironment=a=%(nothing)s\n")
    verdicts = judge(settings, {"a.conf": text, "b.conf": INNOCENT})
    assert "%(ENV_SHARED)s" in (verdicts["a.conf"].problem or "")
    assert verdicts["b.conf"].problem is None, "a fault of the main conf is none of a conf's"


SECRET = "correct-horse"
TELLING = {
    "a percent sign": f'environment=PW="{SECRET}%"',
    "no quotes": f"environment=PW={SECRET}&more",
    "one quote": f'environment=PW="{SECRET}',
    "a name that means nothing": f'environment=PW="{SECRET}%(x)s"',
    "a line that is none": f"environment=A=1\n{SECRET}",
    "in a command": f"command=/bin/curl https://user:{SECRET}@host/%",
    "in another option": f"environment=PW={SECRET}\nuser={SECRET}",
}


@pytest.mark.parametrize("case", TELLING)
def test_no_message_repeats_a_secret(settings: SupervisorSettings, case: str) -> None:
    problem = judge(settings, {"a.conf": f"{INNOCENT}{TELLING[case]}\n"})["a.conf"].problem
    assert problem is not None
    assert SECRET not in problem and len(problem) <= 500


@pytest.mark.parametrize("case", TELLING)
def test_what_supervisord_itself_says_of_a_conf_is_told_without_the_secret(tmp_path: pathlib.Path, case: str) -> None:
    """supervisord's own words, from its own parser, as the agent would put them into its history."""
    main = tmp_path / "main.conf"
    main.write_text(f"[supervisord]\n[include]\nfiles={tmp_path}/a.conf\n")
    (tmp_path / "a.conf").write_text(f"{INNOCENT}{TELLING[case]}\n")
    words = [sys.executable, "-W", "ignore", "-c", READ, str(main)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    told = without_values(said)
    assert SECRET in said or case in ("one quote", "in another option")
    if case != "in another option":
        assert SECRET not in told, told
    assert told.strip()


READ = """
import sys
from supervisor.options import ServerOptions
made = ServerOptions()
made.here = "/"
try:
    with open(sys.argv[1]) as file:
        made.read_config(file)
except ValueError as error:
    print("CANT_REREAD:", error)
"""


# ---- what the machine has --------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory that everybody enters. In it "closed", which its owner alone enters, with a program in closed/inner, and
    "way", a link to that."""
    with tempfile.TemporaryDirectory(dir="/var/tmp" if os.path.isdir("/var/tmp") else "/tmp") as directory:
        made = pathlib.Path(directory)
        made.chmod(0o755)
        inner = made / "closed" / "inner"
        inner.mkdir(parents=True)
        (inner / "run").write_text("#!/bin/sh\n")
        (inner / "run").chmod(0o755)
        (made / "closed").chmod(0o700)
        (made / "way").symlink_to(inner)
        yield made


def test_a_stranger_does_not_learn_what_is_in_closed_directories(settings: SupervisorSettings, place: pathlib.Path) -> None:
    inner = place / "closed" / "inner"
    confs = {}
    for number, path in enumerate([f"{inner}/run", f"{inner}/none", f"{place}/way/run", f"{place}/way/none"]):
        confs[f"{number}.conf"] = f"[program:x]\ncommand={path}\n"
        confs[f"{number}d.conf"] = f"[program:x]\ncommand=/bin/true\ndirectory={path}/deep\n"
        confs[f"{number}l.conf"] = f"[program:x]\ncommand=/bin/true\nstdout_logfile={path}/deep/x.log\n"
    told = judge(settings, confs, for_stranger=True).values()
    assert {(v.problem, v.programs[0].missing) for v in told} == {(None, ())}
    root = judge(settings, confs)
    assert [bool(root[p].problem or root[p].programs[0].missing) for p in ("0.conf", "1.conf", "2.conf", "3.conf")] == [
        False,
        True,
        False,
        True,
    ]
    assert "does not exist" in (root["1l.conf"].problem or "")
    open_one = judge(settings, {"a.conf": f"[program:x]\ncommand={place}/none\n"}, for_stranger=True)
    assert "is missing" in open_one["a.conf"].programs[0].missing[0]


def test_what_a_program_needs_is_looked_at_with_the_eyes_of_its_user(
    settings: SupervisorSettings, place: pathlib.Path
) -> None:
    inner = place / "closed" / "inner"
    text = "[program:x]\ncommand={0}/{1}\ndirectory={0}\nuser=nobody\n"
    verdicts = judge(settings, {"a.conf": text.format(inner, "run"), "b.conf": text.format(inner, "none")})
    said = {v.programs[0].missing for v in verdicts.values()}
    assert all("cannot be reached by nobody" in line for lines in said for line in lines)
    assert [len(lines) for lines in said] == [2, 2]
    (place / "closed").chmod(0o711)
    verdicts = judge(settings, {"a.conf": text.format(inner, "run"), "b.conf": text.format(inner, "none")})
    assert verdicts["a.conf"].programs[0].missing == ()
    assert verdicts["b.conf"].programs[0].missing == (f"executable {inner}/none is missing",)


def test_whatever_is_judged_loadable_loads_in_supervisord_beside_an_innocent_conf(
    settings: SupervisorSettings, tmp_path: pathlib.Path
) -> None:
    """A minute of `make fuzz` at most: random confs, judged, written as the active set has them, and read by supervisord."""
    texts = {f"{n}.conf": make_conf(random.Random(f"integration/{n}")) for n in range(600)}
    verdicts = judge(settings, texts)
    for path, text in texts.items():
        check_verdict(text, verdicts[path], str(tmp_path))
    assert sum(v.problem is None for v in verdicts.values()) > 100


def test_a_relative_executable_must_be_where_supervisord_looks_for_it(settings: SupervisorSettings) -> None:
    """supervisord looks from its own directory, here "/", and then starts it from directory= (``get_execv_args``)."""
    text = "[program:x]\ncommand={}\ndirectory={}\n"
    confs = {
        "a.conf": text.format("./true", "/bin"),
        "b.conf": text.format("bin/true", "/"),
        "c.conf": text.format("bin/true", "/tmp"),
        "d.conf": text.format("/bin", "/"),
    }
    missing = {path: verdict.programs[0].missing for path, verdict in judge(settings, confs).items()}
    assert missing["a.conf"] == ("executable ./true is relative: supervisord looks for it from /, where it is not",)
    assert missing["b.conf"] == ()
    assert missing["c.conf"] == ("executable bin/true is missing",)
    assert missing["d.conf"] == ("executable /bin is missing",)


def test_a_log_that_is_a_socket_of_supervisords_is_missed_and_one_that_is_a_file_is_not(
    settings: SupervisorSettings,
) -> None:
    """systemd gives a service sockets for its output: /dev/stdout cannot be opened then, and the program is FATAL."""
    text = "[program:x]\ncommand=/bin/true\nstdout_logfile=/dev/{}\nstdout_logfile_maxbytes=0\n"
    request = {
        "confs": {name: text.format(name) for name in ("stdout", "stderr", "fd/1", "null")},
        "directories": dict.fromkeys(("stdout", "stderr", "fd/1", "null"), "/"),
        "sections": {name: ["program:x"] for name in ("stdout", "stderr", "fd/1", "null")},
    }
    words = [sys.executable, SCRIPT, settings.config, "/", "1"]
    done = subprocess.run(words, input=json.dumps(request) + "\n", capture_output=True, text=True, timeout=30)
    missing = {path: v["programs"][0]["missing"] for path, v in json.loads(done.stdout)["verdicts"].items()}
    assert missing["stdout"] == ["log /dev/stdout is a socket of supervisord's, which cannot be opened"]
    assert missing["fd/1"] == ["log /dev/fd/1 is a socket of supervisord's, which cannot be opened"]
    assert missing["stderr"] == missing["null"] == []


def test_which_outputs_of_a_process_are_sockets(tmp_path: pathlib.Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["sleep", "30"], stdout=theirs.fileno(), stderr=log)
        try:
            assert (sockets_of(process.pid), directory_of(process.pid)) == ("1", os.getcwd())
        finally:
            process.kill()
            process.wait()
    assert (sockets_of(2**30), directory_of(2**30)) == ("", "/")
