"""What a witness costs its host: sessions that last, as the protocol has them, beside a new one for each question; and etcd.

Real sshd, ssh and ha-agent-witness on the loopback, the records on a disk. Each pair is two sessions; each second its holder
swaps its record, and the other node reads it (``witness.renew_s`` is 1 s). What is counted is the host's part alone: sshd,
the processes that it starts, or etcd; not the nodes' ssh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ha_agent.witness_entry as entry
from bench.measure import p50, percentile
from ha_agent.adapters.witness_etcd import EtcdAccess, EtcdWitness
from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight
from ha_agent.lab.keys import make_key_pair
from ha_agent.lab.layout import fresh_directory
from tests.etcd import Etcd, free_ports

PAIRS = tuple(map(int, os.environ.get("PAIRS", "25 100").split()))
"""How many pairs one host serves; the environment may name others: a thousand need 20 GiB here, the nodes' ends included."""

TOUCH_S = 20.0
"""A session that is not asked anything for a minute ends."""

AT_ONCE = 5
SECONDS = 10.0
ROUNDS = 3
ANEW = 20
"""Questions, one after the other, where each has a session of its own."""

ETCD_PAIRS = 100
HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
PYTHON = "/usr/bin/python3"

CONF = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
UseDNS no
MaxStartups 1000
MaxSessions 100
PermitRootLogin forced-commands-only
"""

Row = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Used:
    """What a process and all below it have used: processor seconds, those of ended children too; proportional memory."""

    cpu_s: float
    pss_kib: int
    processes: int


def look_at(root: int) -> Used:
    """What the tree below ``root`` has used up to now."""
    above: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
            above.setdefault(int(fields[1]), []).append(int(name))
            times[int(name)] = sum(map(int, fields[11:15])) / TICKS
    tree, pss = [root], 0
    for pid in tree:
        tree += above.get(pid, [])
    for pid in tree:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            pss += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return Used(sum(times.get(pid, 0.0) for pid in tree), pss, len(tree))


class Host:
    """An sshd on the loopback with one key, which reaches the record that the key's line names for each pair."""

    def __init__(self, folder: pathlib.Path, pairs: int) -> None:
        self.folder, (self.port,) = folder, free_ports(1)
        private, public = make_key_pair("host")
        self._write("host_key", private)
        self._write("known_hosts", f"[{HOST}]:{self.port} {' '.join(public.split()[:2])}\n")
        self._write("sshd_config", CONF.format(folder=folder))
        lines = []
        for number in range(pairs):
            private, public = make_key_pair(f"pair-{number}")
            self._write(f"key-{number}", private)
            program = f"{PYTHON} -I -S {entry.__file__} --directory {folder}/records --record pair-{number}"
            lines.append(f'restrict,command="{program}" {public}\n')
        self._write("authorized_keys", "".join(lines))
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config"), "-o", f"ListenAddress={HOST}:{self.port}"]
        with open(folder / "sshd.log", "ab") as log:
            self.sshd = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text, encoding="ascii")
        path.chmod(0o600)

    def words(self, number: int, *more: str) -> list[str]:
        """A node's ssh for the pair ``number``."""
        options = [f"UserKnownHostsFile={self.folder}/known_hosts", f"IdentityFile={self.folder}/key-{number}"]
        options += ["BatchMode=yes", "IdentitiesOnly=yes", "LogLevel=ERROR", *more]
        words = ["ssh", "-F", "/dev/null", "-T", "-p", str(self.port)]
        for option in options:
            words += ["-o", option]
        return [*words, f"root@{HOST}", "votes"]

    def look(self) -> Used:
        return look_at(self.sshd.pid)

    def down(self) -> None:
        self.sshd.send_signal(signal.SIGTERM)
        self.sshd.wait()


class Session:
    """One session, with one question at a time."""

    def __init__(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.revision, self.text = 0, None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer. Raises ``EOFError`` where the session has ended."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        body = json.dumps(question).encode()
        process.stdin.write(struct.pack(">I", len(body)) + body)
        process.stdin.flush()
        head = process.stdout.read(4)
        if len(head) < 4:
            raise EOFError("the session has ended")
        return dict(json.loads(process.stdout.read(struct.unpack(">I", head)[0])))

    def read(self) -> None:
        self.ask({"op": "read"})

    def swap(self, counter: int) -> None:
        """Writes the record anew, on the host's disk."""
        said = self.ask({"op": "swap", "revision": self.revision, "text": self.text, "new": record(counter).to_text()})
        self.revision, self.text = said["revision"], said["text"]

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def record(counter: int) -> Record:
    return Record("node-a", "0123456789abcdef", counter, 7, 3000)


def run(say: Callable[[str], None]) -> list[Row]:
    """The table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8 * max(PAIRS))), hard))
    folder = pathlib.Path(fresh_directory("witness"))
    folder.mkdir(parents=True)
    try:
        rows: list[Row] = []
        for pairs in PAIRS:
            rows += _sessions_that_last(folder / str(pairs), pairs, say)
        rows += _sessions_anew(folder / "anew", say)
        return rows + _etcd(folder / "etcd", say)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _host(folder: pathlib.Path, pairs: int) -> Iterator[Host]:
    folder.mkdir()
    host = Host(folder, pairs)
    try:
        yield host
    finally:
        host.down()


def _sessions_that_last(folder: pathlib.Path, pairs: int, say: Callable[[str], None]) -> list[Row]:
    say(f"{pairs} pairs over sessions that last")
    with _host(folder, pairs) as host:
        before = host.look()
        sessions: list[tuple[Session, Session]] = []
        try:
            # Some at a time: two hundred at once are more than a listener takes.
            touched = time.monotonic()
            for first in range(0, pairs, AT_ONCE):
                numbers = range(first, min(pairs, first + AT_ONCE))
                sessions += [(Session(host.words(n)), Session(host.words(n))) for n in numbers]
                for holder, other in sessions[first:]:
                    holder.swap(1)
                    other.read()
                if time.monotonic() - touched > TOUCH_S:
                    touched = time.monotonic()
                    for session in (one for pair in sessions for one in pair):
                        session.read()
            used = host.look()
            memory = (used.pss_kib - before.pss_kib) / pairs / 1024
            shares, took = [], []
            for _ in range(ROUNDS):
                share, times = _work(host, sessions)
                shares.append(share)
                took += times
        finally:
            for session in (one for pair in sessions for one in pair):
                session.close()
    name = f"{pairs} pairs, sessions that last"
    return [
        (f"{name}: memory a pair", f"{memory:.1f} MiB", "", f"{(used.processes - before.processes) / pairs:.1f} processes"),
        (f"{name}: processor a pair", f"{p50(shares) * 1000:.2f} ms/s", _spread([s * 1000 for s in shares]), ""),
        (f"{name}: a swap", f"{p50(took) * 1000:.1f} ms", f"p95 {percentile(took, 0.95) * 1000:.1f} ms", ""),
    ]


def _work(host: Host, sessions: Sequence[tuple[Session, Session]]) -> tuple[float, list[float]]:
    """A while of what all pairs do: the processor's share that one pair takes, and how long each swap took."""
    took, asked, began = [], 0, time.monotonic()
    before = host.look().cpu_s
    while (now := time.monotonic() - began) < SECONDS:
        # The next pair is due; all of them once a second.
        due = asked / len(sessions)
        if now < due:
            time.sleep(due - now)
        holder, other = sessions[asked % len(sessions)]
        at = time.perf_counter()
        holder.swap(asked + 2)
        took.append(time.perf_counter() - at)
        other.read()
        asked += 1
    return (host.look().cpu_s - before) / asked, took


def _sessions_anew(folder: pathlib.Path, say: Callable[[str], None]) -> list[Row]:
    """The same two questions with a session of their own each: over a connection that is kept, and over a new one."""
    rows: list[Row] = []
    with _host(folder, 1) as host:
        control = f"ControlPath={folder}/control"
        master = subprocess.Popen([*host.words(0, control, "ControlMaster=yes")[:-1], "-N"], stdin=subprocess.DEVNULL)
        try:
            while not (folder / "control").exists():
                time.sleep(0.05)
            for name, more in (("a session for each question", (control,)), ("a connection for each question", ())):
                say(name)
                shares, took = [], []
                for _ in range(ROUNDS):
                    share, times = _ask_anew(host, host.words(0, *more))
                    shares.append(share)
                    took += times
                figures = f"{p50(shares) * 1000:.1f} ms/s"
                rows.append((f"{name}: processor a pair", figures, _spread([s * 1000 for s in shares]), ""))
                late = f"p95 {percentile(took, 0.95) * 1000:.1f} ms"
                rows.append((f"{name}: a swap", f"{p50(took) * 1000:.1f} ms", late, ""))
        finally:
            master.terminate()
            master.wait()
    return rows


def _ask_anew(host: Host, words: Sequence[str]) -> tuple[float, list[float]]:
    before, took = host.look().cpu_s, []
    revision, text = 0, None
    for number in range(ANEW):
        for op in ("swap", "read"):
            at = time.perf_counter()
            session = Session(words)
            if op == "read":
                said = session.ask({"op": "read"})
                revision, text = said["revision"], said["text"]
            else:
                session.revision, session.text = revision, text
                session.swap(number + 1)
                took.append(time.perf_counter() - at)
            session.close()
    # The last child is counted when sshd has waited for it.
    time.sleep(0.5)
    return (host.look().cpu_s - before) / ANEW, took


def _etcd(folder: pathlib.Path, say: Callable[[str], None]) -> list[Row]:
    say(f"{ETCD_PAIRS} pairs at etcd")
    folder.mkdir()
    store = Etcd(folder)
    store.up()
    try:
        member = store.members[0]
        assert member is not None
        idle = _idle_share(member.pid)
        shares, took, begin, end = asyncio.run(_ask_etcd(store, member.pid))
        net = [share - idle / ETCD_PAIRS for share in shares]
    finally:
        store.down()
    name = f"etcd, {ETCD_PAIRS} pairs"
    return [
        (f"{name}: memory", f"{end / 1024:.0f} MiB", f"{begin / 1024:.0f} MiB before", "proportional, the whole member"),
        (f"{name}: processor a pair", f"{p50(net) * 1000:.2f} ms/s", _spread([s * 1000 for s in net]), f"idle {idle:.1%}"),
        (f"{name}: a swap", f"{p50(took) * 1000:.1f} ms", f"p95 {percentile(took, 0.95) * 1000:.1f} ms", ""),
    ]


def _idle_share(pid: int) -> float:
    before = look_at(pid).cpu_s
    time.sleep(5.0)
    return (look_at(pid).cpu_s - before) / 5.0


@dataclass(slots=True)
class EtcdPair:
    """Both nodes' witnesses, and what the holder saw last."""

    holder: EtcdWitness
    other: EtcdWitness
    sight: Sight = NOTHING_THERE


async def _ask_etcd(store: Etcd, pid: int) -> tuple[list[float], list[float], int, int]:
    pairs = []
    for number in range(ETCD_PAIRS):
        access = EtcdAccess(endpoints=store.endpoints, key=f"ha-agent/pair-{number}/votes")
        pairs.append(EtcdPair(EtcdWitness(access), EtcdWitness(access)))
    shares, took = [], []
    begin = look_at(pid).pss_kib
    for _ in range(ROUNDS):
        before, began, asked = look_at(pid).cpu_s, time.monotonic(), 0
        while (now := time.monotonic() - began) < SECONDS:
            await asyncio.sleep(max(0.0, asked / ETCD_PAIRS - now))
            pair = pairs[asked % ETCD_PAIRS]
            at = time.perf_counter()
            _, found = await pair.holder.swap(pair.sight, record(asked + 1), 5.0)
            took.append(time.perf_counter() - at)
            pair.sight = found if found is not None else pair.sight
            await pair.other.read(5.0)
            asked += 1
        shares.append((look_at(pid).cpu_s - before) / asked)
    end = look_at(pid).pss_kib
    for pair in pairs:
        pair.holder.close()
        pair.other.close()
    return shares, took, begin, end


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"
