"""The keeper of the deadline under systemd: supervisor.service is killed as a whole and comes back without the registry."""

from __future__ import annotations

from tests.machines.machine import await_true
from tests.machines.pair import MachinePair

KILL = "/sys/fs/cgroup/system.slice/supervisor.service/cgroup.kill"

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
    before = set(pair.a.run(f"cat {KILL.replace('kill', 'procs')}").split())
    assert len(before) > 2
    agent = pair.a.run("systemctl show -p MainPID --value ha-agent").strip()
    # Its own watchdog would have systemd start it again meanwhile.
    pair.a.run("mkdir -p /run/systemd/system/ha-agent.service.d")
    drop_in = "/run/systemd/system/ha-agent.service.d/test.conf"
    pair.a.run(f"printf '[Service]\\nWatchdogSec=0\\n' > {drop_in}; systemctl daemon-reload")
    pair.a.run(f"kill -STOP {agent}")
    said = pair.a.run(ARM.format(after_s=1.0, kill=KILL))
    assert "word='armed'" in said and "is_locked=True" in said and "is_realtime=True" in said, said
    await_true("all of them are gone", lambda: not before & set(pair.a.run("ls /proc").split()))
    await_true("supervisord is back", lambda: "RUNNING" in pair.a.run("supervisorctl status here || true"))
    assert pair.a.run("supervisorctl status | grep -v here || true").strip() == "", "nothing of the registry"
    assert "killed" in pair.a.run("journalctl -u ha-agent-keeper -o cat")
    pair.a.run("systemctl stop ha-agent-keeper; rm -rf /run/ha-agent/active.lapsed.* /run/ha-agent/keeper.*")
    pair.a.run("rm -r /run/systemd/system/ha-agent.service.d /etc/supervisor/local.d/here.conf; systemctl daemon-reload")
    pair.a.run(f"kill -CONT {agent}; supervisorctl update")
    pair.make_active(pair.a)
    pair.await_healthy(pair.a)
