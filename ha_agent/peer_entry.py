"""The forced command of the peer's key: ``rpc`` and ``rsync`` into the staging directory, and nothing else.

``authorized_keys`` names this program, so whatever the peer asks for arrives here as SSH_ORIGINAL_COMMAND. For ``rpc`` the
session's own descriptors are handed to the daemon, which then talks to sshd without anything in between; this process
only waits for the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import socket
import sys

from ha_agent.adapters.program_path import SAFE_PATH, ProgramMissing, find_program
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.core.places import STAGING, RunPlaces, StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import Exit

RSYNC = re.compile(rf"rsync --server (-[rW]{{1,4}}e\.[A-Za-z]{{0,20}}) \. ({STAGING}/([0-9a-f]{{16}})/)")


def main() -> int:
    """Serves one session of the peer; the exit status is what ssh reports there."""
    parser = argparse.ArgumentParser(prog="ha-agent-peer", description=__doc__)
    parser.add_argument("--config", default=DEFAULT_PATH)
    options = parser.parse_args()
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        if asked == "rpc":
            # Each connection of the peer waits for this: nothing is imported and checked for it but the place of the socket.
            return _serve_rpc(RunPlaces(read_places(options.config)[0]).peer_socket)
        state_dir = _read_state_dir(options.config)
    except (OSError, ValueError) as error:
        return _refuse(f"{options.config}: {reason_of(error, options.config)}")
    match = RSYNC.fullmatch(asked)
    if match:
        return _serve_rsync(state_dir, match)
    return _refuse(f"this key may do rpc and rsync into staging, not {asked!r:.80}", Exit.REFUSED)


def _read_state_dir(path: str) -> str:
    """The state directory of a configuration that is right as a whole. Raises ``OSError`` and ``ValueError``."""
    from ha_agent.adapters.settings_file import load_settings

    return load_settings(path).paths.state_dir


def _refuse(text: str, code: Exit = Exit.FAILED) -> int:
    print(f"ha-agent-peer: {text}", file=sys.stderr)
    return code


def _serve_rpc(path: str) -> int:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
        socket.send_fds(sock, [b"peer"], [0, 1])
    except OSError as error:
        return _refuse(f"the agent is not running on {os.uname().nodename} ({path}: {error.strerror})", Exit.NO_DAEMON)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    with contextlib.suppress(OSError):
        sock.recv(1)
    return Exit.DONE


def _serve_rsync(state_dir: str, match: re.Match[str]) -> int:
    """Becomes rsync; comes back only where that is not possible."""
    from ha_agent.adapters.files import make_dir

    try:
        rsync = find_program("rsync")
        make_dir(os.path.join(StatePlaces(state_dir).staging, match[3]), 0o700)
    except (ProgramMissing, OSError) as error:
        return _refuse(reason_of(error))
    os.chdir(state_dir)
    os.umask(0o077)
    try:
        os.execve(rsync, ["rsync", "--server", match[1], ".", match[2]], {"PATH": SAFE_PATH})
    except OSError as error:
        return _refuse(f"{rsync}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
