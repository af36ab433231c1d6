"""The peer over ssh with an operator's own means (agent, key or password), for the time of one command."""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paramiko

CONNECT_S = 15.0
ANSWER_S = 180.0


class RemoteFailed(Exception):
    """The peer cannot be used; the text says why, and what to do."""


def fingerprint(key: bytes) -> str:
    """As ``ssh-keygen -lf`` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


def connect(host: str, port: int, user: str, expected: str | None) -> paramiko.SSHClient:
    """A connection to ``host``. Its host key must be known, be ``expected``, or be confirmed on the terminal.

    Raises ``RemoteFailed``. Nothing is written, no password is kept.
    """
    import paramiko

    class Ask(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            shown = fingerprint(key.asbytes())
            if expected is not None and expected == shown:
                return
            if expected is not None:
                raise RemoteFailed(f"{host} has host key {shown}, not {expected}: is that the right machine?")
            if not sys.stdin.isatty():
                raise RemoteFailed(f"{host} has the unknown host key {shown}; if that is right: --fingerprint {shown}")
            print(f"{host} has the host key {shown} ({key.get_name()}), which is not known here.")
            if (
                input("Is that right? (compare with: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there) [y/N] ").lower()
                != "y"
            ):
                raise RemoteFailed("the host key was not confirmed; nothing was changed")
            # For the next attempt with another password; in memory alone.
            client.get_host_keys().add(hostname, key.get_name(), key)

    client = paramiko.SSHClient()
    client.load_system_host_keys()
    client.set_missing_host_key_policy(Ask())
    password: str | None = None
    for _ in range(3):
        try:
            client.connect(
                host,
                port,
                user,
                password,
                timeout=CONNECT_S,
                auth_timeout=CONNECT_S,
                banner_timeout=CONNECT_S,
                disabled_algorithms=None,
                allow_agent=password is None,
                look_for_keys=password is None,
            )
            return client
        except paramiko.BadHostKeyException as error:
            shown = fingerprint(error.key.asbytes())
            known_as = host if port == 22 else f"[{host}]:{port}"
            raise RemoteFailed(
                f"{host} has another host key than root's known_hosts says: {shown}; where it is a new machine, or its key "
                f"was made again: ssh-keygen -R '{known_as}', and again"
            ) from None
        except (paramiko.AuthenticationException, paramiko.SSHException) as error:
            if isinstance(error, paramiko.SSHException) and "authentication" not in str(error).lower():
                raise RemoteFailed(f"{user}@{host}: {error}") from None
            if not sys.stdin.isatty():
                why = "an agent, a key in ~/.ssh or a terminal for the password is needed"
                raise RemoteFailed(f"{user}@{host}: {error}; {why}") from None
            password = getpass.getpass(f"Password of {user}@{host}: ")
        except OSError as error:
            raise RemoteFailed(f"{host} port {port}: {error.strerror or error}") from None
    raise RemoteFailed(f"{user}@{host}: no password was taken")


def ask_node(client: paramiko.SSHClient, part: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs one part of a setup on the peer. Raises ``RemoteFailed``."""
    words = ["ha-agent", "setup-node", part]
    stdin, stdout, stderr = client.exec_command(shlex.join(words), timeout=ANSWER_S)
    stdin.write(json.dumps(request))
    stdin.channel.shutdown_write()
    text, errors = stdout.read().decode("utf-8", "replace"), stderr.read().decode("utf-8", "replace")
    code = stdout.channel.recv_exit_status()
    if code == 127:
        raise RemoteFailed("ha-agent is not installed on the peer: install the same package there first")
    try:
        answer = json.loads(text)
    except ValueError:
        said = (errors or text).strip()[-300:]
        raise RemoteFailed(f"the peer's `{' '.join(words)}` ended with {code}: {said or 'no answer'}") from None
    if "failure" in answer:
        raise RemoteFailed(f"the peer: {answer['failure']}")
    return dict(answer)
