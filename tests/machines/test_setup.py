"""``ha-agent setup``: a pair from a server that runs already and a bare machine, again, and back."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import time

from tests.machines.machine import Machine
from tests.machines.pair import PROGRAMS, VIP, MachinePair

FILES = (
    "/etc/ha-agent/agent.toml /root/.ssh/authorized_keys /etc/ha-agent/ssh/known_hosts /etc/supervisor/supervisord.conf "
    "/etc/keepalived/keepalived.conf /etc/systemd/system/supervisor.service.d/ha-agent.conf "
    "/etc/systemd/system/keepalived.service.d/ha-agent.conf /etc/supervisor/local.d/ha-agent-listener.conf"
)


def files(machine: Machine) -> str:
    return machine.run(f"sha256sum {FILES} 2>&1 || true")


def setup(pair: MachinePair, more: str, options: str | None = None) -> subprocess.CompletedProcess[str]:
    words = f"ha-agent setup {pair.options() if options is None else options} {more}"
    return subprocess.run(pair.a.words(words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)


def test_a_server_becomes_the_active_node_without_one_restart(pair: MachinePair) -> None:
    assert set(pair.before) == PROGRAMS and pair.pids(pair.a) == pair.before
    assert "nothing is restarted" in pair.said and "the pair is at work" in pair.said
    assert f"{VIP}/24 dev host0 was here before keepalived" in pair.said
    assert re.findall(rf"inet ({VIP}/\d+)", pair.a.run("ip -4 addr show dev host0")) == [f"{VIP}/32"], "keepalived's alone"
    assert pair.a.read("/etc/supervisor/conf.d/s2.ini") == pair.b.read("/etc/supervisor/conf.d/s2.ini")
    assert "+files = /run/ha-agent/active/*.conf" in pair.said, "each change was shown as a diff"
    for machine in (pair.a, pair.b):
        assert "RUNNING" in machine.run("supervisorctl status ha-agent-listener")


def test_setup_once_more_changes_nothing(pair: MachinePair) -> None:
    before = files(pair.a), files(pair.b)
    agent = pair.a.run("systemctl show -p MainPID --value ha-agent keepalived")
    done = setup(pair, "")
    assert "every file is as it must be" in done.stdout and "the pair is at work" in done.stdout, done
    assert (files(pair.a), files(pair.b)) == before and pair.pids(pair.a) == pair.before
    assert pair.a.run("systemctl show -p MainPID --value ha-agent keepalived") == agent


def test_what_an_operator_has_set_since_stays(pair: MachinePair) -> None:
    pair.a.run("sed -i 's/^#level = .*/level = \"warning\"/' /etc/ha-agent/agent.toml; ha-agent config check")
    before = files(pair.a)
    setup(pair, "--yes")
    assert files(pair.a) == before and 'level = "warning"' in pair.a.read("/etc/ha-agent/agent.toml")


def test_bad_words_are_one_line_and_change_nothing(pair: MachinePair) -> None:
    before = files(pair.a), files(pair.b)
    table = {
        f"--peer {pair.b.address} --vip {VIP}/24 --fingerprint SHA256:wrong": "is that the right machine",
        f"--peer {pair.b.address} --vip {VIP}/24": "--fingerprint SHA256:",
        f"--peer 10.78.0.99 --vip {VIP}/24": "10.78.0.99 port 22",
        "--peer nowhere.invalid --vip 192.0.2.1/24": "nowhere.invalid",
        pair.options().replace(f"{VIP}/24", "192.0.2.1/24"): "has no address in the network of 192.0.2.1/24",
        pair.options().replace(f"{VIP}/24", "nonsense"): "nonsense",
        f"--vip {VIP}/24": "name or address is needed",
    }
    for options, said in table.items():
        done = setup(pair, "--yes", options)
        assert done.returncode in (1, 2) and said in done.stderr, f"{options}: {done}"
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    assert (files(pair.a), files(pair.b)) == before


def test_undo_puts_everything_back_and_stops_no_program_and_setup_can_begin_anew(pair: MachinePair) -> None:
    pair.a.run("chmod 600 /etc/supervisor/supervisord.conf; echo '; edited' >> /etc/supervisor/conf.d/s2.ini; ha-agent sync")
    said = pair.a.run(f"ha-agent setup {pair.options()} --undo --yes 2>&1")
    assert "put back as before" in said
    assert "ATTENTION: the peer still has the replicated confs" in said and "redis.conf" in said
    assert "; edited" in pair.a.read("/var/lib/ha-agent/undone/s2.ini"), "an edit made since is not lost"
    pair.a.run("cp /var/lib/ha-agent/undone/s2.ini /srv/programs/s2.ini; sed -i '/; edited/d' /srv/programs/s2.ini")
    for machine in (pair.a, pair.b):
        assert machine.run("systemctl is-active ha-agent keepalived || true").split() == ["inactive", "inactive"]
        assert "ha-agent-listener" not in machine.run("supervisorctl status || true")
        assert "files = /etc/supervisor/conf.d/*.conf" in machine.read("/etc/supervisor/supervisord.conf")
        assert "before-ha-agent" not in machine.run("ls /etc/supervisor /etc/keepalived /etc/ha-agent /root/.ssh")
    assert "ha-agent-peer" not in pair.b.read("/root/.ssh/authorized_keys")
    assert pair.pids(pair.a) == pair.before, "what ran runs on"
    again = pair.a.run(f"ip addr show dev host0 | grep -c {VIP} || true")
    assert again.strip() == "0", "the virtual address went with keepalived"
    shown = setup(pair, "--dry-run")
    assert shown.returncode == 0 and "nothing was changed" in shown.stdout and "+++ node-b:/etc/keepalived" in shown.stdout
    assert pair.a.run("systemctl is-active ha-agent || true").strip() == "inactive"
    assert setup(pair, "").returncode == 3, "nobody said yes"
    set_up_by_hand(pair)
    pair.await_healthy(pair.a, 30.0)
    assert pair.pids(pair.a) == pair.before


def set_up_by_hand(pair: MachinePair) -> None:
    """As somebody at a terminal does it, who has no key for the other node and mistypes the password once."""
    pair.b.run(
        "echo root:correct-horse | chpasswd; echo PermitRootLogin yes > /etc/ssh/sshd_config.d/x.conf; systemctl reload ssh"
    )
    pair.a.run("mv /root/.ssh/id_ed25519 /root/.ssh/aside")
    answers = [
        ("The other node's name or address: ", pair.b.address),
        ("Is that right?", "y"),
        ("Password of root@", "wrong"),
        ("Password of root@", "correct-horse"),
        ("The virtual address with its prefix length", f"{VIP}/24"),
        ("Do all this on both nodes?", "y"),
        ("the pair is at work", ""),
    ]
    ours, theirs = pty.openpty()
    session = subprocess.Popen(
        ["setsid", "-c", "-w", *pair.a.words("ha-agent setup")], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = ""
    try:
        for question, answer in answers:
            deadline = time.monotonic() + 60
            while question not in shown:
                assert time.monotonic() < deadline, f"{question!r} did not come: {shown[-2000:]!r}"
                if select.select([ours], [], [], 0.2)[0]:
                    shown += os.read(ours, 65536).decode("utf-8", "replace")
            shown = shown.split(question, 1)[1]
            if answer:
                os.write(ours, f"{answer}\n".encode())
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass
        assert session.wait(60) == 0
    finally:
        session.kill()
        session.wait()
        os.close(ours)
    left = pair.a.run("grep -rl correct-horse /root /etc /var/lib/ha-agent /run/ha-agent 2>/dev/null || true")
    assert left == "", "nothing secret stays behind"
    pair.a.run("mv /root/.ssh/aside /root/.ssh/id_ed25519")


def test_pair_exchanges_the_keys_alone(pair: MachinePair) -> None:
    shown = pair.b.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    words = f"ha-agent pair {pair.b.address} --fingerprint {shown}"
    assert "know each other" in pair.a.run(words), "setup has done it already"
    for machine in (pair.a, pair.b):
        machine.run("sed -i '/ha-agent-peer/d' /root/.ssh/authorized_keys; : > /etc/ha-agent/ssh/known_hosts")
    assert "nothing was changed" in pair.a.run(f"{words} --dry-run")
    pair.a.run(f"{words} --yes")
    for machine in (pair.a, pair.b):
        machine.run("systemctl restart ha-agent")
    pair.await_healthy(pair.a, 30.0)
    assert pair.pids(pair.a) == pair.before


def test_a_second_virtual_address_comes_in_by_setup_once_more(pair: MachinePair) -> None:
    second = "10.78.0.101"
    done = setup(pair, f"--vip {second}/24 --yes")
    assert done.returncode == 0 and f"active with {VIP}/24, {second}/24" in done.stdout, done
    pair.await_healthy(pair.a, 30.0)
    assert pair.pids(pair.a) == pair.before, "no program was restarted"
    here = pair.a.run("ip -4 -o addr show dev host0")
    assert f"{VIP}/32" in here and f"{second}/32" in here
    assert second not in pair.b.run("ip -4 -o addr show dev host0")
    once_more = setup(pair, "")
    assert "every file is as it must be" in once_more.stdout, "the first one is asked for, and both stay"
    for machine in (pair.b, pair.a):
        machine.run(f"""sed -i 's|^vips = .*|vip = "{VIP}/24"|; /^#vip = /d' /etc/ha-agent/agent.toml""")
        machine.run("ha-agent keepalived write; systemctl reload keepalived; systemctl restart ha-agent")
    pair.await_healthy(pair.a, 30.0)
    assert second not in pair.a.run("ip -4 -o addr show dev host0") and pair.pids(pair.a) == pair.before


def test_a_pair_with_two_networks_loses_one_without_a_move(pair: MachinePair) -> None:
    """The second network is a cable from one machine to the other."""
    path = "10.79.0.0/24"
    ends = [str(machine.leader()) for machine in (pair.a, pair.b)]
    words = ["ip", "link", "add", "host1", "netns", ends[0], "type", "veth", "peer", "name", "host1", "netns", ends[1]]
    subprocess.run(words, check=True)
    for number, machine in enumerate((pair.a, pair.b), 11):
        machine.run(f"ip link set host1 up; ip addr add 10.79.0.{number}/24 dev host1")
    refused = setup(pair, f"--path {path} --yes")
    assert refused.returncode == 1 and "a switchover" in refused.stderr, refused
    pair.a.run(f"ha-agent setup {pair.options()} --undo --yes")
    done = setup(pair, f"--path {path} --yes")
    assert done.returncode == 0, done
    pair.await_healthy(pair.a, 30.0)
    before = pair.pids(pair.a)
    assert "2 paths to node-b" in pair.a.run("ha-agent doctor --all || true")
    # What goes to the other node by the first network goes to nobody from now on.
    for machine, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        machine.run(f"ip neigh replace {peer.address} lladdr 02:00:00:00:00:99 dev host0 nud permanent")
    time.sleep(6.0)
    pair.await_healthy(pair.a, 10.0)
    assert pair.pids(pair.a) == before and pair.status(pair.b)["vrrp_state"] == "BACKUP"
    assert {p["address"]: p["link"] for p in pair.status(pair.a)["paths"]} == {pair.b.address: False, "10.79.0.12": True}
    for machine, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        machine.run(f"ip neigh del {peer.address} dev host0")
    pair.a.run("ip link set host1 down")
    time.sleep(6.0)
    pair.await_healthy(pair.a, 10.0)
    assert pair.pids(pair.a) == before
    pair.a.run("ip link set host1 up")
    pair.a.run(f"ha-agent setup {pair.options()} --undo --yes; ha-agent setup {pair.options()} --yes")
    pair.await_healthy(pair.a, 30.0)
