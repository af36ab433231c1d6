"""The control socket's client: how every command talks to the daemon of its own node. Blocking, for command lines."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from ha_agent.core.frames import FrameDecoder, FrameError, Message, encode_frame
from ha_agent.core.places import RunPlaces

BEGINS_S = 3.0
"""How long an agent that runs is waited for: one that reads its settings anew has no socket for less than a second."""


class NoDaemon(Exception):
    """The daemon of this node does not answer; the text says what was tried and what to do."""


class CommandFailed(Exception):
    """The daemon refused or could not do it; the text is its own."""


class NotAllowed(CommandFailed):
    """The user may not do it; the text says what it would take."""


def ask_daemon(
    run_dir: str, message: Message, timeout_s: float, progress: Callable[[Message], None] | None = None
) -> Message:
    """Sends one request to the daemon and returns its answer.

    Raises ``NoDaemon``, ``CommandFailed``, ``NotAllowed``, and ``TimeoutError`` after ``timeout_s`` without any sign of it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(timeout_s)
        _connect(sock, run_dir)
        who = {"sudo_user": os.environ["SUDO_USER"]} if "SUDO_USER" in os.environ else {}
        try:
            sock.sendall(encode_frame({**message, **who, "id": 1}))
        except ConnectionError:
            raise NoDaemon("the agent closed the connection; see its log (journalctl -u ha-agent)") from None
        return _await_answer(sock, progress)


def _connect(sock: socket.socket, run_dir: str) -> None:
    """Connects to the socket that this user may use, the one for operators first, and waits for an agent that begins again.

    Raises ``NoDaemon``, ``TimeoutError``, and ``NotAllowed`` where there is no such socket.
    """
    until = time.monotonic() + min(sock.gettimeout() or BEGINS_S, BEGINS_S)
    while True:
        try:
            _connect_once(sock, RunPlaces(run_dir))
            return
        except NoDaemon:
            if time.monotonic() >= until or not _agent_runs():
                raise
        time.sleep(0.05)


def _agent_runs() -> bool:
    # Whoever is answered looks at no process: a command starts sooner without.
    from ha_agent.adapters.procs import find_agent

    return find_agent() is not None


def _connect_once(sock: socket.socket, places: RunPlaces) -> None:
    for path in (places.control_socket, places.read_socket):
        try:
            sock.connect(path)
            return
        except PermissionError:
            continue
        except TimeoutError:
            raise
        except OSError as error:
            raise NoDaemon(_explain(path, error)) from None
    raise NotAllowed(
        f"no permission for {places.control_socket}: run as root or as a member of group ha-agent, or of group "
        "ha-agent-read to look only"
    )


def _explain(path: str, error: OSError) -> str:
    """Why nobody answers at ``path``, and what to do. An agent that runs makes a missing socket again by itself."""
    # Whoever is answered looks at no process: a command starts sooner without.
    from ha_agent.adapters.procs import find_agent

    pid = find_agent()
    if pid is None:
        return f"the agent is not running on this node ({path}: {error.strerror}); systemctl start ha-agent"
    return (
        f"the agent runs on this node (pid {pid}), but {path} is not its socket ({error.strerror}): it makes it again "
        "within 5 s, try again then; its log (journalctl -u ha-agent) says what keeps it from that, as a full /run does"
    )


def _await_answer(sock: socket.socket, progress: Callable[[Message], None] | None) -> Message:
    decoder = FrameDecoder()
    while True:
        try:
            data = sock.recv(262144)
        except ConnectionError:
            data = b""
        if not data:
            raise NoDaemon("the agent closed the connection; see its log (journalctl -u ha-agent)")
        try:
            messages = decoder.feed(data)
        except FrameError as error:
            raise CommandFailed(f"the agent's answer cannot be read: {error}") from None
        for message in messages:
            if "progress" in message:
                if progress:
                    progress(message["progress"])
            elif message.get("refused"):
                raise NotAllowed(str(message["error"]))
            elif "error" in message:
                raise CommandFailed(str(message["error"]))
            else:
                return message
