"""The package on two machines that systemd booted: installing, failing over, rebooting, upgrading, removing."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from tests.machines.machine import ROOT, Machine, await_true
from tests.machines.pair import PROGRAMS, VIP, MachinePair


def test_installing_starts_and_configures_nothing(pair: MachinePair) -> None:
    shown = pair.a.run("dpkg -s ha-agent; cat /var/log/dpkg.log | grep ha-agent | head -3")
    assert "Status: install ok installed" in shown
    assert pair.a.run("getent group ha-agent ha-agent-read").count("ha-agent") == 2
    assert pair.a.run("stat -c '%a %U' /etc/ha-agent/ssh").strip() == "700 root"
    assert pair.a.run("zcat /usr/share/man/man1/supzcli.1.gz | head -1").startswith(".TH SUPZCLI")
    assert "failover-test" in pair.a.run("ha-agent --help") and "parked" in pair.a.run("supzcli --help")


def test_doctor_is_content_with_what_was_installed(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    done = subprocess.run(pair.a.words("ha-agent doctor --json"), capture_output=True, text=True)
    (own,) = json.loads(done.stdout)["nodes"]
    found = [f for f in own["findings"] if f["severity"] != "ok"]
    # The machines' clock is this machine's.
    assert {f["code"] for f in found} <= {"clock-sync"}, found


@pytest.mark.parametrize("mode", ["switchover", "keepalived-kill", "agent-kill", "supervisord-kill", "link-down", "power"])
def test_every_failover_test_passes_on_real_machines(pair: MachinePair, mode: str) -> None:
    pair.make_active(pair.a)
    asked_on = pair.b if mode in ("link-down", "power") else pair.a
    before = pair.a.leader()
    words = f"ha-agent failover-test --yes --yes-really --mode {mode} --probe redis://{VIP}:6379 --json"
    done = subprocess.run(asked_on.words(words), capture_output=True, text=True, timeout=180)
    report = json.loads(done.stdout)
    assert report["passed"], json.dumps(report["objectives"], indent=1) + done.stderr
    if mode == "power":
        pair.a.await_up(before)
    pair.seconds[f"failover-test {mode}: longest outage seen by redis"] = max(report["outage_s"].values())
    stays = mode in ("agent-kill", "supervisord-kill")
    pair.await_healthy(pair.a if stays else pair.b)


ESCAPER = """\
[program:escaper]
command=/bin/bash -c "env -i setsid -f /bin/sleep 7654321; exec /bin/sleep 7654322"
"""


def test_what_has_wiped_its_environment_and_left_its_session_is_ended_by_a_switchover(pair: MachinePair) -> None:
    """What no process leaves is the control group of systemd's own supervisor.service."""
    pair.make_active(pair.a)
    pair.a.write("/etc/supervisor/conf.d/escaper.conf", ESCAPER)
    pair.a.run("ha-agent sync; supzcli update")
    found = "pgrep -f '[s]leep 765432' || true"
    await_true("it has escaped", lambda: len(pair.a.run(found).split()) == 2)
    escaped = pair.a.run("pgrep -f '[s]leep 7654321'").strip()
    assert "supervisor.service" in pair.a.run(f"cat /proc/{escaped}/cgroup")
    assert not pair.a.run(f"cat /proc/{escaped}/environ | tr -d '\\0'").strip()
    pair.a.run("ha-agent switchover --yes", 60.0)
    await_true("it runs there", lambda: len(pair.b.run(found).split()) == 2)
    assert pair.a.run(found).strip() == ""
    pair.b.run("rm /etc/supervisor/conf.d/escaper.conf; ha-agent sync --accept-deletes; supzcli update")
    # Beside other programs nobody can tell whose it is.
    pair.b.run("pkill -f '[s]leep 7654321' || true")
    pair.await_healthy(pair.b)


def test_a_rebooted_standby_stays_it_and_a_rebooted_active_node_hands_over_first(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    before = pair.pids(pair.a)
    pair.seconds["reboot of the standby, until everything is up"] = pair.b.reboot()
    pair.await_healthy(pair.a)
    assert pair.pids(pair.a) == before, "nothing of the active node noticed"
    pair.seconds["reboot of the active node, until everything is up"] = pair.a.reboot()
    pair.await_healthy(pair.b)
    codes = pair.b.run("ha-agent history -n 40 --json")
    done = [e for e in json.loads(codes)["events"] if e["code"] == "takeover-done" and e["node"] == "node-b"][-1]
    interlock = next(s for s in done["steps"] if s["step"] == "interlock")
    assert interlock["interlock"] == "released", "the word came before the machine went down"


def await_active_with_everything(pair: MachinePair, machine: Machine) -> None:
    await_true("the peer is active", lambda: pair.status(machine).get("role") == "active", 30, 0.05)
    await_true("everything runs", lambda: set(pair.pids(machine)) == PROGRAMS, 30, 0.05)


def test_a_power_cut_of_either_machine_and_its_way_back(pair: MachinePair) -> None:
    for machine in (pair.a, pair.b):
        pair.make_active(machine)
        peer = pair.other(machine)
        began = time.monotonic()
        machine.cut_power()
        await_active_with_everything(pair, peer)
        pair.seconds[f"power cut of {machine.name}, until everything is RUNNING"] = time.monotonic() - began
        machine.boot()
        pair.await_healthy(peer)


def test_after_a_power_cut_of_both_exactly_one_is_active_with_everything(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    for machine in (pair.a, pair.b):
        machine.cut_power()
    began = time.monotonic()
    for machine in (pair.a, pair.b):
        machine.switch_on()
    for machine in (pair.a, pair.b):
        machine.await_up()
    await_true("one is active", lambda: pair.active() is not None, 60)
    active = pair.active()
    assert active is not None
    pair.await_healthy(active)
    pair.seconds["power cut of both, until one is at work again"] = time.monotonic() - began
    for machine in (pair.a, pair.b):
        taken = machine.run("ha-agent history -n 200 --json")
        boots = [e for e in json.loads(taken)["events"] if e["code"] == "takeover-done" and e["node"] == machine.name]
        assert len([e for e in boots if e["at"] > time.time() - (time.monotonic() - began)]) <= 1, "no spurious takeover"


@pytest.mark.parametrize(
    ("action", "moves"),
    [
        ("systemctl stop keepalived", True),
        ("systemctl restart ha-agent", False),
        ("systemctl kill --kill-whom=main -s KILL supervisor", False),
        ("systemctl restart supervisor", False),
        ("systemctl kill --kill-whom=main -s ABRT ha-agent", False),
    ],
)
def test_what_an_administrator_does_with_systemctl(pair: MachinePair, action: str, moves: bool) -> None:
    pair.make_active(pair.a)
    pair.a.run(action)
    if moves:
        await_true("the other node has taken over", lambda: pair.status(pair.b).get("role") == "active", 30)
        pair.a.run("systemctl start keepalived")
        pair.await_healthy(pair.b)
        return
    time.sleep(1.0)
    pair.await_healthy(pair.a)


BROKEN = "/run/systemd/system/ha-agent.service.d/broken.conf"


def test_an_agent_that_is_started_again_is_not_fenced_and_one_that_systemd_gives_up_is(pair: MachinePair) -> None:
    """systemd triggers OnFailure= at every failure from version 254 on; the fence is for the last one alone."""
    pair.make_active(pair.a)
    before = pair.pids(pair.a)
    pair.a.run("systemctl kill --kill-whom=main -s KILL ha-agent")
    pair.await_healthy(pair.a)
    assert pair.pids(pair.a) == before, "no program was restarted"
    pair.a.run(f"mkdir -p {os.path.dirname(BROKEN)}")
    pair.a.run(f"printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > {BROKEN}; systemctl daemon-reload")
    pair.a.run("systemctl kill --kill-whom=main -s KILL ha-agent")
    await_true("node-b has taken over", lambda: set(pair.pids(pair.b)) == PROGRAMS, 60.0)
    assert pair.runs(pair.a) == set() and VIP not in pair.a.run("ip -4 addr show dev host0")
    assert "nothing of the registry is running" in pair.a.run("journalctl --no-pager -u ha-agent-fence")
    pair.a.run(f"rm {BROKEN}; systemctl daemon-reload; systemctl reset-failed ha-agent; systemctl start ha-agent")
    pair.await_healthy(pair.b)


def test_the_dashboards_package_serves_page_and_metrics_as_its_own_user_with_debians_libraries(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    for machine in pair.both:
        built = glob.glob(os.path.join(ROOT, "build", "ha-agent-web_*_all.deb"))[0]
        shutil.copy(built, os.path.join(machine.root, "root"))
        said = machine.run(f"apt-get install -y --no-install-recommends ./{os.path.basename(built)} curl 2>&1", 300.0)
        assert "ha-agent-web" in said and machine.run("systemctl is-active ha-agent-web || true").strip() == "inactive"
        machine.run("echo correct-horse | ha-agent-web user add alice --operator --password-stdin")
        machine.run("systemctl enable --now ha-agent-web")
        await_true("it serves", lambda: machine.run("curl -s http://127.0.0.1:8420/healthz || true").startswith("the agent"))  # noqa: B023
        assert machine.run("stat -c '%U %G %a' /etc/ha-agent/web-users.json").split() == ["root", "ha-agent-web", "640"]
        assert machine.run("ps -o user= -C ha-agent-web").split() == ["ha-agent-web"]
    status = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8420"
    assert [machine.run(f"{status}/active") for machine in pair.both] == ["200", "503"]
    assert 'ha_agent_role{role="active"} 1.0' in pair.a.run("curl -s http://127.0.0.1:8420/metrics")
    # By way of the standby's dashboard, with a session as a browser has it.
    b = pair.b
    b.run("curl -s -c /root/jar -d 'name=alice&password=correct-horse' http://127.0.0.1:8420/login")
    page = b.run("curl -s -b /root/jar http://127.0.0.1:8420/pairs/local")
    assert "stop-s1" in page
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    do = "curl -s -b /root/jar -d csrf={} -d action={} -d program=s1 http://127.0.0.1:8420/pairs/local/do"
    assert "s1: stopped, parked on node-a and node-b" in b.run(do.format(csrf, "stop"))
    assert "s1: started" in b.run(do.format(csrf, "start"))
    live = b.run("timeout 2 curl -s -N -b /root/jar http://127.0.0.1:8420/pairs/local/live || true")
    assert live.startswith("event: parts")
    memory = int(b.run("grep VmHWM /proc/$(systemctl show -p MainPID --value ha-agent-web)/status").split()[1])
    pair.seconds["(memory of the dashboard with Debian's libraries, in MiB)"] = memory / 1024
    assert memory < 40 * 1024
    judged = b.run("systemd-analyze security --no-pager ha-agent-web | tail -1")
    assert float(judged.split(":")[1].split()[0]) <= 1.3, judged
    for machine in pair.both:
        machine.run("systemctl disable --now ha-agent-web; apt-get purge -y ha-agent-web 2>&1")
        assert machine.run("ls /etc/ha-agent/web* 2>/dev/null || true") == ""
    pair.await_healthy(pair.a)


def test_an_upgrade_restarts_the_agent_and_not_one_program(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    before = pair.pids(pair.a)
    agent = pair.a.run("systemctl show -p MainPID --value ha-agent")
    built = os.path.join(ROOT, "build", "machines", "newer.deb")
    make_newer(built)
    try:
        for machine in (pair.b, pair.a):
            pair.install_package(machine, built)
            pair.await_healthy(pair.a)
    finally:
        os.unlink(built)
    assert pair.pids(pair.a) == before
    assert pair.a.run("systemctl show -p MainPID --value ha-agent") != agent
    assert pair.a.run("dpkg-query -W -f '${Version}' ha-agent").endswith("+next")
    assert "node.name" not in pair.a.run("ha-agent config check"), "the conffile stayed as it was set"


def make_newer(target: str) -> None:
    """The same package with a higher version."""
    (source,) = glob.glob(os.path.join(ROOT, "build", "ha-agent_*_all.deb"))
    folder = target + ".d"
    subprocess.run(["dpkg-deb", "-R", source, folder], check=True)
    path = os.path.join(folder, "DEBIAN", "control")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}+next\n" if line.startswith("Version:") else f"{line}\n" for line in text.splitlines()))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", folder, target], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", folder], check=True)


def test_the_journal_knows_code_role_and_epoch_of_each_event(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    pair.a.run("ha-agent switchover --yes")
    pair.await_healthy(pair.b)
    found = pair.a.run("journalctl -q -o json -u ha-agent HA_AGENT_CODE=released -n 1")
    entry = json.loads(found)
    assert entry["HA_AGENT_ROLE"] == "standby" and int(entry["HA_AGENT_EPOCH"]) >= 1 and entry["HA_AGENT_NODE"] == "node-a"
    assert entry["MESSAGE"].startswith("releasing -> standby: nothing of the registry is running here")
    by = json.loads(pair.a.run("journalctl -q -o json -u ha-agent HA_AGENT_CODE=switchover -n 1"))["HA_AGENT_BY"]
    assert by == "root"


def test_the_logs_are_quiet_while_the_peer_is_away(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    pair.b.cut_power()
    time.sleep(20.0)
    lines = pair.a.run("journalctl -q --no-pager -u ha-agent --since -15s -o cat").splitlines()
    assert len(lines) <= 6, lines
    pair.b.boot()
    pair.await_healthy(pair.a)


def test_alerts_reach_the_journal_of_a_real_machine(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    sinks = "\\n".join(f'[sinks.{kind}]\\nkind = "{kind}"\\n' for kind in ("journal", "syslog"))
    pair.a.run(f"printf '\\n{sinks}' >> /etc/ha-agent/agent.toml; ha-agent config check; systemctl reload ha-agent")
    pair.await_healthy(pair.a)
    state = "systemctl show -p ActiveState -p SubState --value ha-agent"
    assert pair.a.run(state).split() == ["active", "running"], "a reload is no end"
    said = pair.a.run("ha-agent alert test")
    assert "journal (journal): delivered" in said and "syslog (syslog): delivered" in said
    line = "journalctl -q -o cat -t ha-agent --grep 'moment alert-test node-a: a test, asked for by root'"
    await_true("the line of syslog", lambda: pair.a.run(f"{line} || true"))
    pair.a.run("kill -9 $(supervisorctl pid s1)")
    look = "journalctl -q -o json HA_AGENT_ALERT=program-restarted -n 1"
    await_true("the alert", lambda: "s1 ended unexpectedly (terminated by SIGKILL) and runs again" in pair.a.run(look))
    assert json.loads(pair.a.run(look))["HA_AGENT_ALERT_KIND"] == "moment"


def test_zz_removing_leaves_the_programs_alone_and_purging_leaves_nothing_of_ours(pair: MachinePair) -> None:
    pair.make_active(pair.a)
    before = pair.pids(pair.a)
    said = pair.a.run("apt-get remove -y ha-agent 2>&1")
    assert "programs run on under supervisord" in said and "stays as it is" in said
    assert pair.pids(pair.a) == before
    pair.a.run("apt-get purge -y ha-agent 2>&1")
    assert pair.a.run("ls -d /etc/ha-agent /var/lib/ha-agent 2>/dev/null || true") == ""
    assert "ha-agent-listener" not in pair.a.run("supervisorctl status || true")
    assert pair.pids(pair.a) == before and "redis.conf" in pair.a.run("ls /etc/supervisor/conf.d")


def test_zzz_the_times(pair: MachinePair, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        for what, seconds in pair.seconds.items():
            print(f"  {what:<70}{seconds:7.2f} s")
    assert pair.seconds
