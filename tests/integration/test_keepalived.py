"""The rendered keepalived.conf is accepted by keepalived itself, and the shipped units by systemd."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest

from ha_agent.adapters.keepalived_conf import plan_conf, render_keepalived
from ha_agent.cli.keepalived_cmd import write_conf
from ha_agent.core.keepalived_plan import adopted_settings, describe_instances
from ha_agent.core.keepalived_text import parse_keepalived
from ha_agent.core.settings import check_settings
from ha_agent.core.settings_sample import sample_toml
from tests.unit.test_keepalived_plan import BALANCER, PAIR, SYNCED

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("nopreempt", [True, False])
def test_keepalived_accepts_the_rendered_configuration(tmp_path: pathlib.Path, nopreempt: bool) -> None:
    """Hazards 9, 10 and 13: script security, weights under nopreempt, sub-second adverts.

    Fault: keepalived.conf written by hand misses script_user, vrrp_version 3, or a weight-0 track file.
    Answer: `ha-agent keepalived render` writes all of them, and keepalived itself accepts it.
    Bound: none needed.
    """
    hook = "/etc/ha-agent-notify"
    shutil.copyfile(ROOT / "keepalived" / "ha-agent-notify", hook)
    pathlib.Path(hook).chmod(0o755)
    subprocess.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"], capture_output=True)
    values = {("vrrp", "interface"): "eth0", ("vrrp", "nopreempt"): nopreempt, ("paths", "run_dir"): "/run"}
    text = render_keepalived(check_settings(tomllib.loads(sample_toml(values))), hook)
    path = tmp_path / "keepalived.conf"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    done = subprocess.run(["keepalived", "-t", "-l", "-f", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "disabl" not in (done.stderr + done.stdout).lower()  # codespell:ignore
    for wanted in (
        "vrrp_version 3",
        "unicast_peer",
        "enable_script_security",
        "weight 0",
        "vrrp_startup_delay",
        "init_file 1",
        "notify_stop",
    ):
        assert wanted in text
    assert ("    nopreempt\n" in text) is nopreempt


def test_systemd_accepts_the_shipped_units(tmp_path: pathlib.Path) -> None:
    units = tmp_path / "systemd"
    shutil.copytree(ROOT / "systemd", units)
    for program in ("ha-agent", "supervisord", "keepalived"):
        fake = tmp_path / program
        fake.write_text("#!/bin/sh\n", encoding="ascii")
        fake.chmod(0o755)
    unit = units / "ha-agent.service"
    unit.write_text(
        unit.read_text(encoding="utf-8").replace("/usr/bin/ha-agent", str(tmp_path / "ha-agent")), encoding="utf-8"
    )
    for name in ("supervisor", "keepalived"):
        (units / f"{name}.service").write_text(
            f"[Service]\nExecStart={tmp_path / name.replace('visor', 'visord')}\n", encoding="utf-8"
        )
    fence = units / "ha-agent-fence.service"
    fence.write_text(
        fence.read_text(encoding="utf-8").replace("/usr/lib/ha-agent/ha-agent-fence", str(units / "ha-agent-fence")),
        encoding="utf-8",
    )
    names = ["ha-agent.service", "ha-agent-fence.service", "supervisor.service", "keepalived.service"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(units / n) for n in names)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if re.search(r"ha-agent|supervisor|keepalived", line)]
    assert ours == [] and done.returncode == 0, done.stderr


def test_systemd_tmpfiles_accepts_the_shipped_file(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(ROOT / "systemd" / "ha-agent.tmpfiles.conf")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/ha-agent/notify").is_dir()
    assert (tmp_path / "run/ha-agent/track").read_text(encoding="ascii") == "1"


HOSTS: dict[str, tuple[str, dict[str, object], dict[str, bool]]] = {
    "a load balancer": (BALANCER, {"vip": "192.0.2.10/24"}, {}),
    "a sync group": (SYNCED, {"vip": "192.0.2.50/24", "router_id": 52}, {}),
    "a pair with scripts": (PAIR, {}, {"adopt": True, "replace_notify": True}),
    "a strict one": (BALANCER.replace("global_defs {", "global_defs {\n    vrrp_strict"), {"vip": "192.0.2.10/24"}, {}),
}


@pytest.mark.parametrize("what", HOSTS)
def test_keepalived_accepts_what_others_wrote_with_ours_in_it(tmp_path: pathlib.Path, what: str) -> None:
    """An instance of ours beside, or in, a conf that is there already.

    Fault: a server runs keepalived for something else, and its conf must stay.
    Answer: setup adds a file and an include line, or the hook and the track file; keepalived itself reads all instances.
    Bound: none needed.
    """
    for name in ("eth0", "eth1"):
        subprocess.run(["ip", "link", "add", name, "type", "dummy"], capture_output=True)
    hook = "/etc/ha-agent-notify"
    shutil.copyfile(ROOT / "keepalived" / "ha-agent-notify", hook)
    pathlib.Path(hook).chmod(0o755)
    text, vrrp, allowed = HOSTS[what]
    if allowed:
        vrrp = adopted_settings(describe_instances(parse_keepalived(text))["VI_1"], None)
    path = tmp_path / "keepalived.conf"
    path.write_text(text, encoding="utf-8")
    values = {("vrrp", key): value for key, value in vrrp.items()} | {("paths", "run_dir"): "/run"}
    settings = check_settings(tomllib.loads(sample_toml(values)))
    made = plan_conf(settings, str(path), hook, **allowed)
    assert not made.refused
    for name, new in made.files.items():
        pathlib.Path(name).write_text(new, encoding="utf-8")
        pathlib.Path(name).chmod(0o600)
    done = subprocess.run(["keepalived", "-t", "-l", "-f", str(path)], capture_output=True, text=True)
    said = done.stderr + done.stdout
    assert "track" not in said and "HA_AGENT" not in said and "Unknown" not in said, said
    assert done.returncode == 0 or "script" in said, said
    assert plan_conf(settings, str(path), hook, **allowed).files.get(str(path), path.read_text()) == path.read_text()


def test_keepalived_write_keeps_what_others_wrote_and_the_first_copy(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, own = tmp_path / "keepalived.conf", tmp_path / "ha-agent.conf"
    path.write_text(BALANCER, encoding="utf-8")
    path.chmod(0o600)

    def write(**vrrp: object) -> str:
        values = {("vrrp", key): value for key, value in {"vip": "192.0.2.10/24", **vrrp}.items()}
        code = write_conf(check_settings(tomllib.loads(sample_toml(values))), None, str(path))
        said = capsys.readouterr()
        return f"{code} {said.out}{said.err}"

    assert write().startswith(f"0 written: {own}, {path}; systemctl reload keepalived")
    text = path.read_text(encoding="utf-8")
    assert text.startswith(BALANCER) and path.stat().st_mode & 0o777 == 0o600
    assert write() == f"0 {path} is as it must be\n"
    assert write(router_id=88).startswith(f"0 written: {own};") and path.read_text(encoding="utf-8") == text
    assert "virtual_router_id 88" in own.read_text(encoding="utf-8")
    assert (tmp_path / "keepalived.conf.before-ha-agent").read_text(encoding="utf-8") == BALANCER
    assert write(router_id=60).startswith("3 ") and "virtual_router_id 88" in own.read_text(encoding="utf-8")
