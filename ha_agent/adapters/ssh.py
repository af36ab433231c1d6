"""The connection to the peer: one OpenSSH process, its frames, and rsync over the same connection (ControlMaster)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Mapping

from ha_agent.adapters.files import make_dir, remove_note
from ha_agent.adapters.oom import make_ordinary
from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError, Requests
from ha_agent.adapters.runner import SAFE_PATH, ProgramMissing, find_program, run_program
from ha_agent.adapters.streams import FrameStream
from ha_agent.core.frames import Message
from ha_agent.core.link_causes import find_cause
from ha_agent.core.paths import Paths
from ha_agent.core.places import STAGING, RunPlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import LinkSettings, PeerSettings

log = logging.getLogger(__name__)

FIRST_RETRY_S = 0.2

REFUSALS, REFUSED_PAUSE_S = 2, 6.0
"""From the second refusal of the key on there is this pause at least. sshd from OpenSSH 9.8 on (Debian 13) holds five
seconds against the host for each, and lets nobody of it in when more than fifteen have come together (sshd_config(5),
PerSourcePenalties: authfail, min)."""

NEW_KEY = ".new"
"""Ends the name of the key that is to take the place of the present one (``ha-agent pair --rotate``)."""


class TransferFailed(Exception):
    """rsync did not bring the contents to the peer; the text is its own."""


def ssh_options(link: LinkSettings, peer: PeerSettings, control_path: str) -> list[str]:
    """Options common to the master and to rsync's session. Nothing of the user's own ssh configuration is read."""
    options = {
        "BatchMode": "yes",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": str(max(1, round(link.connect_timeout_s))),
        "ControlPath": control_path,
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": peer.name,
        "IdentitiesOnly": "yes",
        "IdentityFile": link.key_file,
        "LogLevel": "ERROR",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": link.known_hosts,
    }
    words = ["-F", "/dev/null", "-T", "-p", str(peer.ssh_port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    # ssh reads a key's public half when it starts and the private one when it signs: a connection that begins just before
    # the key is replaced has two that do not fit, and goes on with this one.
    return [*words, "-o", f"IdentityFile={link.key_file}{NEW_KEY}"]


class PeerLink:
    """Keeps one connection up, with growing pauses between attempts, and asks the peer over it.

    ``on_up`` is awaited for every new connection before ``is_up`` turns true; ``on_change`` is called whenever it turns.
    ``command``: what is asked of the forced command there. ``control``: the name of the connection's control socket.
    """

    def __init__(
        self,
        link: LinkSettings,
        peer: PeerSettings,
        run_dir: str,
        on_up: Callable[[PeerLink], Awaitable[None]],
        on_change: Callable[[], None],
        command: str = "rpc",
        control: str = "peer",
    ) -> None:
        self._settings, self._peer, self._command = link, peer, command
        self._ssh_dir = RunPlaces(run_dir).ssh_dir
        self._control_path = os.path.join(self._ssh_dir, control)
        self._on_up, self._on_change = on_up, on_change
        self.paths = Paths(peer.paths)
        """Where the peer is to be found."""
        self.path = self.paths.pick()
        """The address that the connection goes to, or that is tried."""
        self.on_doubt: list[Callable[[], None]] = []
        """Called when there is reason to think that something does not come through."""
        self.on_frame: list[Callable[[], None]] = []
        """Called with whatever comes from the peer over this connection."""
        self._requests = Requests()
        self._stream: FrameStream | None = None
        self._closed = asyncio.Event()
        self._nudged = asyncio.Event()
        self._changed = asyncio.Event()
        self.is_up = False
        self.problem = "not connected yet"
        self.since_wall = 0.0
        self._lost_at = -math.inf

    async def run(self, wall: Callable[[], float]) -> None:
        """Connects again and again until cancelled. One report a change of state, none for every failed attempt."""
        pause, refusals = FIRST_RETRY_S, 0
        loop = asyncio.get_running_loop()
        self.since_wall, self._lost_at = wall(), loop.time()
        while True:
            self.path = self.paths.pick()
            problem = await self._connect_once(wall)
            self.paths.note_failure(self.path)
            if self.is_up:
                self.is_up, pause = False, FIRST_RETRY_S
                self.since_wall, self._lost_at = wall(), loop.time()
                log.warning("link to %s is down: %s", self._peer.name, problem)
            elif problem != self.problem:
                log.warning("no link to %s: %s", self._peer.name, problem)
            self.problem = problem
            self._tell_change()
            refusals = refusals + 1 if find_cause(problem).key == "key-refused" else 0
            if refusals >= REFUSALS:
                # No nudge shortens this.
                await asyncio.sleep(REFUSED_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._nudged.wait()
            self._nudged.clear()
            # All paths are tried before a pause grows.
            growth = 1.6 if self.paths.have_all_failed else 1.0
            pause = min(pause * growth, self._settings.retry_max_s)

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_change()

    async def wait_change(self, limit_s: float) -> None:
        """Waits until the link goes up or down, or an attempt has failed, ``limit_s`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._changed.wait()

    async def wait_back(self, limit_s: float) -> bool:
        """Whether the link is up, after a wait where it may be back in a moment.

        An agent that reads its settings anew, this one or the peer's, takes the link away for less than a second. A link
        that has been down for ``limit_s`` or longer is not waited for.
        """
        loop = asyncio.get_running_loop()
        while not self.is_up and (left := self._lost_at + limit_s - loop.time()) > 0:
            await self.wait_change(left)
        return self.is_up

    async def _connect_once(self, wall: Callable[[], float]) -> str:
        try:
            process, stream = self._start_ssh()
        except (OSError, ProgramMissing) as error:
            return reason_of(error)
        self._stream = stream
        try:
            try:
                await self._on_up(self)
            except (Disconnected, RemoteError, TimeoutError) as error:
                stream.close(str(error) or "no answer")
            else:
                self.is_up, self.problem, self.since_wall = True, "", wall()
                self.paths.note_connection(self.path)
                log.info("link to %s is up%s", self._peer.name, f" over {self.path}" if self.paths.are_several else "")
                self._tell_change()
                await self._closed.wait()
            return await self._reason(process)
        finally:
            stream.close("the agent lets go of the link")
            self._stream = None
            if process.poll() is None:
                process.kill()
            await asyncio.to_thread(process.wait)
            if process.stderr:
                process.stderr.close()

    def _start_ssh(self) -> tuple[subprocess.Popen[bytes], FrameStream]:
        """Starts ssh as the control master. Not through asyncio: the frames need nothing but the two descriptors."""
        make_dir(self._ssh_dir, 0o700)
        remove_note(self._control_path)
        words = [find_program("ssh"), *ssh_options(self._settings, self._peer, self._control_path)]
        words += ["-o", "ControlMaster=yes", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        words += [f"{self._peer.ssh_user}@{self.path}", self._command]
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": SAFE_PATH},
            start_new_session=True,
        )
        make_ordinary(process.pid)
        if process.stdin is None or process.stdout is None:
            raise OSError("ssh was started without pipes")
        self._closed.clear()
        read_fd, write_fd = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdin.close()
        process.stdout.close()
        return process, FrameStream(read_fd, write_fd, self._received, self._lost)

    def _received(self, _stream: FrameStream, message: Message) -> None:
        for hear in self.on_frame:
            hear()
        self._requests.take(message)

    def _lost(self, _stream: FrameStream, reason: str) -> None:
        self.problem = reason
        self._requests.drop(reason)
        self._closed.set()

    async def _reason(self, process: subprocess.Popen[bytes]) -> str:
        """Why the connection ended: ssh's own words where it said any."""
        await asyncio.sleep(0)
        if process.poll() is None:
            process.kill()
        if process.stderr is None:
            return self.problem
        said = (await asyncio.to_thread(process.stderr.read)).decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else self.problem

    def nudge(self) -> None:
        """Ends the pause before the next attempt: there is reason to think that the peer is there.

        Where the link is up its path is doubted instead.
        """
        self.end_pause()
        for doubt in self.on_doubt:
            doubt()

    def end_pause(self) -> None:
        """Ends the pause before the next attempt, if there is one."""
        if not self.is_up:
            self._nudged.set()

    def give_up(self, reason: str) -> None:
        """Closes the connection; ``run`` opens a new one."""
        if self._stream is not None:
            self._stream.close(reason)

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        """Asks the peer. Raises ``Disconnected``, ``RemoteError`` and ``TimeoutError``."""
        if self._stream is None:
            raise Disconnected(self.problem)
        return await self._requests.ask(self._stream, message, timeout_s, progress)

    async def transfer(self, outgoing: str, contents: Iterable[tuple[str, bytes]], timeout_s: float) -> str:
        """Brings ``contents`` (sha256 and bytes) into the peer's staging directory by rsync over this connection.

        Returns the staging identifier. Raises ``TransferFailed``. The files' names are their digests, so no name of
        the registry ever is an argument or a path in rsync.
        """
        identifier = secrets.token_hex(8)
        source = os.path.join(outgoing, identifier)
        make_dir(source, 0o700)
        try:
            await asyncio.to_thread(_write_objects, source, contents)
            await self._rsync(source, identifier, "-r", timeout_s)
        except OSError as error:
            raise TransferFailed(reason_of(error)) from None
        finally:
            await asyncio.to_thread(shutil.rmtree, source, True)
        return identifier

    async def transfer_files(self, outgoing: str, identifier: str, files: Mapping[str, str], timeout_s: float) -> None:
        """Brings ``files`` (paths by their sha256) into the peer's staging directory ``identifier``, beside what is there.

        They are read where they lie: a directory of links with the digests as names goes out, whose targets are sent (rsync
        -L, which the other end is not told of). A file that has changed since arrives with another digest than its name
        says, which the receiver sees. Raises ``TransferFailed``.
        """
        source = os.path.join(outgoing, f"{identifier}-{secrets.token_hex(4)}")
        make_dir(source, 0o700)
        try:
            for sha, path in files.items():
                os.symlink(path, os.path.join(source, sha))
            await self._rsync(source, identifier, "-rL", timeout_s)
        except OSError as error:
            raise TransferFailed(reason_of(error)) from None
        finally:
            await asyncio.to_thread(shutil.rmtree, source, True)

    async def _rsync(self, source: str, identifier: str, options: str, timeout_s: float) -> None:
        """Sends what is in ``source``. Raises ``TransferFailed`` and ``OSError``."""
        ssh = " ".join(["ssh", *ssh_options(self._settings, self._peer, self._control_path), "-o", "ControlMaster=no"])
        # An IPv6 address stands in brackets before rsync's colon (rsync(1)).
        host = f"[{self.path}]" if ":" in self.path else self.path
        target = f"{self._peer.ssh_user}@{host}:{STAGING}/{identifier}/"
        try:
            words = [find_program("rsync"), options, "--whole-file", "-e", ssh, source + "/", target]
            outcome = await run_program(words, timeout_s)
        except ProgramMissing as error:
            raise TransferFailed(reason_of(error)) from None
        if outcome.code != 0:
            said = outcome.errors.strip().splitlines()
            raise TransferFailed(f"rsync ended with {outcome.code}: {said[-1] if said else 'no message'}")


def _write_objects(directory: str, contents: Iterable[tuple[str, bytes]]) -> None:
    for sha, data in contents:
        with open(os.path.join(directory, sha), "wb") as file:
            file.write(data)
