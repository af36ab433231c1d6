"""The peer's key can do two things over a real sshd, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ha_agent.core.peer_summary import summary_message
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role, VrrpState
from ha_agent.lab.layout import ADDRESSES, fresh_directory
from tests.lab_support import Pair

SSH = (
    "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o HostKeyAlias=node-b "
    "-o UserKnownHostsFile=/etc/ha-agent/ssh/known_hosts -i /etc/ha-agent/ssh/id_ed25519 -o LogLevel=ERROR"
)
TARGET = f"root@{ADDRESSES['node-b']}"


pytestmark = pytest.mark.xdist_group("peer_key")
"""One worker has the pair that all of them look at."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair(fresh_directory("key"))
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
    """The peer's key can do two things.

    Fault: the key asks for a shell, sftp, scp, another rsync directory, option or direction.
    Answer: the forced command refuses.
    Bound: none needed.
    """
    said = from_a(pair, f"{SSH} {TARGET} '{command}' </dev/null")
    assert "this key may do rpc and rsync into staging" in said
    assert "uid=" not in said


def test_forwarding_and_a_terminal_are_refused(pair: Pair) -> None:
    """The peer's key can do two things.

    Fault: the key asks for a terminal or for forwarding either way.
    Answer: sshd refuses.
    Bound: none needed.
    """
    assert "PTY allocation request failed" in from_a(pair, f"{SSH} -tt {TARGET} id </dev/null")
    said = from_a(pair, f"timeout 3 {SSH} -o ExitOnForwardFailure=yes -N -R 7777:127.0.0.1:22 {TARGET}")
    assert "forwarding failed" in said.lower()
    said = from_a(pair, f"timeout 3 {SSH} -W 127.0.0.1:22 {TARGET} </dev/null")
    assert "SSH-2.0" not in said


def test_rsync_reaches_the_staging_directory_alone(pair: Pair) -> None:
    """The peer's key can do two things.

    Fault: rsync to /etc, and rsync that reads.
    Answer: refused; into staging it works.
    Bound: none needed.
    """
    pair.shell("node-a", "mkdir -p /tmp/s; echo hello > /tmp/s/x")
    said = from_a(pair, f"rsync -r --whole-file -e '{SSH}' /tmp/s/ {TARGET}:staging/00112233445566aa/")
    assert "refused" not in said
    assert pair.shell("node-b", "cat /var/lib/ha-agent/staging/00112233445566aa/x").strip() == "hello"
    assert "may do rpc" in from_a(pair, f"rsync -a -e '{SSH}' /tmp/s/ {TARGET}:/etc/cron.d/")
    assert "may do rpc" in from_a(pair, f"rsync -r -e '{SSH}' {TARGET}:/etc/shadow /tmp/stolen")


SHUTDOWN = '\'\\0\\0\\0\\35{"op":"shutdown","id":123456}\''


def test_rubbish_on_the_rpc_channel_ends_that_connection_and_nothing_else(pair: Pair) -> None:
    """Rubbish from somebody who has the key.

    Fault: random bytes, a frame that is not an object, an unknown operation.
    Answer: that connection ends or gets an error; the agent and the link continue.
    Bound: none needed.
    """
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


TALK = r"""
import json, struct, subprocess, sys
frames = json.loads(sys.argv[2])
with subprocess.Popen(sys.argv[1].split() + ["rpc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh:
    for frame in frames:
        body = json.dumps(frame).encode()
        ssh.stdin.write(struct.pack(">I", len(body)) + body)
    ssh.stdin.flush()
    for _ in frames:
        head = ssh.stdout.read(4)
        if len(head) < 4:
            print(json.dumps({"closed": True}))
            break
        print(ssh.stdout.read(struct.unpack(">I", head)[0]).decode())
    ssh.stdin.close()
"""


def talk(pair: Pair, *frames: object) -> list[dict[str, object]]:
    """Sends frames with the peer's key and returns the answers."""
    words = ["timeout", "20", sys.executable, "-c", TALK, f"{SSH} {TARGET}", json.dumps(frames)]
    return [json.loads(line) for line in pair.lab.run("node-a", *words).splitlines()]


GOOD_SHA = hashlib.sha256(b"x").hexdigest()


def transaction(**fields: object) -> dict[str, object]:
    """A transaction that would put one conf, changed by ``fields``."""
    txn: dict[str, object] = {
        "epoch": 1,
        "claimed_by": "node-a",
        "generation": 1,
        "base": "0" * 64,
        "result": "0" * 64,
        "puts": [["evil.conf", 0o644, GOOD_SHA]],
        "deletes": [],
        "contents": {GOOD_SHA: base64.b64encode(b"x").decode()},
        "staging": None,
        "intent": False,
        **fields,
    }
    return {"op": "transaction", "id": 1, "txn": txn}


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"epoch": 0}, "STALE"),
        ({"epoch": 1, "claimed_by": "aaa"}, "STALE"),
        ({}, "NEED_FULL"),
        ({"puts": [["../evil.conf", 0o644, GOOD_SHA]]}, "BAD"),
        ({"puts": [["/etc/cron.d/evil.conf", 0o644, GOOD_SHA]]}, "BAD"),
        ({"puts": [["a/../../evil.conf", 0o644, GOOD_SHA]]}, "BAD"),
        ({"puts": [["evil.conf", 0o4755, GOOD_SHA]]}, "BAD"),
        ({"puts": [["evil.sh", 0o755, GOOD_SHA]]}, "BAD"),
        ({"deletes": ["../../passwd"]}, "BAD"),
        ({"staging": "../../../etc"}, "BAD"),
        ({"contents": {GOOD_SHA: "eQ=="}}, "BAD"),
        ({"epoch": "1"}, "BAD"),
        ({"epoch": -1}, "BAD"),
        ({"puts": "all"}, "BAD"),
    ],
)
def test_a_frame_of_a_stale_epoch_or_with_a_path_that_leads_out_is_refused(
    pair: Pair, fields: dict[str, object], answer: str
) -> None:
    """Design, replication: what a receiver refuses.

    Fault: somebody with the peer's key sends transactions of an old epoch, with paths that lead out, set-uid modes,
    wrong digests, wrong types.
    Answer: STALE, NEED_FULL or BAD; nothing is touched.
    Bound: none needed.
    """
    before = pair.files("node-b")
    (said,) = talk(pair, transaction(**fields))
    assert said.get("answer") == answer, said
    assert pair.files("node-b") == before


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "release", "id": 1, "epoch": "x", "claimed_by": "node-a"},
        {"op": "release", "id": 1},
        {"op": "ping", "id": 1, "version": 1, "node": "stranger"},
        {"op": "hello", "id": 1, "version": 99},
        {"op": "transaction", "id": 1},
        {"op": ["release"], "id": 1},
        {"op": "release", "id": "one"},
    ],
)
def test_a_malformed_request_is_answered_and_leaves_no_traceback(pair: Pair, frame: dict[str, object]) -> None:
    """Malformed frames from somebody who has the key.

    Fault: requests with missing or wrong fields, unknown versions, a stranger's name.
    Answer: an error each; role and epoch stay as they are.
    Bound: none needed.
    """
    epoch = pair.lab.status("node-b")["epoch"]
    (said,) = talk(pair, frame)
    assert "closed" not in said
    with open(pair.lab.paths.log("node-b", "ha-agent"), encoding="utf-8") as file:
        assert "Traceback" not in file.read()
    assert pair.lab.status("node-b")["epoch"] == epoch
    assert pair.role("node-b") == "standby"


SETTINGS: tuple[dict[str, object], ...] = (
    {"takeover.fence_command": ["/bin/sh", "-c", "id >/etc/owned"]},
    {"registry.path": "/etc/ld.so.conf.d"},
    {"link.known_hosts": "/etc/owned"},
    {"vrrp.vip": f"{ADDRESSES['node-b']}/24"},
    {"vrrp.vip": '10.77.0.9/24"\n[takeover]\nfence_command = ["/bin/sh"]\n#'},
    {"vrrp.router_id": 7, "drill.keepalived_start_command": ["/bin/sh"]},
)


@pytest.mark.parametrize("values", SETTINGS)
def test_no_command_file_or_place_of_agent_toml_is_set_or_seen_with_the_peers_key(
    pair: Pair, values: dict[str, object]
) -> None:
    """The rule of `held-peer-settings`.

    Fault: somebody with the peer's key asks in root's name for settings that name a command, a file, a directory, another
    address of the machine, or a second line.
    Answer: refused, the file is as it was; and of commands the key is shown nothing.
    Bound: none needed.
    """
    before = pair.shell("node-b", "sha256sum /etc/ha-agent/agent.toml"), pair.agent_pid("node-b")
    asked = {"op": "settings-apply", "id": 1, "by": "root", "access": "operate", "root": True, "values": values}
    as_member = {**asked, "id": 2, "root": False, "values": {"vrrp.router_id": 7}}
    answers = {answer["id"]: answer for answer in talk(pair, asked, as_member, {"op": "settings", "id": 3})}
    refused, member, seen = (answers[number] for number in (1, 2, 3))
    assert refused.get("outcome") == "refused", refused
    assert "only root may ask" in str(member), member
    assert "systemctl" not in str(seen) and "10.77.0" in str(seen), seen
    assert (pair.shell("node-b", "sha256sum /etc/ha-agent/agent.toml"), pair.agent_pid("node-b")) == before
    assert "owned" not in pair.shell("node-b", "ls /etc /etc/ha-agent")


def memory_kib(pair: Pair, node: str) -> int:
    """Resident memory of the node's agent."""
    return int(pair.shell(node, f"awk '/VmRSS/ {{print $2}}' /proc/{pair.agent_pid(node)}/status"))


@pytest.mark.parametrize("epoch", [2**63 - 1, 2**62 - 1])
def test_an_epoch_that_cannot_be_is_learnt_from_nobody_and_outlives_no_key(pair: Pair, epoch: int) -> None:
    """The rule of `poisoned-epoch`.

    Fault: somebody with the peer's key sends signs of life with an epoch that ends all counting.
    Answer: refused or not believed; replication goes on, and the epoch on the disk is the one of before.
    Bound: none needed.
    """
    before = pair.lab.status("node-b")["epoch"]
    life = summary_message("node-a", Role.STANDBY, VrrpState.BACKUP, Watermark(epoch, "node-a"), 1, "0" * 64)
    (said,) = talk(pair, {"op": "ping", "id": 1, **life})
    assert "closed" not in said
    pair.shell("node-a", f"echo '; {epoch}' >> /etc/supervisor/conf.d/p0.conf")
    assert pair.ha("node-a", "sync").returncode == 0
    assert pair.lab.status("node-a")["epoch"] == pair.lab.status("node-b")["epoch"] == before
    assert json.loads(pair.shell("node-b", "cat /var/lib/ha-agent/state.json"))["epoch"] <= before


def test_a_huge_frame_is_refused_before_it_is_read(pair: Pair) -> None:
    """A frame that announces 2 GiB, and one of deeply nested JSON.

    Fault: a frame is announced that is longer than 16 MiB, or nests 65,536 deep.
    Answer: the connection ends.
    Bound: 8 MiB of memory.
    """
    before = memory_kib(pair, "node-b")
    from_a(pair, f"(printf '\\177\\377\\377\\377'; head -c 30000000 /dev/zero) | timeout 10 {SSH} {TARGET} rpc")
    from_a(pair, f"(printf '\\0\\1\\0\\0'; head -c 65536 /dev/zero | tr '\\0' '[') | timeout 10 {SSH} {TARGET} rpc")
    assert memory_kib(pair, "node-b") - before < 8192
    assert pair.role("node-b") == "standby"


def test_senders_that_stall_in_a_frame_delay_nobody_and_are_limited_in_number(pair: Pair) -> None:
    """Slow senders.

    Fault: twenty sessions send half a frame each and keep the connection.
    Answer: replication continues; of more than eight connections the oldest is closed.
    Bound: eight connections of 16 MiB each.
    """
    stall = f"(printf '\\0\\1\\0\\0half'; sleep 15) | timeout 20 {SSH} {TARGET} rpc"
    with subprocess.Popen(
        pair.lab.words_inside("node-a", ["sh", "-c", f"for n in $(seq 20); do {stall} & done; wait"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        time.sleep(4.0)
        pair.shell("node-a", "echo '; through' >> /etc/supervisor/conf.d/p1.conf")
        pair.await_equal(12)
        agent = pair.agent_pid("node-b")
        pipes = int(pair.shell("node-b", f"ls -l /proc/{agent}/fd | grep -c pipe"))
        assert pipes < 40, "a connection costs two pipes"


def test_staging_takes_regular_files_alone(pair: Pair) -> None:
    """What rsync may bring with the peer's key.

    Fault: symbolic links, hard links, device nodes and pipes in a transfer, and options that would keep them.
    Answer: regular files arrive, nothing else; the options are refused.
    Bound: none needed.
    """
    make = "rm -rf /tmp/odd; mkdir /tmp/odd; cd /tmp/odd; echo 1 > one; ln one two; ln -s /etc/shadow link; mkfifo pipe"
    pair.shell("node-a", f"{make}; mknod null c 1 3; mkdir dir; ln -s /etc dir/out")
    from_a(pair, f"rsync -r --whole-file -e '{SSH}' /tmp/odd/ {TARGET}:staging/00112233445566bb/")
    odd = pair.shell("node-b", "find /var/lib/ha-agent/staging/00112233445566bb ! -type f ! -type d")
    assert odd == ""
    links = pair.shell("node-b", "find /var/lib/ha-agent/staging/00112233445566bb -type f -links +1")
    assert links == ""
    for option in ("-l", "-D", "-H", "--devices", "--delete", "--inplace", "--perms"):
        said = from_a(pair, f"rsync -r --whole-file {option} -e '{SSH}' /tmp/odd/ {TARGET}:staging/00112233445566cc/")
        assert "may do rpc" in said, option
