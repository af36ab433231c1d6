"""Does the faults of a schedule to a lab, and lifts them again."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import time
from collections.abc import Callable

from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import ADDRESSES, MEMBERS, PREFIX, VIP, WITNESS, other
from ha_agent.lab.probe import Probe
from tests.chaos.schedule import Fault

TRACK = "/run/ha-agent/track"
HAND, OTHER_HAND = (f"/etc/supervisor/conf.d/by-hand{number}.conf.parked" for number in ("", "-2"))
"""Parked confs, which only the faults below edit."""

OVERRUN = f"""
import os
queue = int(open("/proc/sys/fs/inotify/max_queued_events").read())
for path in ("{HAND}", "{OTHER_HAND}"):
    open(path, "a").close()
for number in range(queue // 2 + 500):
    for path in ("{HAND}", "{OTHER_HAND}"):
        os.chmod(path, 0o600 if number % 2 else 0o644)
open("{HAND}", "a").write("; this event is lost\\n")
"""
"""More events than the kernel keeps, and then one more edit."""

RUN = "/run/ha-agent"
NOTES = ("role.json", "groups", "supervisords", "life", "notify/*", "active/*", "track", "*.sock", "*")
FOLDERS = ("", "/notify", "/active", "/ssh")

REUSED = """
import os, sys
wanted = int(sys.argv[1])
def wish(): open("/proc/sys/kernel/ns_last_pid", "w").write(str(wanted - 1))
for _ in range(50):
    wish()
    pid = os.fork()
    if pid == 0:
        if os.getpid() != wanted: os._exit(0)
        os.setsid()
        for number in range(3): os.dup2(os.open("/dev/null", os.O_RDWR), number)
        os.execv("/bin/sh", ["sh", "-c", "sleep 99991 & sleep 99992"])
    if pid == wanted: os._exit(0)
os._exit(1)
"""
"""A stranger's session with the number that a supervisord had."""


class Injector:
    """One method pair a kind: ``begin`` and ``end``. A node that is off by now has nothing done to it."""

    def __init__(self, lab: Lab, probe: Probe) -> None:
        self._lab, self._probe = lab, probe
        self._settings: dict[str, bytes] = {}
        """The good agent.toml of each node that has had a broken one."""
        self._flapping: dict[Fault, subprocess.Popen[bytes]] = {}

    def _settings_path(self, node: str) -> str:
        return os.path.join(self._lab.paths.disk(node, "etc-ha-agent"), "agent.toml")

    def correct_settings(self, node: str) -> None:
        """Puts the good agent.toml back. Idempotent. Raises ``OSError``."""
        if node in self._settings:
            with open(self._settings_path(node), "wb") as file:
                file.write(self._settings[node])

    def begin(self, fault: Fault, rng: random.Random) -> bool:
        """Does ``fault``; says whether it could be done."""
        return self._try(getattr(self, "_begin_" + fault.kind.replace("-", "_")), fault, rng)

    def end(self, fault: Fault) -> bool:
        """Lifts ``fault``; says whether there was something to lift."""
        return self._try(getattr(self, "_end_" + fault.kind.replace("-", "_"), lambda *_: None), fault, random.Random(0))

    def _try(self, do: Callable[[Fault, random.Random], object], fault: Fault, rng: random.Random) -> bool:
        try:
            do(fault, rng)
        except (LabFailed, OSError, ValueError, subprocess.TimeoutExpired):
            return False
        return True

    def _sh(self, fault: Fault, script: str) -> None:
        self._lab.run(fault.node, "sh", "-c", script, timeout_s=20.0)

    def _begin_keepalived_kill(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -9 keepalived")

    def _end_keepalived_kill(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "start", "keepalived")

    def _begin_keepalived_stop(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "stop", "keepalived")

    _end_keepalived_stop = _end_keepalived_kill

    def _begin_keepalived_hang(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -STOP keepalived")

    def _end_keepalived_hang(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -CONT keepalived")

    def _begin_agent_kill(self, fault: Fault, rng: random.Random) -> None:
        for _ in range(rng.randint(1, 3)):
            self._sh(fault, "pkill -9 -f 'ha_agent daemo[n]'")
            time.sleep(rng.uniform(0.05, 0.6))

    def _end_agent_kill(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "start", "ha-agent")

    def _begin_agent_hang(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -STOP -f 'ha_agent daemo[n]'")

    def _end_agent_hang(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -CONT -f 'ha_agent daemo[n]' || true")
        self._lab.unit(fault.node, "start", "ha-agent")

    def _begin_agent_broken(self, fault: Fault, _: random.Random) -> None:
        path = self._settings_path(fault.node)
        if fault.node not in self._settings:
            with open(path, "rb") as file:
                self._settings[fault.node] = file.read()
        os.truncate(path, 10)
        self._sh(fault, "pkill -9 -f 'ha_agent daemo[n]'")

    def _end_agent_broken(self, fault: Fault, _: random.Random) -> None:
        self.correct_settings(fault.node)
        self._lab.unit(fault.node, "start", "ha-agent")

    def _begin_supervisord_kill(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "supervisord", 9)

    def _begin_supervisord_stop(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "stop", "supervisord")

    def _end_supervisord_stop(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "start", "supervisord")

    def _begin_supervisord_hang(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "supervisord", 19)

    def _end_supervisord_hang(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "supervisord", 18)

    def _begin_power(self, fault: Fault, _: random.Random) -> None:
        self._lab.power_off(fault.node)

    def _end_power(self, fault: Fault, _: random.Random) -> None:
        self._lab.power_on(fault.node)
        self._probe.watch_node(fault.node, self._lab.init_pid(fault.node))

    def _begin_cable(self, fault: Fault, _: random.Random) -> None:
        self._lab.cut(fault.node)

    def _end_cable(self, fault: Fault, _: random.Random) -> None:
        self._lab.heal(fault.node)

    def _begin_block_vrrp(self, fault: Fault, _: random.Random) -> None:
        self._lab.block(fault.node, "vrrp")

    def _end_block_vrrp(self, fault: Fault, _: random.Random) -> None:
        self._lab.unblock(fault.node, "vrrp")

    def _begin_block_tcp(self, fault: Fault, _: random.Random) -> None:
        self._lab.block(fault.node, "tcp")

    def _end_block_tcp(self, fault: Fault, _: random.Random) -> None:
        self._lab.unblock(fault.node, "tcp")

    def _begin_block_ip(self, fault: Fault, _: random.Random) -> None:
        self._lab.block(fault.node, "ip")

    def _end_block_ip(self, fault: Fault, _: random.Random) -> None:
        self._lab.unblock(fault.node, "ip")

    def _begin_block_all(self, fault: Fault, _: random.Random) -> None:
        self._lab.block(fault.node, "all")

    def _end_block_all(self, fault: Fault, _: random.Random) -> None:
        self._lab.unblock(fault.node, "all")

    def _begin_freeze(self, fault: Fault, _: random.Random) -> None:
        self._lab.freeze(fault.node)

    def _end_freeze(self, fault: Fault, _: random.Random) -> None:
        self._lab.thaw(fault.node)

    def _begin_pause(self, fault: Fault, _: random.Random) -> None:
        self._lab.isolate(fault.node)
        self._lab.freeze(fault.node)

    def _end_pause(self, fault: Fault, _: random.Random) -> None:
        self._lab.rejoin(fault.node)
        self._lab.thaw(fault.node)

    def _begin_disk_full(self, fault: Fault, _: random.Random) -> None:
        path = os.path.join(self._lab.paths.node(fault.node), "filler")
        with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
            while True:
                file.write(bytes(1024))

    def _end_disk_full(self, fault: Fault, _: random.Random) -> None:
        os.unlink(os.path.join(self._lab.paths.node(fault.node), "filler"))

    def _begin_vip_delete(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, f"ip addr del {VIP}/32 dev eth0")

    def _begin_vip_on_both(self, fault: Fault, rng: random.Random) -> None:
        """Nothing lifts it: the agent takes it off a standby."""
        self._sh(fault, f"ip addr add {VIP}/{rng.choice((PREFIX, 31))} dev eth0")

    def _begin_address_gone_and_back(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, f"ip addr del {ADDRESSES[fault.node]}/{PREFIX} dev eth0")

    def _end_address_gone_and_back(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, f"ip addr replace {ADDRESSES[fault.node]}/{PREFIX} dev eth0")

    def _begin_loss_both(self, fault: Fault, rng: random.Random) -> None:
        self._lab.block(fault.node, "loss", rng.randint(20, 60))

    def _end_loss_both(self, fault: Fault, _: random.Random) -> None:
        self._lab.unblock(fault.node, "loss")

    def _begin_flap(self, fault: Fault, rng: random.Random) -> None:
        """Role changes faster than they can be followed, for as long as the fault lasts."""
        steps = "; ".join(f"echo {n % 2} > {TRACK}; sleep {rng.uniform(0.02, 0.5):.2f}" for n in range(1, 61))
        lasts = f"{fault.ends_s - fault.begins_s:.2f}"
        words = self._lab.words_inside(fault.node, ["timeout", lasts, "sh", "-c", steps])
        self._flapping[fault] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _end_flap(self, fault: Fault, _: random.Random) -> None:
        self._flapping.pop(fault).wait(10.0)
        self._sh(fault, f"echo 0 > {TRACK}")

    def _begin_standby_edit(self, fault: Fault, rng: random.Random) -> None:
        """A hand edits, or deletes, whatever role the node has: on a standby that is put right."""
        self._sh(fault, rng.choice((f"echo '; {rng.random()}' >> {HAND}", f"rm -f {HAND}", f"rm -f {OTHER_HAND}")))

    def _begin_overflow(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -STOP -f 'ha_agent daemo[n]'")
        self._lab.run(fault.node, "/usr/bin/python3", "-c", OVERRUN, timeout_s=20.0)

    _end_overflow = _end_agent_hang

    def _begin_notes_lost(self, fault: Fault, rng: random.Random) -> None:
        self._sh(fault, f"rm -rf {RUN}/{rng.choice(NOTES)}")

    def _begin_folder_vanished(self, fault: Fault, rng: random.Random) -> None:
        """It goes at once, whatever is put into it meanwhile; now and then something else is in its place."""
        path = RUN + rng.choice(FOLDERS)
        replaced = f"; touch {path}" if rng.random() < 0.3 else ""
        self._sh(fault, f"mv {path} /run/vanished-{rng.getrandbits(32)}{replaced}; rm -rf /run/vanished-*")

    def _begin_run_full(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "mount -o remount,size=2M /run; dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null || true")

    def _end_run_full(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "rm -f /run/filler")

    def _begin_socket_gone(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "rm /run/supervisor.sock")

    def _end_socket_gone(self, fault: Fault, _: random.Random) -> None:
        """As status says; a release has done so already."""
        self._sh(fault, "test -S /run/supervisor.sock || kill $(cat /run/supervisord.pid)")
        self._lab.unit(fault.node, "start", "supervisord")

    def _begin_reload(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "supervisorctl reload")

    def _begin_session_reused(self, fault: Fault, _: random.Random) -> None:
        old = self._lab.run(fault.node, "cat", "/run/supervisord.pid").strip()
        self._lab.unit(fault.node, "kill", "supervisord", 9)
        time.sleep(1.0)
        self._lab.run(fault.node, "/usr/bin/python3", "-c", REUSED, old, timeout_s=20.0)

    def _end_session_reused(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, "pkill -9 -f '^sleep 9999[12]' || true")

    def _begin_ssh_reset(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "restart", "sshd")

    def _begin_switchover(self, fault: Fault, rng: random.Random) -> None:
        """The command, whatever state the pair is in, often killed before it is done."""
        limit_s = rng.uniform(0.2, 4.0)
        command = "ha-agent switchover --yes --force --timeout 3s"
        self._sh(fault, f"timeout -s KILL {limit_s:.2f} {command} >/dev/null 2>&1 || true")

    def _begin_hand_over(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, f"echo 1 > {TRACK}")

    def _end_hand_over(self, fault: Fault, _: random.Random) -> None:
        self._sh(fault, f"echo 0 > {TRACK}")

    # ---- of a pair with a witness ------------------------------------------------------------------------------

    def _sever(self, *ways: tuple[str, str]) -> None:
        for source, target in ways:
            self._lab.sever(source, target)

    def _join(self, *ways: tuple[str, str]) -> None:
        for source, target in ways:
            self._lab.join(source, target)

    def _begin_cut_peer(self, fault: Fault, _: random.Random) -> None:
        self._sever((fault.node, other(fault.node)), (other(fault.node), fault.node))

    def _end_cut_peer(self, fault: Fault, _: random.Random) -> None:
        self._join((fault.node, other(fault.node)), (other(fault.node), fault.node))

    def _begin_cut_peer_one_way(self, fault: Fault, _: random.Random) -> None:
        self._sever((fault.node, other(fault.node)))

    _end_cut_peer_one_way = _end_cut_peer

    def _begin_cut_witness(self, fault: Fault, _: random.Random) -> None:
        self._sever((fault.node, WITNESS), (WITNESS, fault.node))

    def _end_cut_witness(self, fault: Fault, _: random.Random) -> None:
        self._join((fault.node, WITNESS), (WITNESS, fault.node))

    def _begin_cut_witness_one_way(self, fault: Fault, rng: random.Random) -> None:
        self._sever(rng.choice(((fault.node, WITNESS), (WITNESS, fault.node))))

    _end_cut_witness_one_way = _end_cut_witness

    def _begin_cut_off(self, fault: Fault, _: random.Random) -> None:
        """The node reaches neither the peer nor the witness."""
        self._sever(*((fault.node, m) for m in MEMBERS if m != fault.node))
        self._sever(*((m, fault.node) for m in MEMBERS if m != fault.node))

    def _end_cut_off(self, fault: Fault, _: random.Random) -> None:
        self.join_all()

    def _begin_cut_all(self, _fault: Fault, _: random.Random) -> None:
        self._sever(*itertools.permutations(MEMBERS, 2))

    _end_cut_all = _end_cut_off

    def join_all(self) -> None:
        """Lifts every cut between two of the three."""
        self._join(*itertools.permutations(MEMBERS, 2))

    def _begin_witness_kill(self, _fault: Fault, _: random.Random) -> None:
        script = "cd /proc; for p in [0-9]*; do [ $p -eq 1 ] || [ $p -eq $$ ] || kill -KILL $p || true; done"
        self._lab.run(WITNESS, "sh", "-c", script, timeout_s=20.0)

    def _begin_witness_freeze(self, _fault: Fault, _: random.Random) -> None:
        self._lab.freeze(WITNESS)

    def _end_witness_freeze(self, _fault: Fault, _: random.Random) -> None:
        self._lab.thaw(WITNESS)

    def _begin_witness_power(self, _fault: Fault, _: random.Random) -> None:
        self._lab.power_off(WITNESS)

    def _end_witness_power(self, _fault: Fault, _: random.Random) -> None:
        self._lab.power_on(WITNESS)

    def _begin_keeper_kill(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "keeper", 9)

    def _begin_keeper_hang(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "keeper", 19)

    def _end_keeper_hang(self, fault: Fault, _: random.Random) -> None:
        self._lab.unit(fault.node, "kill", "keeper", 18)
