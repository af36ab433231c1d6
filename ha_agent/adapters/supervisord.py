"""supervisord's XML-RPC interface on its unix socket. Every call blocks and has a deadline; call it in a thread."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import socket
import struct
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.cgroups import read_members, usual_directory
from ha_agent.adapters.procs import age_s, find_main, is_supervisord, read_pid_file, start_ticks
from ha_agent.core.main_conf import UnusableConf, parse_main_conf, read_door
from ha_agent.core.reasons import reason_of
from ha_agent.core.supervisor_words import FaultCode, full_name, without_values


class SupervisordDown(Exception):
    """supervisord did not answer; the text says how (no socket, refused, no answer in time)."""


class ShuttingDown(SupervisordDown):
    """supervisord is stopping its programs, in order to end or to start again."""


class RereadRefused(Exception):
    """supervisord refused its configuration as a whole; the text is its own."""


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process as supervisord sees it."""

    group: str
    name: str
    state: str
    pid: int
    started: int
    spawn_error: str
    exit_status: int

    @property
    def full_name(self) -> str:
        """The name that supervisorctl shows."""
        return full_name(self.group, self.name)


def _info(row: dict[str, Any]) -> ProcessInfo:
    return ProcessInfo(
        row["group"], row["name"], row["statename"], row["pid"], row["start"], row["spawnerr"], row["exitstatus"]
    )


def _result(raw: Any) -> Any:
    """One result of a batch."""
    if isinstance(raw, dict) and "faultCode" in raw:
        return Fault(raw["faultCode"], without_values(raw["faultString"]))
    return raw


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Fault:
    """What one call of a batch came back with instead of a result."""

    code: int
    text: str


class Supervisord:
    """A client. Holds no connection between calls, so it survives every restart of supervisord.

    ``config``: supervisord's main conf, which is read for user name and password once supervisord asks for these; None:
    they are not known.
    """

    def __init__(self, socket_path: str, timeout_s: float, config: str | None = None) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._config = config
        self._login: str | None = None

    def _post(self, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """The HTTP status and the body of one answer. Raises ``SupervisordDown``."""
        connection = _UnixConnection(self._path, timeout_s)
        headers = {"Content-Type": "text/xml", **({"Authorization": self._login} if self._login else {})}
        try:
            connection.request("POST", "/RPC2", body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            said = reason_of(error, self._path)
            raise SupervisordDown(f"{self._path}: {said}") from None
        finally:
            connection.close()

    def _call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        # Names may be in any script; http.client would send a text as Latin-1.
        body = xmlrpc.client.dumps(params, method).encode("utf-8")
        status, answer = self._post(body, timeout_s or self._timeout_s)
        if status == http.client.UNAUTHORIZED and self._config is not None:
            self._login = read_login(self._config)
            status, answer = self._post(body, timeout_s or self._timeout_s)
        if status == http.client.UNAUTHORIZED:
            raise SupervisordDown(f"{self._path}: it wants a user name and a password, and refuses those of its main conf")
        if status != http.client.OK:
            raise SupervisordDown(f"{self._path}: HTTP status {status}")
        try:
            return xmlrpc.client.loads(answer)[0][0]
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == FaultCode.SHUTDOWN_STATE:
                raise ShuttingDown("it is shutting down") from None
            raise

    def is_up(self, timeout_s: float = 2.0) -> bool:
        """Whether supervisord answers within ``timeout_s``; a supervisord that is shutting down does."""
        try:
            self._call("supervisor.getState", timeout_s=timeout_s)
        except ShuttingDown:
            return True
        except SupervisordDown:
            return False
        return True

    def works(self, timeout_s: float = 2.0) -> bool:
        """Whether supervisord answers within ``timeout_s`` and is not shutting down, for its end or for a reload."""
        try:
            self._call("supervisor.getState", timeout_s=timeout_s)
        except SupervisordDown:
            return False
        return True

    def read_pid(self) -> int:
        """supervisord's process id. Raises ``SupervisordDown``."""
        return int(self._call("supervisor.getPID"))

    def read_processes(self) -> list[ProcessInfo]:
        """All processes that supervisord knows. Raises ``SupervisordDown``."""
        return [_info(row) for row in self._call("supervisor.getAllProcessInfo")]

    def read_some(self, wanted: Sequence[tuple[str, str]]) -> list[ProcessInfo]:
        """Those of the processes ``wanted``, as (group, name), that supervisord knows. Raises ``SupervisordDown``.

        It needs a third of a millisecond to describe one.
        """
        rows = self.batch([("getProcessInfo", [f"{group}:{name}"]) for group, name in wanted])
        return [_info(row) for row in rows if not isinstance(row, Fault)]

    def call(self, method: str, params: Sequence[Any]) -> Any:
        """Any call of supervisord's own namespace; what it refuses is a ``Fault``. Raises ``SupervisordDown``."""
        try:
            return self._call(f"supervisor.{method}", *params)
        except xmlrpc.client.Fault as fault:
            return Fault(fault.faultCode, without_values(fault.faultString))

    def reread(self) -> tuple[list[str], list[str], list[str]]:
        """Has supervisord read its configuration again: groups added, changed, removed against what it runs.

        Raises ``RereadRefused`` where it is refused as a whole, and ``SupervisordDown``.
        """
        try:
            added, changed, removed = self._call("supervisor.reloadConfig")[0]
        except xmlrpc.client.Fault as fault:
            raise RereadRefused(without_values(fault.faultString)) from None
        return added, changed, removed

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], timeout_s: float | None = None) -> list[Any]:
        """Makes all ``calls`` in one request; a failed one has a ``Fault`` as its result. Raises ``SupervisordDown``."""
        if not calls:
            return []
        wire = [{"methodName": "supervisor." + name, "params": list(params)} for name, params in calls]
        results = self._call("system.multicall", wire, timeout_s=timeout_s)
        found = [_result(result) for result in results]
        if any(isinstance(r, Fault) and r.code == FaultCode.SHUTDOWN_STATE for r in found):
            raise ShuttingDown("it is shutting down")
        return found


def read_login(config: str) -> str | None:
    """The Authorization header that the supervisord with the main conf ``config`` wants on its unix socket.

    None where that names no user or cannot be read.
    """
    with contextlib.suppress(OSError, UnusableConf), open(config, encoding="utf-8", errors="surrogateescape") as file:
        door = read_door(parse_main_conf(file.read()), config)
        if door.username:
            return "Basic " + base64.b64encode(os.fsencode(f"{door.username}:{door.password}")).decode("ascii")
    return None


def pid_file_of(config: str) -> str | None:
    """The file that the supervisord with the main conf ``config`` keeps its process id in; None where that does not say."""
    with contextlib.suppress(OSError, UnusableConf), open(config, encoding="utf-8", errors="surrogateescape") as file:
        path = parse_main_conf(file.read()).get("supervisord", "pidfile", fallback=None)
        return os.path.join("/", path.replace("%(here)s", os.path.dirname(config))) if path else None
    return None


class SupervisordFinder:
    """Finds supervisord's process, whether its socket is there or not: a socket can be deleted, the process goes on.

    ``silent_s``: a supervisord younger than that has not made its socket yet. ``hint``: the process that the registry was
    loaded into, by id and start time; to be set by who knows.
    """

    def __init__(self, socket_path: str, config: str, silent_s: float) -> None:
        self._socket_path, self._config, self._silent_s = socket_path, config, silent_s
        self.hint: tuple[int, int] | None = None

    def find(self) -> int | None:
        """Process id; None where there is none. By its socket, its pid file, ``hint``, or its service's control group."""
        found = find_supervisord(self._socket_path, self._config)
        if found is None and (deaf := self._find_deaf()) is not None and age_s(deaf) >= self._silent_s:
            found = deaf
        return found

    def _find_deaf(self) -> int | None:
        path = pid_file_of(self._config)
        pid = read_pid_file(path) if path else None
        if pid is not None and is_supervisord(pid):
            return pid
        if self.hint is not None and start_ticks(self.hint[0]) == self.hint[1]:
            return self.hint[0]
        directory = usual_directory()
        members = read_members(directory) if directory else []
        return find_main(members)


class SocketAge:
    """Tells one life of supervisord from the next, which may be the same process: each makes its socket anew."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path

    def read(self) -> tuple[str, float] | None:
        """A word for the socket that is there, and when it was made (wall clock seconds); None where there is none."""
        try:
            info = os.stat(self._socket_path)
        except OSError:
            return None
        return f"{info.st_dev}-{info.st_ino}-{info.st_mtime_ns}", info.st_mtime


def find_supervisord(socket_path: str, config: str | None = None) -> int | None:
    """Process id of the supervisord behind ``socket_path``, also of one that hangs; None where there is none.

    The kernel notes who listens (SO_PEERCRED, unix(7)) and accepts connections for a process that does not. A supervisord
    that put itself into the background has listened before that under another id: then it is asked, with the login of
    its main conf ``config``.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            # A full queue of connections means that nobody takes them: do not wait for it.
            sock.settimeout(0.05)
            sock.connect(socket_path)
            pid = int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    except OSError:
        return None
    if os.path.exists(f"/proc/{pid}"):
        return pid
    try:
        return Supervisord(socket_path, 0.3, config).read_pid()
    except SupervisordDown:
        return None


def python_of(pid: int) -> str | None:
    """The interpreter that the supervisord with ``pid`` was started with; None where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            first = os.fsdecode(file.read().split(b"\0", 1)[0])
    except OSError:
        return None
    if "python" not in os.path.basename(first):
        return None
    if first.startswith("/"):
        return first
    # A script that begins with "#!/usr/bin/env python3" has its interpreter from PATH; /proc/PID/exe would lose a venv.
    return shutil.which(first, path=environment_of(pid).get("PATH", os.defpath)) if "/" not in first else None


def directory_of(pid: int) -> str:
    """The directory in which a process runs; "/", where systemd starts services, if /proc does not tell."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return "/"


def sockets_of(pid: int) -> str:
    """Which of a process's descriptors 1 and 2 are sockets, such as "12"; empty where /proc does not tell."""
    found = ""
    for number in ("1", "2"):
        try:
            found += number if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:") else ""
        except OSError:
            continue
    return found


def environment_of(pid: int) -> dict[str, str]:
    """The environment that ``%(ENV_x)s`` refers to in supervisord's confs; empty where /proc does not tell."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            raw = file.read()
    except OSError:
        return {}
    pairs = (os.fsdecode(p).split("=", 1) for p in raw.split(b"\0") if b"=" in p)
    return dict(pairs)
