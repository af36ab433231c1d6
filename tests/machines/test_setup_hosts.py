"""``ha-agent setup`` on servers as they grew: what ran goes on, nothing else starts, or it is refused before a write."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.machines.machine import Machine, await_true, two_machines
from tests.machines.pair import MachinePair

VIP, WEB = "10.78.0.100", "10.78.0.101"
SLEEPER = "[program:{name}]\ncommand=/bin/sleep infinity\n"
TREES = "/etc/supervisor /etc/supervisord.conf /etc/supervisord.d /etc/keepalived /etc/ha-agent /root/.ssh/authorized_keys"
INSTANCE = """\
vrrp_instance {name} {{
    state {state}
    interface host0
    virtual_router_id {router_id}
    priority {priority}
    advert_int 1
    authentication {{
        auth_type PASS
        auth_pass 1111
    }}
    virtual_ipaddress {{
        {vip}/24
    }}
{notify}}}
"""
NOTIFY = """\
    notify_master "/usr/local/bin/role MASTER"
    notify_backup "/usr/local/bin/role BACKUP"
    notify_stop "/usr/local/bin/role STOP"
"""
ROLE = "#!/bin/sh\necho $1 >> /root/role.log\n[ $1 != MASTER ] || supervisorctl start all\n"
RED_HAT_UNIT = """\
[Unit]
Description=Process Monitoring and Control Daemon
After=network.target
[Service]
Type=forking
ExecStart=/usr/bin/supervisord -c /etc/supervisord.conf
[Install]
WantedBy=multi-user.target
"""
RPC = "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
MAIN = """\
[unix_http_server]
file={socket}
chmod=0700
{login}
[supervisord]
logfile=/var/log/supervisor/supervisord.log
pidfile=/run/supervisord.pid
childlogdir=/var/log/supervisor
{rpc}[supervisorctl]
serverurl=unix://{socket}
{login}
[include]
files = {files}
"""


def main_conf(files: str, socket: str = "/run/supervisor.sock", login: str = "") -> str:
    return MAIN.format(files=files, socket=socket, login=login, rpc=RPC)


class Hosts(MachinePair):
    """Two machines with the package and no pair; each test makes a server of them, and leaves them bare again."""

    def prepare(self) -> None:
        for machine in self.both:
            machine.make_disk()
            machine.boot()
        for machine in self.both:
            self.install_package(machine)
            machine.run("systemctl disable --now redis-server 2>&1; systemctl restart ssh supervisor")
            machine.run("cp -a /etc/supervisor/supervisord.conf /root/main.orig")
            machine.write("/usr/local/bin/role", ROLE)
            machine.run("chmod 755 /usr/local/bin/role")
        self.a.run("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
        self.b.run("mkdir -p -m 700 /root/.ssh")
        self.b.write("/root/.ssh/authorized_keys", self.a.read("/root/.ssh/id_ed25519.pub"))

    def reset(self) -> None:
        self.setup("--undo")
        for machine in self.both:
            machine.run(
                "systemctl stop ha-agent keepalived supervisord supervisor || true; pkill -x supervisord || true; "
                "pkill -f '[s]leep infinity' || true; systemctl disable supervisord || true; systemctl enable supervisor; "
                # keepalived of Debian 13 does not start without a file of its package that lies beside its configuration.
                "find /etc/keepalived -mindepth 1 ! -name '*.config-opts' ! -name '*.sample' -delete; "
                "rm -rf /etc/systemd/system/supervisord.service /etc/supervisord.* /root/role.log /srv/* "
                "/var/lib/ha-agent/* /run/ha-agent/* /etc/ha-agent/ssh /etc/supervisor/conf.d /etc/supervisor/local.d; "
                "mkdir -p /etc/supervisor/conf.d; cp -a /root/main.orig /etc/supervisor/supervisord.conf; "
                f"ip addr del {VIP}/24 dev host0 || true; ip addr del {VIP}/32 dev host0 || true; systemctl daemon-reload; "
                "systemctl reset-failed || true; systemctl start supervisor"
            )

    def setup(self, more: str = "", vip: str = f"--vip {VIP}/24") -> subprocess.CompletedProcess[str]:
        options = re.sub(r"--vip \S+", vip, self.options())
        words = self.a.words(f"ha-agent setup {options} --yes {more} 2>&1")
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)

    def started(self, programs: set[str]) -> dict[str, int]:
        await_true(f"{sorted(programs)} run", lambda: set(self.pids(self.a)) == programs)
        return self.pids(self.a)

    def await_pair(self, pids: dict[str, int], limit_s: float = 60.0) -> None:
        """Waits for the pair; the programs on the active node are the same processes, and none is on the other one."""

        def look() -> bool:
            own, peer = self.status(self.a), self.status(self.b)
            return own.get("role") == "active" and peer.get("role") == "standby" and own["replication"]["state"] == "in_sync"

        await_true("active and standby", look, limit_s, 0.25)
        found = self.pids(self.a), self.pids(self.b)
        assert found == (pids, {}), self.a.run("ha-agent history -n 60; journalctl -q --no-pager -n 60 -u keepalived")

    def refused(self, said: str, more: str = "", vip: str = f"--vip {VIP}/24") -> None:
        """It is refused, with these words, and no file of either machine has changed."""
        before = [self.trees(machine) for machine in self.both]
        pids = self.pids(self.a)
        done = self.setup(more, vip)
        assert done.returncode == 1 and said in done.stdout, done.stdout
        assert [self.trees(machine) for machine in self.both] == before and self.pids(self.a) == pids
        assert self.a.run("systemctl is-active ha-agent || true").strip() == "inactive"

    def trees(self, machine: Machine) -> str:
        return machine.run(f"find {TREES} ! -type d -exec stat -c '%n %a %Y %s %N' {{}} + 2>/dev/null | sort || true")

    def addresses(self, machine: Machine, address: str) -> list[str]:
        return re.findall(rf"inet ({address}/\d+)", machine.run("ip -4 addr show dev host0"))


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with two_machines() as machines:
        made = Hosts(*machines)
        made.prepare()
        yield made


@pytest.fixture(autouse=True)
def bare(hosts: Hosts) -> Iterator[None]:
    yield
    hosts.reset()


def write_confs(hosts: Hosts, confs: dict[str, str]) -> None:
    for path, name in confs.items():
        hosts.a.write(path, SLEEPER.format(name=name))
    hosts.a.run("supervisorctl update")


def test_links_backups_and_stopped_programs(hosts: Hosts) -> None:
    folder = "/etc/supervisor/conf.d"
    for name in ("one", "two"):
        hosts.a.write(f"/srv/{name}/supervisor.conf", SLEEPER.format(name=name))
        hosts.a.run(f"ln -s /srv/{name}/supervisor.conf {folder}/{name}.conf")
    confs = {f"{folder}/app.conf": "app", f"{folder}/2023-backup/app.conf": "app", f"{folder}/old.ini": "old"}
    write_confs(hosts, {**confs, f"{folder}/off.conf": "off"})
    hosts.a.run("supervisorctl stop off")
    pids = hosts.started({"one", "two", "app"})
    done = hosts.setup()
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    assert (
        "old.ini is left out, as" in done.stdout
        and "off.conf is parked, as" in done.stdout
        and "is a link to /srv/one/supervisor.conf" in done.stdout
    )
    hosts.await_pair(pids)
    listed = hosts.b.run(f"cd {folder}; find . -type f ! -name '.*' | sort").split()
    assert listed == ["./app.conf", "./off.conf.parked", "./one.conf", "./two.conf"]
    assert hosts.a.run(f"ls {folder}/2023-backup").split() == ["app.conf.not-included"]
    assert set(hosts.pids(hosts.a)) == {"one", "two", "app"}
    hosts.a.run(f"echo '; edited' >> {folder}/one.conf; ha-agent sync")
    done = hosts.setup("--undo")
    assert "what was changed since setup is kept as /var/lib/ha-agent/undone/one.conf" in done.stdout, done.stdout
    assert hosts.pids(hosts.a) == pids
    assert hosts.a.run(f"readlink {folder}/one.conf").strip() == "/srv/one/supervisor.conf"
    assert hosts.a.run(f"cd {folder}; find . -type f | sort").split() == [
        "./2023-backup/app.conf", "./app.conf", "./off.conf", "./old.ini"
    ]  # fmt: skip


def test_a_socket_elsewhere_with_a_password(hosts: Hosts) -> None:
    text = main_conf("/etc/supervisor/conf.d/*.conf", "/tmp/supervisor.sock", "username=u\npassword=s3cret")
    hosts.a.write("/etc/supervisor/supervisord.conf", text)
    hosts.a.run("chmod 600 /etc/supervisor/supervisord.conf; systemctl restart supervisor")
    await_true("it answers", lambda: "RUNNING" not in hosts.a.run("supervisorctl status || true"))
    time.sleep(1.0)
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    pids = hosts.started({"app"})
    done = hosts.setup()
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert hosts.a.run("stat -c %a /etc/supervisor/supervisord.conf").strip() == "600"
    hosts.a.run("ha-agent switchover --yes", 60.0)
    await_true("it runs there", lambda: set(hosts.pids(hosts.b)) == {"app"})
    hosts.b.run("ha-agent switchover --yes", 60.0)
    await_true("and here again", lambda: set(hosts.pids(hosts.a)) == {"app"})


def test_an_inet_port_alone_is_refused(hosts: Hosts) -> None:
    text = (
        main_conf("/etc/supervisor/conf.d/*.conf")
        .replace("[unix_http_server]\nfile=/run/supervisor.sock\nchmod=0700", ("[inet_http_server]\nport=127.0.0.1:9001"))
        .replace("serverurl=unix:///run/supervisor.sock", "serverurl=http://127.0.0.1:9001")
    )
    hosts.a.write("/etc/supervisor/supervisord.conf", text)
    hosts.a.run("systemctl restart supervisor; sleep 2")
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    hosts.started({"app"})
    hosts.refused("only [inet_http_server] port=127.0.0.1:9001")


def test_programs_of_the_main_conf(hosts: Hosts) -> None:
    inline = "[program:in1]\ncommand=/bin/sleep infinity\ndirectory=%(here)s\n" + SLEEPER.format(name="in2")
    hosts.a.write(
        "/etc/supervisor/supervisord.conf",
        main_conf("/etc/supervisor/conf.d/*.conf").replace("[include]", f"{inline}[include]"),
    )
    hosts.a.run("systemctl restart supervisor; sleep 2")
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    pids = hosts.started({"in1", "in2", "app"})
    hosts.refused("--move-programs makes each a conf of /etc/supervisor/conf.d")
    done = hosts.setup("--move-programs")
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert "[program" not in hosts.a.read("/etc/supervisor/supervisord.conf")
    assert hosts.b.run("ls /etc/supervisor/conf.d").split() == ["app.conf", "in1.conf", "in2.conf"]
    hosts.setup("--undo --yes")
    assert hosts.pids(hosts.a) == pids and "[program:in2]" in hosts.a.read("/etc/supervisor/supervisord.conf")
    assert hosts.a.run("ls /etc/supervisor/conf.d").split() == ["app.conf"]


def test_several_supervisords_and_one_without_a_unit(hosts: Hosts) -> None:
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    pids = hosts.started({"app"})
    other = (
        main_conf("/srv/none/*.conf", "/srv/s.sock")
        .replace("/run/supervisord.pid", "/srv/pid")
        .replace("/supervisord.log", "/o.log")
    )
    hosts.a.write("/srv/other.conf", other + SLEEPER.format(name="other"))
    hosts.a.run("/usr/bin/supervisord -c /srv/other.conf")
    hosts.refused("more than one supervisord runs here")
    done = hosts.setup("--leave-supervisords")
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert "RUNNING" in hosts.a.run("supervisorctl -c /srv/other.conf status")


def test_a_supervisord_that_no_unit_started(hosts: Hosts) -> None:
    hosts.a.run("systemctl stop supervisor")
    hosts.a.write("/etc/supervisor/conf.d/app.conf", SLEEPER.format(name="app"))
    hosts.refused("supervisord does not run")
    hosts.a.run("/usr/bin/supervisord -c /etc/supervisor/supervisord.conf; sleep 2")
    hosts.started({"app"})
    hosts.refused("is in no systemd service")


def make_red_hat(machine: Machine) -> None:
    machine.run("systemctl disable --now supervisor; rm -rf /etc/supervisor; mkdir /etc/supervisord.d")
    machine.write("/etc/supervisord.conf", main_conf("supervisord.d/*.ini", "/run/supervisor/supervisor.sock"))
    machine.write("/etc/systemd/system/supervisord.service", RED_HAT_UNIT)
    machine.run("mkdir -p /run/supervisor; systemctl daemon-reload; systemctl enable --now supervisord")


def test_the_layout_of_red_hat(hosts: Hosts) -> None:
    for machine in hosts.both:
        make_red_hat(machine)
    write_confs(hosts, {"/etc/supervisord.d/app.ini": "app"})
    pids = hosts.started({"app"})
    done = hosts.setup()
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert "control-group" in hosts.a.run("systemctl show -p KillMode supervisord")
    hosts.a.run("ha-agent switchover --yes", 60.0)
    await_true("it runs there", lambda: set(hosts.pids(hosts.b)) == {"app"})
    assert hosts.pids(hosts.a) == {}
    hosts.b.run("ha-agent switchover --yes", 60.0)
    await_true("and here again", lambda: set(hosts.pids(hosts.a)) == {"app"})


def instance(name: str, state: str, router_id: int, priority: int, vip: str) -> str:
    return INSTANCE.format(name=name, state=state, router_id=router_id, priority=priority, vip=vip, notify=NOTIFY)


def keepalived(machine: Machine, text: str) -> None:
    machine.write("/etc/keepalived/keepalived.conf", text)
    machine.run("systemctl enable --now keepalived")


def test_beside_an_instance_of_others(hosts: Hosts) -> None:
    for machine, priority in ((hosts.a, 150), (hosts.b, 100)):
        keepalived(
            machine, INSTANCE.format(name="WEB", state="BACKUP", router_id=60, priority=priority, vip=WEB, notify=NOTIFY)
        )
    await_true("WEB is here", lambda: hosts.addresses(hosts.a, WEB))
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    pids = hosts.started({"app"})
    hosts.refused("--adopt-instance WEB", "", f"--vip {WEB}/24")
    hosts.refused("virtual_router_id 60 on host0 is vrrp_instance WEB's", "--router-id 60")
    log = [machine.run("cat /root/role.log") for machine in hosts.both]
    done = hosts.setup()
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert hosts.addresses(hosts.a, WEB) and hosts.addresses(hosts.a, VIP) and not hosts.addresses(hosts.b, WEB)
    assert [machine.run("cat /root/role.log") for machine in hosts.both] == log, "the other instance has not noticed"
    again = hosts.setup()
    assert "every file is as it must be" in again.stdout, again.stdout
    hosts.setup("--undo")
    assert hosts.addresses(hosts.a, WEB) and not hosts.addresses(hosts.a, VIP) and hosts.pids(hosts.a) == pids
    assert hosts.a.run("systemctl is-active keepalived").strip() == "active"


def test_an_instance_of_a_pair_with_scripts_is_adopted(hosts: Hosts) -> None:
    for machine, state, priority in ((hosts.a, "MASTER", 150), (hosts.b, "BACKUP", 100)):
        keepalived(
            machine, INSTANCE.format(name="VI_1", state=state, router_id=51, priority=priority, vip=VIP, notify=NOTIFY)
        )
    await_true("VI_1 is here", lambda: hosts.addresses(hosts.a, VIP))
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    pids = hosts.started({"app"})
    hosts.refused("is an address of vrrp_instance VI_1: --adopt-instance VI_1")
    hosts.refused("--replace-notify takes them out", "--adopt-instance VI_1", "")
    watch = "while sleep 0.02; do ip -4 -o addr show dev host0 | grep -q {vip}/ && date +%s.%N >> /root/seen; done"
    hosts.b.run(
        f"rm -f /root/seen /root/role.log; (setsid sh -c '{watch.format(vip=VIP)}' >/dev/null 2>&1 & echo $! > /root/watch)"
    )
    done = hosts.setup("--adopt-instance VI_1 --replace-notify", "")
    hosts.b.run("kill $(cat /root/watch)")
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.await_pair(pids)
    assert hosts.b.run("cat /root/seen 2>/dev/null || true") == "", "at no moment the address was on the other node"
    assert "MASTER" not in hosts.b.run("cat /root/role.log || true") and "STOP" not in hosts.a.run("cat /root/role.log")
    assert "auth_pass 1111" in hosts.a.read("/etc/keepalived/keepalived.conf")
    hosts.setup("--undo")
    for machine in hosts.both:
        assert machine.run("systemctl is-active keepalived").strip() == "active"
        assert "ha-agent" not in machine.run("cat /etc/keepalived/*")
    assert hosts.addresses(hosts.a, VIP) and hosts.pids(hosts.a) == pids
    assert "STOP" not in hosts.a.run("cat /root/role.log")
    done = hosts.setup("--adopt-instance VI_1 --replace-notify", "")
    assert "the pair is at work" in done.stdout and done.returncode == 0, done.stdout
    hosts.a.run("systemctl stop keepalived")
    await_true("it runs there", lambda: set(hosts.pids(hosts.b)) == {"app"} and hosts.addresses(hosts.b, VIP), 60)
    assert hosts.pids(hosts.a) == {}
    hosts.a.run("systemctl start keepalived")
    await_true("the higher priority has it again", lambda: set(hosts.pids(hosts.a)) == {"app"}, 60)


def test_killed_at_any_moment_it_is_run_again_or_undone(hosts: Hosts) -> None:
    write_confs(hosts, {"/etc/supervisor/conf.d/app.conf": "app"})
    hosts.a.write("/srv/s2.ini", SLEEPER.format(name="s2"))
    hosts.a.run("sed -i 's|^files = .*|files = /etc/supervisor/conf.d/*.conf /srv/*.ini|' /etc/supervisor/supervisord.conf")
    hosts.a.run("supervisorctl update")
    pids = hosts.started({"app", "s2"})
    before = hosts.a.read("/etc/supervisor/supervisord.conf")
    for number, pause in enumerate((0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0)):
        session = subprocess.Popen(
            hosts.a.words(f"ha-agent setup {hosts.options()} --yes"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(pause)
        os.killpg(session.pid, signal.SIGKILL)
        session.wait()
        hosts.a.run("pkill -9 -f '[h]a-agent setup' || true")
        assert hosts.pids(hosts.a) == pids, pause
        if number % 2:
            done = hosts.setup()
            assert "the pair is at work" in done.stdout and done.returncode == 0, (pause, done.stdout)
            hosts.await_pair(pids)
        done = hosts.setup("--undo")
        assert done.returncode == 0, (pause, done.stdout)
        assert hosts.pids(hosts.a) == pids and hosts.a.read("/etc/supervisor/supervisord.conf") == before, pause
        assert hosts.a.run("ls /etc/supervisor/conf.d").split() == ["app.conf"]
        hosts.b.run("rm -f /etc/supervisor/conf.d/*; supervisorctl update")
