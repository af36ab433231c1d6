"""The peer's key can do two things over a real sshd, and nothing else."""

from __future__ import annotations

import os

import pytest

from ha_agent.lab.layout import ADDRESSES, default_root
from tests.lab_support import Pair

SSH = (
    "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o HostKeyAlias=node-b "
    "-o UserKnownHostsFile=/etc/ha-agent/ssh/known_hosts -i /etc/ha-agent/ssh/id_ed25519 -o LogLevel=ERROR"
)
TARGET = f"root@{ADDRESSES['node-b']}"


@pytest.fixture(scope="module")
def pair():  # type: ignore[no-untyped-def]
    made = Pair(os.path.join(default_root(), f"key-{os.getpid()}"))
    made.up()
    yield made
    made.down()


def from_a(pair: Pair, script: str) -> str:
    return pair.shell("node-a", f"{script} 2>&1 || true")


STAGING = "staging/0123456789abcdef/"


@pytest.mark.parametrize(
    "command",
    [
        "id",
        "",
        "rpc; id",
        "rpc x",
        "rsync --server -re.LsfxCIvu . /etc/",
        f"rsync --server --sender -re.LsfxCIvu . {STAGING}",
        "rsync --server -re.LsfxCIvu . staging/../../etc/",
        f"rsync --server -rle.LsfxCIvu . {STAGING}",
        f"rsync --server -re.LsfxCIvu --log-file=/etc/x . {STAGING}",
        "internal-sftp",
        "/usr/lib/openssh/sftp-server",
        "scp -t /etc",
    ],
)
def test_any_other_command_is_refused(pair: Pair, command: str) -> None:
    said = from_a(pair, f"{SSH} {TARGET} '{command}' </dev/null")
    assert "this key may do rpc and rsync into staging" in said
    assert "uid=" not in said


def test_forwarding_and_a_terminal_are_refused(pair: Pair) -> None:
    assert "PTY allocation request failed" in from_a(pair, f"{SSH} -tt {TARGET} id </dev/null")
    said = from_a(pair, f"timeout 3 {SSH} -o ExitOnForwardFailure=yes -N -R 7777:127.0.0.1:22 {TARGET}")
    assert "forwarding failed" in said.lower()
    said = from_a(pair, f"timeout 3 {SSH} -W 127.0.0.1:22 {TARGET} </dev/null")
    assert "SSH-2.0" not in said


def test_rsync_reaches_the_staging_directory_alone(pair: Pair) -> None:
    pair.shell("node-a", "mkdir -p /tmp/s; echo hello > /tmp/s/x")
    said = from_a(pair, f"rsync -r --whole-file -e '{SSH}' /tmp/s/ {TARGET}:staging/00112233445566aa/")
    assert "refused" not in said
    assert pair.shell("node-b", "cat /var/lib/ha-agent/staging/00112233445566aa/x").strip() == "hello"
    assert "may do rpc" in from_a(pair, f"rsync -a -e '{SSH}' /tmp/s/ {TARGET}:/etc/cron.d/")
    assert "may do rpc" in from_a(pair, f"rsync -r -e '{SSH}' {TARGET}:/etc/shadow /tmp/stolen")


SHUTDOWN = '\'\\0\\0\\0\\35{"op":"shutdown","id":123456}\''


def test_rubbish_on_the_rpc_channel_ends_that_connection_and_nothing_else(pair: Pair) -> None:
    from_a(pair, f"head -c 100000 /dev/urandom | timeout 5 {SSH} {TARGET} rpc")
    from_a(pair, f"printf '\\0\\0\\0\\2[]' | timeout 5 {SSH} {TARGET} rpc")
    said = from_a(
        pair, f'printf \'\\0\\0\\0\\35{{"op":"shutdown","id":123456}}\' | timeout 5 {SSH} {TARGET} rpc | tr -d \'\\0\''
    )
    assert "unknown operation" in said
    assert pair.role("node-b") == "standby"
    assert pair.lab.status("node-a")["replication"]["state"] == "in_sync"


def test_sockets_have_the_documented_permissions(pair: Pair) -> None:
    modes = pair.shell("node-a", "stat -c '%a %U %G %n' /run/ha-agent/*.sock").splitlines()
    assert "660 root ha-agent /run/ha-agent/control.sock" in modes
    assert "600 root root /run/ha-agent/peer.sock" in modes
    assert pair.shell("node-a", "stat -c %a /var/lib/ha-agent").strip() == "700"
