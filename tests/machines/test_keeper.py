"""The keeper of the deadline under systemd: supervisor.service is killed as a whole and comes back without the registry."""

from __future__ import annotations

from tests.machines.machine import await_true
from tests.machines.pair import PROGRAMS, MachinePair

CAP_IPC_LOCK = 14
"""capabilities(7). A container has not got it: there nothing can be locked."""

FIND = """\
python3 - $(cat /run/supervisord.pid) <<'END'
import sys
from ha_agent.adapters.cgroups import group_directory
print(group_directory(int(sys.argv[1])))
END
"""

ARM = """\
python3 - <<'END'
import asyncio
from ha_agent.adapters.keeper import KeeperClient
from ha_agent.keeper import read_clock
async def main():
    client = KeeperClient("/run/ha-agent")
    await client.arm(read_clock() + {after_s}, "{kill}")
    print(await client.read_state())
asyncio.run(main())
END
"""


def test_at_the_deadline_everything_of_supervisord_is_killed_and_only_local_programs_come_back(pair: MachinePair) -> None:
    """The agent is stopped, as one that hangs: the keeper needs nothing of it."""
    pair.make_active(pair.a)
    pair.a.write("/etc/supervisor/local.d/here.conf", "[program:here]\ncommand=/bin/sleep 7654301\n")
    pair.a.run("supervisorctl update")
    pair.a.run("systemctl start ha-agent-keeper")
    await_true("it listens", lambda: "keeper.sock" in pair.a.run("ls /run/ha-agent"))
    group = pair.a.run(FIND).strip()
    assert group.endswith("/system.slice/supervisor.service")
    before = set(pair.a.run(f"cat {group}/cgroup.procs").split())
    assert len(before) > 2
    agent = pair.a.run("systemctl show -p MainPID --value ha-agent").strip()
    # systemd notices after WatchdogSec=8s and starts another one; the deadline is before that.
    pair.a.run(f"kill -STOP {agent}")
    said = pair.a.run(ARM.format(after_s=1.0, kill=f"{group}/cgroup.kill"))
    assert "word='armed'" in said and "is_realtime=True" in said, said
    keeper = pair.a.run("systemctl show -p MainPID --value ha-agent-keeper").strip()
    may_lock = int(pair.a.run(f"grep CapEff /proc/{keeper}/status").split()[1], 16) >> CAP_IPC_LOCK & 1
    limit = pair.a.run(f"grep 'Max locked memory' /proc/{keeper}/limits")
    assert "is_locked=True" in said or not may_lock, (said, limit)
    await_true("all of them are gone", lambda: not before & set(pair.a.run("ls /proc").split()))
    await_true("supervisord is back", lambda: "RUNNING" in pair.a.run("supervisorctl status here || true"))
    left = {line.split()[0] for line in pair.a.run("supervisorctl status || true").splitlines()}
    assert not left & PROGRAMS, "nothing of the registry"
    assert "killed" in pair.a.run("journalctl -u ha-agent-keeper -o cat")
    pair.a.run("systemctl stop ha-agent-keeper; rm -rf /run/ha-agent/active.lapsed.* /run/ha-agent/keeper.*")
    pair.a.run(f"rm /etc/supervisor/local.d/here.conf; kill -CONT {agent} || true; supervisorctl update")
    pair.make_active(pair.a)
    pair.await_healthy(pair.a)
