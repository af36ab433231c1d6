"""The witness's record on a host behind a real sshd: what the key may do, two nodes at once, a host that hangs."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

import ha_agent.witness_entry as entry
from ha_agent.adapters.witness import NoAnswer
from ha_agent.adapters.witness_ssh import SshWitness, WitnessHost
from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight
from ha_agent.core.witness_watch import Outcome
from ha_agent.lab.keys import make_key_pair
from tests.etcd import HOST, free_ports

ANSWER_S = 3.0
"""Longer than the default, so that a busy machine is no failure."""

CONF = """\
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
KexAlgorithms curve25519-sha256
StrictModes no
UseDNS no
PermitRootLogin forced-commands-only
"""


def record(counter: int, holder: str = "node-a") -> Record:
    return Record(holder, "start-1", counter, 1, 3000)


class WitnessMachine:
    """An sshd on the loopback whose keys reach one record each."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory, (self.port,) = directory, free_ports(1)
        self.records = directory / "records"
        private, public = make_key_pair("host")
        self._write("host_key", private)
        self._write("known_hosts", f"{HOST} {' '.join(public.split()[:2])}\n")
        self._write("sshd_config", CONF.format(directory=directory))
        self._lines: list[str] = []
        self.sshd: subprocess.Popen[bytes] | None = None

    def _write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text, encoding="ascii")
        path.chmod(0o600)

    def add_key(self, name: str, pair: str = "pair-1") -> WitnessHost:
        """A key for a record; returns how a node with it reaches the host."""
        private, public = make_key_pair(name)
        self._write(name, private)
        program = f"{sys.executable} {entry.__file__} --directory {self.records} --record {pair}"
        self._lines.append(f'restrict,command="{program}" {public}\n')
        self._write("authorized_keys", "".join(self._lines))
        key, known = str(self.directory / name), str(self.directory / "known_hosts")
        return WitnessHost(host=HOST, port=self.port, user="root", key_file=key, known_hosts=known)

    def start(self) -> None:
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.directory / "sshd_config")]
        words += ["-o", f"ListenAddress={HOST}:{self.port}"]
        with open(self.directory / "sshd.log", "ab") as log:
            self.sshd = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until, (self.directory / "sshd.log").read_text(encoding="utf-8")
                time.sleep(0.02)

    def sessions(self) -> list[int]:
        """The processes that serve a record now."""
        found = []
        for path in pathlib.Path("/proc").iterdir():
            with suppress(OSError):
                if path.name.isdigit() and str(self.records).encode() in (path / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(path.name))
        return found

    def stop(self) -> None:
        if self.sshd is not None:
            self.sshd.kill()
            self.sshd.wait()
        for pid in self.sessions():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Iterator[WitnessMachine]:
    made = WitnessMachine(tmp_path)
    made.start()
    yield made
    made.stop()


@asynccontextmanager
async def connected(where: WitnessHost, tmp_path: pathlib.Path, name: str) -> AsyncIterator[SshWitness]:
    """A node's witness with its connection up."""
    witness = SshWitness(where, str(tmp_path / name))
    task = asyncio.create_task(witness.run())
    try:
        await until_read(witness)
        yield witness
    finally:
        witness.close()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_read(witness: SshWitness) -> Sight:
    """The record, as soon as the host answers."""
    until = time.monotonic() + 20
    while True:
        try:
            return await witness.read(ANSWER_S)
        except NoAnswer:
            assert time.monotonic() < until, witness.problem
            await asyncio.sleep(0.05)


Scenario = Callable[[SshWitness, SshWitness], Awaitable[None]]


def with_two_nodes(machine: WitnessMachine, tmp_path: pathlib.Path, scenario: Scenario) -> None:
    """Runs ``scenario`` with the witness as both nodes of a pair see it."""

    async def main() -> None:
        a, b = machine.add_key("node-a"), machine.add_key("node-b")
        async with connected(a, tmp_path, "run-a") as one, connected(b, tmp_path, "run-b") as two:
            await scenario(one, two)

    asyncio.run(main())


def test_a_record_is_made_changed_and_refused_to_who_saw_an_older_one(
    machine: WitnessMachine, tmp_path: pathlib.Path
) -> None:
    async def scenario(one: SshWitness, two: SshWitness) -> None:
        assert await one.read(ANSWER_S) == NOTHING_THERE
        outcome, first = await one.swap(NOTHING_THERE, record(1), ANSWER_S)
        assert outcome is Outcome.DONE and first is not None and await two.read(ANSWER_S) == first
        assert await two.swap(NOTHING_THERE, record(1, "node-b"), ANSWER_S) == (Outcome.OTHER, first)
        outcome, second = await two.swap(first, record(2, "node-b"), ANSWER_S)
        assert outcome is Outcome.DONE and second is not None
        assert await one.swap(first, record(2), ANSWER_S) == (Outcome.OTHER, second)
        assert await one.swap(Sight(second.revision, record(9)), record(10), ANSWER_S) == (Outcome.OTHER, second)
        assert json.loads((machine.records / "pair-1.json").read_text(encoding="utf-8"))["revision"] == second.revision

    with_two_nodes(machine, tmp_path, scenario)


def test_of_two_writers_at_once_one_is_done(machine: WitnessMachine, tmp_path: pathlib.Path) -> None:
    async def scenario(one: SshWitness, two: SshWitness) -> None:
        seen = NOTHING_THERE
        for counter in range(1, 30):
            answers = await asyncio.gather(
                one.swap(seen, record(counter), ANSWER_S), two.swap(seen, record(counter, "node-b"), ANSWER_S)
            )
            assert sorted(outcome.value for outcome, _ in answers) == ["done", "other"]
            assert answers[0][1] == answers[1][1] and answers[0][1] is not None
            seen = answers[0][1]

    with_two_nodes(machine, tmp_path, scenario)


def test_a_session_that_holds_the_record_and_hangs_is_said_and_does_not_hang_the_other(
    machine: WitnessMachine, tmp_path: pathlib.Path
) -> None:
    async def scenario(one: SshWitness, two: SshWitness) -> None:
        _, seen = await one.swap(NOTHING_THERE, record(1), ANSWER_S)
        assert seen is not None
        with entry.Lock(str(machine.records), "pair-1"):
            assert (await two.swap(seen, record(2, "node-b"), ANSWER_S))[0] is Outcome.UNKNOWN
            assert two.problem == "another session holds the record"
        assert (await two.swap(seen, record(2, "node-b"), ANSWER_S))[0] is Outcome.DONE

    with_two_nodes(machine, tmp_path, scenario)


def test_a_host_that_hangs_gives_no_answer_in_time_and_a_write_to_it_is_unknown(
    machine: WitnessMachine, tmp_path: pathlib.Path
) -> None:
    async def scenario(one: SshWitness, two: SshWitness) -> None:
        _, seen = await one.swap(NOTHING_THERE, record(1), ANSWER_S)
        assert seen is not None
        sessions = machine.sessions()
        for pid in sessions:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        assert await one.swap(seen, record(2), 0.3) == (Outcome.UNKNOWN, None)
        with pytest.raises(NoAnswer):
            await one.read(0.3)
        assert time.monotonic() - began < 2.0 and "did not" in one.problem
        for pid in sessions:
            os.kill(pid, signal.SIGCONT)
        found = await until_read(one)
        assert found.record in (record(1), record(2))

    with_two_nodes(machine, tmp_path, scenario)


def test_a_host_that_was_off_has_the_record_when_it_is_back(machine: WitnessMachine, tmp_path: pathlib.Path) -> None:
    async def scenario(one: SshWitness, two: SshWitness) -> None:
        _, seen = await one.swap(NOTHING_THERE, record(1), ANSWER_S)
        machine.stop()
        for witness in (one, two):
            with pytest.raises(NoAnswer):
                await witness.read(ANSWER_S)
        assert (await one.swap(NOTHING_THERE, record(2), ANSWER_S))[0] is Outcome.UNKNOWN
        machine.start()
        assert await until_read(one) == seen and await until_read(two) == seen

    with_two_nodes(machine, tmp_path, scenario)


def test_a_damaged_or_strange_record_is_said_and_not_written_over(machine: WitnessMachine, tmp_path: pathlib.Path) -> None:
    async def scenario(one: SshWitness, _two: SshWitness) -> None:
        path = machine.records / "pair-1.json"
        for text, said in (
            ("{", "is damaged"),
            ('{"revision": 0, "text": "x"}', "is damaged"),
            ('{"revision": 3, "text": "hello"}', "not JSON"),
        ):
            path.write_text(text, encoding="ascii")
            with pytest.raises(NoAnswer, match=said):
                await one.read(ANSWER_S)
            assert (await one.swap(NOTHING_THERE, record(1), ANSWER_S))[0] is Outcome.UNKNOWN
            assert path.read_text(encoding="ascii") == text

    with_two_nodes(machine, tmp_path, scenario)


def ssh(machine: WitnessMachine, where: WitnessHost, *words: str, data: bytes = b"") -> str:
    """What ssh and the host say to ``words``."""
    command = ["ssh", "-F", "/dev/null", "-p", str(machine.port), "-i", where.key_file, "-o", "BatchMode=yes"]
    command += ["-o", f"UserKnownHostsFile={where.known_hosts}", "-o", f"HostKeyAlias={HOST}", "-o", "LogLevel=ERROR"]
    done = subprocess.run([*command, *words], input=data, capture_output=True, timeout=20)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("command", ["id", "votes; id", "votes --record other", "internal-sftp", "scp -t /etc"])
def test_the_key_can_do_votes_and_nothing_else(machine: WitnessMachine, command: str) -> None:
    said = ssh(machine, machine.add_key("node-a"), f"root@{HOST}", command)
    assert "this key may do votes, not" in said and "uid=" not in said


def test_a_key_reaches_its_own_pairs_record_alone(machine: WitnessMachine, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        one, other = machine.add_key("node-a"), machine.add_key("stranger", "pair-2")
        async with connected(one, tmp_path, "run-a") as first, connected(other, tmp_path, "run-b") as second:
            await first.swap(NOTHING_THERE, record(1), ANSWER_S)
            assert await second.read(ANSWER_S) == NOTHING_THERE

    asyncio.run(main())


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\2[]",
        b"\0\0\0\3{]}",
        bytes(range(255, 0, -1)),
        b"\0\0\0\x0f" + b'{"op":"remove"}',
        b"\0\0\0\x25" + b'{"op":"swap","revision":0,"text":null}',
        b"\0\0\0",
    ],
)
def test_rubbish_from_who_has_the_key_ends_that_session_and_changes_nothing(machine: WitnessMachine, data: bytes) -> None:
    said = ssh(machine, machine.add_key("node-a"), f"root@{HOST}", "votes", data=data)
    assert "Traceback" not in said and "refused" not in said
    assert list(machine.records.glob("*.json")) == []


def test_a_session_costs_little_memory(machine: WitnessMachine, tmp_path: pathlib.Path) -> None:
    """One host serves many pairs."""

    async def main() -> None:
        async with connected(machine.add_key("node-a"), tmp_path, "run-a"):
            (pid,) = machine.sessions()
            status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            rss = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
            assert rss < 16 * 1024, f"{rss} KiB"

    asyncio.run(main())
