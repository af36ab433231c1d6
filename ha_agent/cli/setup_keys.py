"""One node's part of new keys for the agents: made beside the old one, let in, tried, put to use, and the old one forgotten.

At no moment is the link refused: what the other node lets in always holds the key that is in use here and the one that will
be. Each part can be done again, and what a cut-off run has left is taken up by the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import subprocess
import tempfile
from typing import Any

from ha_agent.adapters.files import make_dir, read_or_none, write_atomic
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.ssh import NEW_KEY, ssh_options
from ha_agent.core.setup_plan import add_peer_key, is_public_key, trust_also, trusted_keys
from ha_agent.core.words import Exit

AUTHORIZED = "/root/.ssh/authorized_keys"
ASKED = "ha-agent-pair-asks-for-what-is-forbidden"
"""A restricted key answers that it may not."""
SSH_S = 20.0


class KeysFailed(Exception):
    """This node's part cannot be done; the text says what."""


def run_keys_part(request: dict[str, Any]) -> dict[str, Any]:
    """Does one step of it; "look" and "try" change nothing. Raises ``KeysFailed``, ``OSError`` and ``SettingsError``."""
    steps = {"look": _look, "make": _make, "trust": _trust, "try": _try, "use": _use, "forget": _forget}
    return steps[str(request["step"])](request)


def _look(_request: dict[str, Any]) -> dict[str, Any]:
    """``key``: the public half of what is in use, "" without one; ``trusted``: which keys may reach the forced command."""
    settings = load_settings(DEFAULT_PATH)
    if settings.peer.ssh_user != "root":
        raise KeysFailed(f"[peer] ssh_user is {settings.peer.ssh_user}: whose authorized_keys that is, is not known here")
    key = settings.link.key_file
    return {
        "name": settings.node.name,
        "peer": settings.peer.name,
        "key": _public_half(key) if os.path.exists(key) else "",
        "trusted": trusted_keys(_read_authorized()),
    }


def _make(_request: dict[str, Any]) -> dict[str, Any]:
    """The public half of the key that is to come, made where a run before has not made it."""
    new = load_settings(DEFAULT_PATH).link.key_file + NEW_KEY
    if not os.path.exists(new):
        make_dir(os.path.dirname(new), 0o700)
        with tempfile.TemporaryDirectory(prefix=".making.", dir=os.path.dirname(new)) as folder:
            made = os.path.join(folder, "key")
            comment = f"ha-agent@{os.uname().nodename}"
            _must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", made)
            os.rename(made, new)
    return {"key": _public_half(new)}


def _trust(request: dict[str, Any]) -> dict[str, Any]:
    """Lets the peer's new key in beside those that are."""
    _write_authorized(trust_also(_read_authorized(), _public_key(request)))
    return {}


def _try(request: dict[str, Any]) -> dict[str, Any]:
    """Whether the peer takes the new key, or the one in use (``present``), for the forced command alone; ssh's own words."""
    settings = load_settings(DEFAULT_PATH)
    key = settings.link.key_file + ("" if request.get("present") else NEW_KEY)
    link = dataclasses.replace(settings.link, key_file=key)
    with tempfile.TemporaryDirectory(prefix="ha-agent-pair.") as folder:
        words = ["ssh", *ssh_options(link, settings.peer, os.path.join(folder, "control"))]
        done = _run(*words, f"{settings.peer.ssh_user}@{settings.peer.address}", ASKED)
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return {"taken": done.returncode == Exit.REFUSED and "rpc and rsync" in done.stderr, "said": said}


def _use(_request: dict[str, Any]) -> dict[str, Any]:
    """Puts the new key in the place of the one in use, and leaves it where it was, too, for connections under way."""
    key = load_settings(DEFAULT_PATH).link.key_file
    made = read_or_none(key + NEW_KEY)
    if made is not None:
        # ssh offers what KEY.pub says and signs with KEY: without the public file it reads both from the private one.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{key}.pub")
        write_atomic(key, made)
    write_atomic(f"{key}.pub", f"{_public_half(key)}\n".encode(), 0o644)
    return {}


def _forget(request: dict[str, Any]) -> dict[str, Any]:
    """Lets no key in but the peer's present one, and ends sessions that were opened with another: the agent begins again."""
    _write_authorized(add_peer_key(_read_authorized(), _public_key(request)))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(load_settings(DEFAULT_PATH).link.key_file + NEW_KEY)
    if _run("systemctl", "is-active", "ha-agent").stdout.strip() == "active":
        _must("systemctl", "reload", "ha-agent")
    return {}


def _public_key(request: dict[str, Any]) -> str:
    key = str(request["key"])
    if not is_public_key(key):
        raise KeysFailed(f"this is not a public key: {key[:60]!r}")
    return key


def _public_half(key: str) -> str:
    return _must("ssh-keygen", "-y", "-f", key).strip()


def _read_authorized() -> str:
    return (read_or_none(AUTHORIZED) or b"").decode("utf-8", "surrogateescape")


def _write_authorized(text: str) -> None:
    make_dir(os.path.dirname(AUTHORIZED), 0o700)
    mode = stat.S_IMODE(os.stat(AUTHORIZED).st_mode) if os.path.exists(AUTHORIZED) else 0o600
    write_atomic(AUTHORIZED, text.encode("utf-8", "surrogateescape"), mode)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SSH_S)
    except FileNotFoundError:
        raise KeysFailed(f"{words[0]} is missing on this node") from None
    except subprocess.TimeoutExpired:
        raise KeysFailed(f"{words[0]}: no end within {SSH_S:g} s") from None


def _must(*words: str) -> str:
    done = _run(*words)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise KeysFailed(f"{' '.join(words)} ended with {done.returncode}: {said}")
    return done.stdout
