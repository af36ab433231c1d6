"""Every check of the doctor finds what it is for, and is content with what ``setup`` by the README makes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from ha_agent.adapters.keepalived_conf import render_keepalived
from ha_agent.cli.doctor import keepalived, link, machine, supervisor
from ha_agent.cli.doctor.context import Context, Ran, run_checks
from ha_agent.cli.doctor.supervisor import parse_time_span
from ha_agent.cli.doctor_cmd import CHECKS, document, nagios_line
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.keepalived_text import parse_keepalived
from ha_agent.core.node_json import NodeJson
from ha_agent.core.settings import Settings, SinkSettings, check_settings
from tests.unit.test_status_text import node

MAIN = """\
[unix_http_server]
file=/run/supervisor.sock
[supervisord]
[include]
files = {run}/active/*.conf /etc/supervisor/local.d/*.conf
"""


class Scripted(Context):
    """A context whose outer programs answer what the test says."""

    answers: dict[str, Ran]
    systemd = False
    accounts: list[Any] | None = None

    def run(self, *words: str) -> Ran:
        return self.answers.get(" ".join(words[:2]), self.answers.get(words[0], Ran(0, "", "")))

    def is_there(self, host: str) -> bool:
        return host == "192.0.2.1"

    places: Mapping[str, list[str]] = MappingProxyType({})

    def interfaces_of(self, address: str) -> list[str] | None:
        return self.places.get(address, [])

    def status(self) -> tuple[list[NodeJson], str | None]:
        return super().status() if self.accounts is None else (self.accounts, None)

    @property
    def has_systemd(self) -> bool:
        return self.systemd


@pytest.fixture
def hook(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "ha-agent-notify"
    shipped = pathlib.Path(__file__).parents[2] / "keepalived" / "ha-agent-notify"
    path.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    for name in ("run", "state", "registry"):
        (tmp_path / name).mkdir()
    (tmp_path / "supervisord.conf").write_text(MAIN.format(run=tmp_path / "run"), encoding="ascii")
    return check_settings(
        {
            "node": {"name": "node-a", "address": "192.0.2.11"},
            "peer": {"name": "node-b", "address": "192.0.2.12"},
            "vrrp": {"vip": "192.0.2.10/24", "pid_file": str(tmp_path / "keepalived.pid")},
            "registry": {"path": str(tmp_path / "registry")},
            "supervisor": {"config": str(tmp_path / "supervisord.conf"), "socket": str(tmp_path / "sock")},
            "paths": {"run_dir": str(tmp_path / "run"), "state_dir": str(tmp_path / "state")},
            "link": {"key_file": str(tmp_path / "key"), "known_hosts": str(tmp_path / "known_hosts")},
        }
    )


@pytest.fixture
def context(settings: Settings, tmp_path: pathlib.Path, hook: str) -> Scripted:
    conf = tmp_path / "keepalived.conf"
    conf.write_text(render_keepalived(settings, hook), encoding="utf-8")
    made = Scripted(settings, str(tmp_path / "agent.toml"), str(conf), is_root=True)
    made.answers = {}
    return made


def codes(check: Any, context: Context) -> dict[str, Severity]:
    return {f.code: f.severity for f in check(context)}


def change(context: Scripted, old: str, new: str) -> None:
    path = pathlib.Path(context.keepalived_conf)
    text = path.read_text(encoding="utf-8")
    assert old in text, f"the test changes {old!r}, which is not there"
    path.write_text(text.replace(old, new), encoding="utf-8")


# ---- keepalived ---------------------------------------------------------------------------------------------


def test_what_render_makes_is_well(context: Scripted) -> None:
    for check in (keepalived.check_conf, keepalived.check_protocol, keepalived.check_track_file):
        assert set(codes(check, context).values()) == {Severity.OK}, check
    found = [f for f in keepalived.check_hooks(context) if f.severity is not Severity.OK]
    assert all(f.code == "hook-unsafe" and "changed by others" in f.text for f in found), "temporary folders are not root's"


@pytest.mark.parametrize(
    ("old", "new", "check", "code"),
    [
        ("interface eth0", "interface eth1", keepalived.check_conf, "keepalived-differs"),
        ("priority 100\n", "priority 99\n", keepalived.check_conf, "keepalived-differs"),
        ("192.0.2.10/32 dev", "192.0.2.99/32 dev", keepalived.check_conf, "keepalived-differs"),
        ("    nopreempt", "", keepalived.check_conf, "keepalived-differs"),
        ("vrrp_instance HA_AGENT", "vrrp_instance OTHER", keepalived.check_conf, "keepalived-instance"),
        ("track_file {\n        ha_agent\n    }\n", "", keepalived.check_track_file, "track-file"),
        ("vrrp_version 3", "vrrp_version 2", keepalived.check_protocol, "advert-int"),
        ("weight 0", "weight -20", keepalived.check_protocol, "nopreempt-weight"),
        ("    weight 0\n", "", keepalived.check_protocol, "nopreempt-weight"),
        ("state BACKUP", "state MASTER", keepalived.check_protocol, "nopreempt-state"),
        ("notify_fault", "#notify_fault", keepalived.check_hooks, "hook-not-wired"),
        ("HA_AGENT BACKUP 100", "HA_AGENT MASTER 100", keepalived.check_hooks, "hook-not-wired"),
        ("    script_user root\n", "", keepalived.check_hooks, "script-user"),
        ("script_user root", "script_user nobody", keepalived.check_hooks, "script-user"),
        ("vrrp_instance HA_AGENT {", "vrrp_instance HA_AGENT", keepalived.check_conf, "keepalived-conf"),
    ],
)
def test_each_trap_of_keepalived_is_found(context: Scripted, old: str, new: str, check: Any, code: str) -> None:
    """keepalived -t says 0 to all of these (hazards 9, 10 and 13)."""
    change(context, old, new)
    found = codes(check, context)
    assert found.get(code) is Severity.ERROR, found


def test_a_vip_that_would_take_the_own_address_along_is_found_unless_the_kernel_keeps_that(context: Scripted) -> None:
    change(context, "192.0.2.10/32 dev", "192.0.2.10/24 dev")
    promoting = False
    read = context.read
    flag = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries"

    def read_flag(path: str) -> str | None:
        return ("1\n" if promoting and path == flag else "0\n") if path.startswith("/proc/sys") else read(path)

    context.read = read_flag  # type: ignore[method-assign]
    found = codes(keepalived.check_conf, context)
    assert found == {"vip-prefix": Severity.WARNING, "keepalived-conf": Severity.OK}, "it fits agent.toml all the same"
    promoting = True
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.OK}


@pytest.mark.parametrize(("here", "there", "code"), [(True, True, "vip-on-both"), (False, False, "vip-on-neither")])
def test_a_vip_on_both_nodes_or_on_neither_is_found(context: Scripted, here: bool, there: bool, code: str) -> None:
    context.accounts = [node("a", "active", vip=here), node("b", vip=there)]
    assert codes(keepalived.check_vip, context) == {code: Severity.ERROR}


def test_of_several_vips_each_is_looked_for_and_one_that_nobody_has_named_is_said(
    settings: Settings, tmp_path: pathlib.Path, hook: str
) -> None:
    vips = ("192.0.2.10/24", "2001:db8::10/64")
    several = dataclasses.replace(settings, vrrp=dataclasses.replace(settings.vrrp, vips=vips))
    conf = tmp_path / "several.conf"
    conf.write_text(render_keepalived(several, hook), encoding="utf-8")
    context = Scripted(several, str(tmp_path / "agent.toml"), str(conf), is_root=True)
    context.answers = {}
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.OK}
    change(context, "2001:db8::10/64 dev eth0", "2001:db8::99/64 dev eth0")
    found = codes(keepalived.check_conf, context)
    assert found == {"keepalived-differs": Severity.ERROR, "vip-unnamed": Severity.WARNING}
    context.accounts = [
        node("a", "active", vips={"192.0.2.10": True, "2001:db8::10": False}),
        node("b", vips={"192.0.2.10": False, "2001:db8::10": False}),
    ]
    assert codes(keepalived.check_vip, context) == {"vip-partly": Severity.ERROR}


def test_each_of_several_paths_is_tried_and_its_end_and_its_adverts_are_looked_for(
    settings: Settings, tmp_path: pathlib.Path, hook: str
) -> None:
    own, peer = ("192.0.2.11", "198.51.100.11"), ("192.0.2.12", "198.51.100.12")
    two = dataclasses.replace(
        settings,
        node=dataclasses.replace(settings.node, addresses=own),
        peer=dataclasses.replace(settings.peer, addresses=peer),
        vrrp=dataclasses.replace(settings.vrrp, path_interfaces=("eth1",)),
    )
    conf = tmp_path / "paths.conf"
    conf.write_text(render_keepalived(two, hook), encoding="utf-8")
    context = Scripted(two, str(tmp_path / "agent.toml"), str(conf), is_root=True)
    context.answers = {"ssh": Ran(255, "", "ssh: connect to host: Connection timed out")}
    said = [f.text for f in link.check_forced_command(context)]
    assert [f"({address})" in text for address, text in zip(peer, said, strict=True)] == [True, True]
    context.accounts = [node("a", "active"), node("b")]
    context.places = {own[0]: ["eth0"], own[1]: ["eth1"]}
    assert codes(link.check_paths, context) == {"paths": Severity.OK}
    context.places = {own[0]: ["eth0"], own[1]: ["eth7"]}
    (found,) = link.check_paths(context)
    assert found.code == "path-end" and "is on eth7, and not on eth1" in found.text
    context.places = {own[0]: ["eth0"], own[1]: ["eth1"]}
    cut = [
        {"address": peer[0], "up": True, "since": 1.0, "link": True},
        {"address": peer[1], "up": False, "since": 2.0, "link": False},
    ]
    context.accounts = [node("a", "active", paths=cut), node("b")]
    assert codes(link.check_paths, context) == {"path-down": Severity.WARNING}
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.OK}
    change(context, "vrrp_instance HA_AGENT_PATH_2", "vrrp_instance OTHER")
    assert codes(keepalived.check_conf, context) == {"path-adverts": Severity.WARNING}


def test_with_one_path_nothing_is_said_of_paths(context: Scripted) -> None:
    assert list(link.check_paths(context)) == []


def test_a_takeover_that_holds_is_found_and_what_would_be_done_is_said(context: Scripted) -> None:
    context.accounts = [node("a", "active"), node("b")]
    (well,) = link.check_takeover(context)
    assert well.severity is Severity.OK and 'on_interlock_timeout = "start"' in well.text
    context.accounts = [node("a", "taking_over", held="no word"), node("b")]
    assert codes(link.check_takeover, context) == {"takeover-held": Severity.ERROR}


def test_a_weighted_script_under_nopreempt_is_found(context: Scripted) -> None:
    change(context, "vrrp_instance HA", "vrrp_script chk {\n script /bin/true\n weight -30\n}\nvrrp_instance HA")
    change(context, "track_file {\n        ha", "track_script {\n        chk\n    }\n    track_file {\n        ha")
    assert codes(keepalived.check_protocol, context) == {"nopreempt-weight": Severity.ERROR}


@pytest.mark.parametrize("fault", ["mode", "shebang", "missing", "other"])
def test_a_hook_that_keepalived_would_not_run_is_found(context: Scripted, hook: str, fault: str) -> None:
    if fault == "mode":
        os.chmod(hook, 0o644)
    elif fault == "shebang":
        pathlib.Path(hook).write_text("echo\n", encoding="ascii")
    elif fault == "missing":
        os.unlink(hook)
    else:
        os.chmod(hook, 0o777)
    wanted = {"mode": "not executable", "shebang": "no shebang", "missing": "No such file", "other": "others than root"}[
        fault
    ]
    assert any(f.code == "hook-unsafe" and wanted in f.text for f in keepalived.check_hooks(context))


def test_a_missing_and_a_broken_conf_are_told_apart(context: Scripted) -> None:
    context.answers["keepalived -t"] = Ran(4, "", "Unknown keyword 'nopremt'")
    assert any("Unknown keyword" in f.text for f in keepalived.check_conf(context))
    os.unlink(context.keepalived_conf)
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.ERROR}
    assert codes(keepalived.check_hooks, context) == {}


def test_the_parser_takes_comments_quotes_and_blocks_on_one_line() -> None:
    text = "! a remark\nglobal_defs { router_id x # y\n}\nvrrp_instance A\n{\n"
    text += ' notify "/bin/a b c"\n track_file { f weight 0 }\n}\n'
    root = parse_keepalived(text)
    assert root.find_all("global_defs")[0].value("router_id") == "x"
    (instance,) = root.find_all("vrrp_instance")
    assert instance.words == ["vrrp_instance", "A"] and instance.value("notify") == "/bin/a b c"
    assert instance.find_all("track_file")[0].children[0].words == ["f", "weight", "0"]
    for wrong in ("a {", "}", 'a "b'):
        with pytest.raises(ValueError):
            parse_keepalived(wrong)


# ---- supervisord --------------------------------------------------------------------------------------------


def main_conf(context: Scripted, text: str) -> None:
    pathlib.Path(context.settings.supervisor.config).write_text(text, encoding="ascii")


def test_the_include_of_the_registry_itself_is_found(context: Scripted) -> None:
    """supervisord would start everything at boot, on both nodes (hazard 14)."""
    assert codes(supervisor.check_include, context) == {"include": Severity.OK}
    run, registry = context.settings.paths.run_dir, context.settings.registry.path
    main_conf(context, f"[include]\nfiles = {run}/active/*.conf {registry}/*.conf\n")
    assert codes(supervisor.check_include, context) == {"include-registry": Severity.ERROR}
    main_conf(context, "[include]\nfiles = registry/*.conf\n")
    assert codes(supervisor.check_include, context) == {
        "include-active": Severity.ERROR,
        "include-registry": Severity.ERROR,
    }
    main_conf(context, "[supervisord]\n")
    assert codes(supervisor.check_include, context) == {"include-active": Severity.ERROR}


def test_programs_that_were_added_to_the_main_conf_after_setup_are_found(context: Scripted) -> None:
    """They would run beside those of the active node, and stay away after a failover."""
    assert codes(supervisor.check_inline, context) == {"inline-programs": Severity.OK}
    main_conf(context, "[eventlistener:watch]\ncommand=/bin/watch\n")
    assert codes(supervisor.check_inline, context) == {"inline-programs": Severity.OK}, "a listener is each node's own"
    main_conf(context, "[program:late]\ncommand=/bin/x\n[program:a]\ncommand=/bin/a\n[group:web]\nprograms=a\n")
    (finding,) = supervisor.check_inline(context)
    assert finding.severity is Severity.WARNING and finding.code == "inline-programs"
    assert "late" in finding.text and "web" in finding.text
    assert context.settings.registry.path in finding.remedy and "/etc/supervisor/local.d" in finding.remedy


def test_an_open_port_without_a_password_is_found(context: Scripted) -> None:
    """It is remote code execution (hazard 24)."""
    assert codes(supervisor.check_xmlrpc, context) == {"xmlrpc-closed": Severity.OK}
    for text, severity in (
        ("port=*:9001", Severity.ERROR),
        ("port=9001", Severity.ERROR),
        ("port=127.0.0.1:9001", Severity.WARNING),
        ("port=*:9001\nusername=x\npassword=y", Severity.OK),
    ):
        main_conf(context, f"[inet_http_server]\n{text}\n")
        assert list(codes(supervisor.check_xmlrpc, context).values()) == [severity], text


def test_a_socket_that_gets_around_the_guard_is_found(context: Scripted, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "supervisor.sock"
    part = dataclasses.replace(context.settings.supervisor, socket=str(path))
    context.settings = dataclasses.replace(context.settings, supervisor=part)
    assert codes(supervisor.check_socket, context) == {}, "another check says that supervisord is gone"
    path.write_text("", encoding="ascii")
    for mode, severity in ((0o700, Severity.OK), (0o777, Severity.ERROR), (0o702, Severity.ERROR)):
        path.chmod(mode)
        assert codes(supervisor.check_socket, context) == {"supervisor-socket": severity}
    if os.geteuid() == 0:
        path.chmod(0o770)
        os.chown(path, 0, 100)
        assert codes(supervisor.check_socket, context) == {"supervisor-socket": Severity.WARNING}
        os.chown(path, 0, 0)
        assert codes(supervisor.check_socket, context) == {"supervisor-socket": Severity.OK}


def test_what_systemd_does_when_supervisord_ends_is_judged(context: Scripted) -> None:
    """Debian's unit has KillMode=process and RestartSec=50s (hazard 19)."""
    assert codes(supervisor.check_unit, context) == {}, "no systemd, nothing to say"
    context.systemd = True
    debian = "LoadState=loaded\nKillMode=process\nRestart=on-failure\nRestartUSec=50s\n"
    context.answers["systemctl show"] = Ran(0, debian, "")
    assert codes(supervisor.check_unit, context) == {
        "supervisor-killmode": Severity.ERROR,
        "supervisor-restart": Severity.WARNING,
    }
    good = "LoadState=loaded\nKillMode=control-group\nRestart=always\nRestartUSec=1s\n"
    context.answers["systemctl show"] = Ran(0, good, "")
    assert codes(supervisor.check_unit, context) == {"supervisor-unit": Severity.OK}


def test_systemds_time_spans_are_read() -> None:
    assert [parse_time_span(t) for t in ("1min 20s", "500ms", "50s", "1h")] == [80.0, 0.5, 50.0, 3600.0]
    assert parse_time_span("") is None and parse_time_span("infinity") is None


def test_one_program_in_two_confs_is_found(context: Scripted) -> None:
    registry = pathlib.Path(context.settings.registry.path)
    (registry / "a.conf").write_text("[program:a]\ncommand=x\n", encoding="ascii")
    assert codes(supervisor.check_names, context) == {"program-names": Severity.OK}
    (registry / "b.conf").write_text("[program:a]\ncommand=x\n", encoding="ascii")
    assert codes(supervisor.check_names, context) == {"duplicate-program": Severity.ERROR}


def test_a_program_that_may_take_longer_to_stop_than_is_waited_for_is_found(context: Scripted) -> None:
    registry = pathlib.Path(context.settings.registry.path)
    (registry / "a.conf").write_text("[program:a]\ncommand=x\nstopwaitsecs=60\n", encoding="ascii")
    (registry / "b.conf.parked").write_text("[program:b]\ncommand=x\nstopwaitsecs=600\n", encoding="ascii")
    assert codes(supervisor.check_stop_times, context) == {"stop-times": Severity.OK}
    (registry / "a.conf").write_text("[program:a]\ncommand=x\nstopwaitsecs=600\n", encoding="ascii")
    assert codes(supervisor.check_stop_times, context) == {"stop-too-long": Severity.WARNING}


# ---- the link and the machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ran", "code"),
    [
        (Ran(3, "", "ha-agent-peer: this key may do rpc and rsync into staging, not 'x'"), "ssh-forced"),
        (Ran(3, "hello\n", "ha-agent-peer: this key may do rpc and rsync into staging"), "shell-noise"),
        (Ran(127, "", f"bash: {link.FORBIDDEN}: command not found"), "ssh-unrestricted"),
        (Ran(255, "", "Host key verification failed."), "host-key"),
        (Ran(255, "", "root@x: Permission denied (publickey)."), "ssh-denied"),
        (Ran(255, "", "ssh: connect to host x port 22: Connection refused"), "ssh-failed"),
        (Ran(2, "", "ha-agent-peer: agent.toml: missing"), "peer-config"),
        (Ran(None, "", "no end after 10 s"), "ssh-failed"),
    ],
)
def test_every_way_in_which_the_peer_may_answer_is_told_apart(context: Scripted, ran: Ran, code: str) -> None:
    context.answers["ssh"] = ran
    found = list(link.check_forced_command(context))
    assert code in [f.code for f in found]
    assert all(f.remedy for f in found if f.severity is not Severity.OK)


def test_the_keys_of_the_link_are_judged(context: Scripted) -> None:
    key, known = pathlib.Path(context.settings.link.key_file), pathlib.Path(context.settings.link.known_hosts)
    assert codes(link.check_files, context) == {"ssh-key": Severity.ERROR}
    key.write_text("x", encoding="ascii")
    key.chmod(0o644)
    known.write_text("192.0.2.12 ssh-ed25519 AAAA\n", encoding="ascii")
    found = codes(link.check_files, context)
    assert found.keys() >= {"ssh-key-mode", "host-key"}
    known.write_text("node-b ssh-ed25519 AAAA\n", encoding="ascii")
    assert "host-key" not in codes(link.check_files, context)


def test_an_sshd_that_keeps_root_out_is_found(context: Scripted) -> None:
    for text, severity in (
        ("permitrootlogin no\n", Severity.ERROR),
        ("permitrootlogin yes\npasswordauthentication yes\n", Severity.WARNING),
        ("permitrootlogin forced-commands-only\n", Severity.OK),
        ("permitrootlogin without-password\n", Severity.OK),
    ):
        context.answers["sshd"] = Ran(0, text, "")
        assert list(codes(link.check_sshd, context).values()) == [severity], text


@pytest.mark.parametrize(
    ("hosts", "severity"),
    [
        ((), None),
        (("192.0.2.1",), Severity.OK),
        (("192.0.2.9",), Severity.ERROR),
        (("192.0.2.9", "192.0.2.1"), Severity.WARNING),
    ],
)
def test_what_must_answer_before_a_start_without_the_peers_word_is_asked(
    context: Scripted, hosts: tuple[str, ...], severity: Severity | None
) -> None:
    takeover = dataclasses.replace(context.settings.takeover, require_any=hosts)
    context.settings = dataclasses.replace(context.settings, takeover=takeover)
    context.is_root = True
    found = list(link.check_require_any(context))
    assert [f.severity for f in found] == ([] if severity is None else [severity])
    context.is_root = False
    assert all(f.severity is Severity.UNKNOWN for f in link.check_require_any(context))


def test_without_its_agent_a_node_says_so_and_guesses_nothing(context: Scripted) -> None:
    assert codes(link.check_link, context) == {"agent-down": Severity.ERROR}
    assert codes(supervisor.check_confs, context) == {"confs": Severity.UNKNOWN}
    assert codes(machine.check_versions, context) == codes(machine.check_agreement, context) == {}


def with_status(context: Scripted, **peer: Any) -> Scripted:
    own = {"name": "node-a", "reachable": True, "version": "9", "priority": 100, "preempt": False}
    own["registry"] = {"path": "/etc/supervisor/conf.d", "refused": {}}
    own["readiness"] = {"problems": {}, "warnings": {}}
    own["role"] = "active"
    peer = {"role": "standby", **peer}
    context.accounts = [own, {**own, "name": "node-b", "priority": 90, **peer}]
    return context


def test_nodes_that_do_not_go_together_are_found(context: Scripted) -> None:
    assert codes(machine.check_agreement, with_status(context)) == {"agreement": Severity.OK}
    assert codes(machine.check_agreement, with_status(context, priority=100)) == {"priority-equal": Severity.WARNING}
    assert codes(machine.check_maintenance, with_status(context)) == {}
    forgotten = with_status(context, maintenance={"until": 0.0})
    assert codes(machine.check_maintenance, forgotten) == {"maintenance-on": Severity.WARNING}
    assert codes(machine.check_versions, with_status(context, version="10")) == {"version-running": Severity.WARNING}
    bad = {"problems": {"x.conf": "no user"}, "warnings": {}}
    assert codes(supervisor.check_confs, with_status(context, readiness=bad)) == {"standby-not-ready": Severity.WARNING}
    on_both = with_status(
        context, role="active", readiness={"problems": {"x.conf": "no user"}, "warnings": {"y.conf": "no binary"}}
    )
    assert codes(supervisor.check_confs, on_both) == {
        "conf-not-loadable": Severity.ERROR,
        "conf-not-startable": Severity.WARNING,
    }


def test_an_agent_that_cannot_keep_its_notes_is_found(context: Scripted) -> None:
    assert codes(machine.check_notes, with_status(context)) == {"notes": Severity.OK}
    for field, code in (("notes_low", "run-full"), ("notes_problem", "notes-failing")):
        with_status(context)
        assert context.accounts is not None
        context.accounts[0][field] = "12 KiB left"
        wanted = Severity.WARNING if code == "run-full" else Severity.ERROR
        assert codes(machine.check_notes, context) == {code: wanted}


def test_modes_that_give_secrets_or_power_away_are_found(context: Scripted, tmp_path: pathlib.Path) -> None:
    state, config = pathlib.Path(context.settings.paths.state_dir), tmp_path / "agent.toml"
    config.write_text("", encoding="ascii")
    state.chmod(0o755)
    config.chmod(0o666)
    assert codes(machine.check_permissions, context).keys() == {"state-mode", "config-mode"}


def with_sink(context: Scripted, config: pathlib.Path, **sink: Any) -> Context:
    sinks = {"x": SinkSettings(**sink)}
    return Context(dataclasses.replace(context.settings, sinks=sinks), str(config))


def test_secrets_of_sinks_that_others_can_read_or_hear_are_found(context: Scripted, tmp_path: pathlib.Path) -> None:
    config, secret = tmp_path / "agent.toml", tmp_path / "secret"
    config.write_text("", encoding="ascii")
    secret.write_text("hunter2", encoding="ascii")
    config.chmod(0o644)
    secret.chmod(0o640)
    slack = "https://hooks.example/services/T0/B0/abcdefghijklmnopqrstuvwx"
    mail: dict[str, Any] = {"kind": "smtp", "host": "mail.example", "user": "ha", "secret_file": str(secret)}
    for url in (slack, "https://u:p@x/", "http://x/hook?key=1"):
        assert codes(machine.check_sinks, with_sink(context, config, kind="webhook", url=url)) == {
            "secret-mode": Severity.WARNING
        }
    assert codes(machine.check_sinks, with_sink(context, config, kind="webhook", url_file=str(secret))) == {
        "secret-mode": Severity.ERROR
    }
    secret.chmod(0o600)
    assert codes(machine.check_sinks, with_sink(context, config, **mail)) == {"sink-login": Severity.ERROR}
    good = {"sinks": Severity.OK}
    assert codes(machine.check_sinks, with_sink(context, config, kind="webhook", url="http://collector/hook")) == good
    assert codes(machine.check_sinks, with_sink(context, config, **mail, starttls=True)) == good
    assert codes(machine.check_sinks, with_sink(context, config, **mail, plain_login=True)) == good
    config.chmod(0o600)
    assert codes(machine.check_sinks, with_sink(context, config, kind="webhook", url=slack)) == good


def test_a_check_that_breaks_is_a_finding_and_keeps_no_other_from_being_made(context: Scripted) -> None:
    def broken(_: Context) -> Any:
        raise RuntimeError("oh")

    found = run_checks({"one": broken, "include": supervisor.check_include}, context)
    assert [(f.code, f.severity) for f in found] == [("check-broken", Severity.UNKNOWN), ("include", Severity.OK)]


def test_every_finding_that_is_not_well_says_what_to_do(context: Scripted, tmp_path: pathlib.Path) -> None:
    bare = dataclasses.replace(context.settings.supervisor, config=str(tmp_path / "none"))
    worse = Scripted(
        dataclasses.replace(context.settings, supervisor=bare), "agent.toml", str(tmp_path / "none"), is_root=False
    )
    worse.answers = {}
    for finding in run_checks(CHECKS, worse):
        assert finding.remedy or finding.severity in (Severity.OK, Severity.UNKNOWN), finding


def test_nagios_gets_one_line_with_the_worst_first_and_figures() -> None:
    findings = [
        Finding("a", Severity.OK, "fine"),
        Finding("b", Severity.WARNING, "hm"),
        Finding("c", Severity.ERROR, "broken | really"),
    ]
    line = nagios_line(findings)
    assert line == "HA-AGENT CRITICAL - broken / really (and 1 more) | errors=1 warnings=1 unknown=0"
    assert nagios_line(findings[:1]) == "HA-AGENT OK - 1 check | errors=0 warnings=0 unknown=0"
    assert document({"node-a": findings})["worst"] == "error"


def test_an_instance_in_an_included_file_is_found_with_conditions_and_parameters(context: Scripted) -> None:
    path = pathlib.Path(context.keepalived_conf)
    text = path.read_text(encoding="utf-8").replace("priority 100\n", "@no-such-node priority 7\n    priority $P\n")
    (path.parent / "more").mkdir()
    (path.parent / "more" / "pair.conf").write_text(text, encoding="utf-8")
    path.write_text("$P=100\ninclude more/*.conf\n", encoding="utf-8")
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.OK}


def test_a_hook_line_may_name_its_own_user(context: Scripted) -> None:
    change(context, "    script_user root\n", "    script_user nobody\n")
    assert "script-user" in codes(keepalived.check_hooks, context)
    path = pathlib.Path(context.keepalived_conf)
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(notify_\w+ \".*\")", r"\1 root", text), encoding="utf-8")
    assert "script-user" not in codes(keepalived.check_hooks, context)


def test_no_remedy_drops_what_others_have_put_into_keepalived_conf(context: Scripted) -> None:
    change(context, "priority 100\n", "priority 99\n")
    assert [f.remedy for f in keepalived.check_conf(context)] == [keepalived.WRITE]
    path = pathlib.Path(context.keepalived_conf)
    path.write_text(f"{path.read_text(encoding='utf-8')}virtual_server 192.0.2.80 80 {{\n}}\n", encoding="utf-8")
    assert "by hand" in next(iter(keepalived.check_conf(context))).remedy


def test_scripts_of_others_without_script_security_are_no_refusal(context: Scripted) -> None:
    said = "SECURITY VIOLATION - scripts are being executed but script_security not enabled."
    context.answers["keepalived -t"] = Ran(4, "", said)
    assert codes(keepalived.check_conf, context) == {"keepalived-conf": Severity.OK}
    context.answers["keepalived -t"] = Ran(4, "", f"{said}\nUnknown keyword 'x'")
    assert any("Unknown keyword" in f.text for f in keepalived.check_conf(context))
