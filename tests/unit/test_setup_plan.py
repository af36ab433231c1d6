"""What setup makes of a node's files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.main_conf import UnusableConf, has_own_programs, included_patterns, parse_main_conf, replace_include
from ha_agent.core.setup_plan import (
    FileChange,
    add_peer_key,
    find_address,
    find_interface,
    is_public_key,
    merge_settings,
    pin_host_key,
    remove_peer_key,
    unpin_host_key,
)

ACTIVE = "/run/ha-agent/active/*.conf"
DEBIAN = """\
; supervisor config file

[unix_http_server]
file=/var/run/supervisor.sock

[supervisord]
logfile=/var/log/supervisor/supervisord.log

; files are relative
[include]
files = /etc/supervisor/conf.d/*.conf
  /opt/more/*.conf
; end
[supervisorctl]
serverurl=unix:///var/run/supervisor.sock
"""


def test_the_include_of_the_registry_becomes_one_of_the_active_set_and_nothing_else_changes() -> None:
    made = replace_include(DEBIAN, ACTIVE)
    assert f"[include]\nfiles = {ACTIVE} /etc/supervisor/local.d/*.conf\n; end\n[supervisorctl]" in made
    assert "conf.d" not in made and "/opt/more" not in made
    assert made.split("[include]")[0] == DEBIAN.split("[include]")[0]
    assert replace_include(made, ACTIVE) == made, "once is enough"
    bare = replace_include("[supervisord]\n", ACTIVE)
    assert bare.endswith(f"[include]\nfiles = {ACTIVE} /etc/supervisor/local.d/*.conf\n")
    with pytest.raises(UnusableConf):
        replace_include("[include]\nfiles=a\n[include]\nfiles=b\n", ACTIVE)


def test_what_was_included_before_is_found_as_supervisord_finds_it() -> None:
    assert included_patterns(parse_main_conf(DEBIAN), "/etc/supervisor/supervisord.conf") == [
        "/etc/supervisor/conf.d/*.conf",
        "/opt/more/*.conf",
    ]
    text = "[include]\nfiles = %(here)s/a/*.ini rel/*.conf ; two\nx = 1\n  /not/this\n[supervisord]\nfiles = /nor/this\n"
    assert included_patterns(parse_main_conf(text), "/etc/s/main.conf") == ["/etc/s/a/*.ini", "/etc/s/rel/*.conf"]
    twice = "[include]\nfiles = a/*.conf\n[include]\nfiles = b/*.conf\n"
    assert included_patterns(parse_main_conf(twice), "/etc/s/main.conf") == ["/etc/s/b/*.conf"], "as supervisord: the last"
    with pytest.raises(UnusableConf):
        parse_main_conf("files = a\n")
    assert included_patterns(parse_main_conf("[supervisord]\n"), "/etc/s/main.conf") == []
    assert has_own_programs("[supervisord]\n[program:x]\n") and not has_own_programs(DEBIAN + ";[program:x]\n")


@given(st.text(alphabet="[]include=fls/*.\n ;#ax", max_size=80))
def test_whatever_the_main_conf_is_it_includes_the_active_set_afterwards_and_again_changes_nothing(text: str) -> None:
    try:
        made = replace_include(text, ACTIVE)
    except UnusableConf:
        return
    assert ACTIVE in made and replace_include(made, ACTIVE) == made


def test_a_peer_s_key_comes_in_beside_other_keys_and_in_place_of_its_own_older_one() -> None:
    first = add_peer_key("ssh-rsa AAAA admin\n", "ssh-ed25519 OLD ha-agent@node-b\n")
    second = add_peer_key(first, "ssh-ed25519 NEW ha-agent@node-b")
    assert second.splitlines() == [
        "ssh-rsa AAAA admin",
        'restrict,command="/usr/bin/ha-agent-peer" ssh-ed25519 NEW ha-agent@node-b',
    ]
    assert add_peer_key(second, "ssh-ed25519 NEW ha-agent@node-b") == second
    assert add_peer_key(None, "ssh-ed25519 K c").count("\n") == 1


def test_what_was_let_in_is_taken_out_alone_and_nothing_else_comes_back() -> None:
    before = "ssh-rsa REVOKED mallory\nssh-rsa AAAA admin"
    added = add_peer_key(before, "ssh-ed25519 K ha-agent@node-b")
    since = added.replace("ssh-rsa REVOKED mallory\n", "") + "ssh-rsa CCCC new-colleague\n"
    assert remove_peer_key(since) == "ssh-rsa AAAA admin\nssh-rsa CCCC new-colleague\n"
    pinned = pin_host_key("other ssh-ed25519 X\n", "node-b", "ssh-ed25519 NEW")
    assert unpin_host_key(pinned, "node-b") == "other ssh-ed25519 X\n" and unpin_host_key(pinned, "") == pinned


def test_a_host_key_is_pinned_under_the_node_s_name() -> None:
    text = pin_host_key("other ssh-ed25519 X\nnode-b ssh-ed25519 OLD\n", "node-b", "ssh-ed25519 NEW root@b")
    assert text == "other ssh-ed25519 X\nnode-b ssh-ed25519 NEW\n"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("ssh-ed25519 AAAAC3Nz ha-agent@node-a", True),
        ("ecdsa-sha2-nistp256 AAAA=", True),
        ("ssh-ed25519 AAAA x\nssh-rsa BBBB", False),
        ('ssh-ed25519 AAAA "x', False),
        ("ssh-ed25519 AAAA x\x0bssh-rsa BBBB", False),
        ("ssh-ed25519 AAAA x\u2028ssh-rsa BBBB", False),
        ("ssh-ed25519 AAAA \x1b[2J", False),
        ('command="rm -rf /" ssh-ed25519 AAAA', False),
        ("", False),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", False),
    ],
)
def test_only_one_public_key_on_one_line_is_taken_from_the_peer(text: str, good: bool) -> None:
    assert is_public_key(text) is good


def test_the_interface_and_the_address_are_those_in_the_network_of_the_vip() -> None:
    addresses = {"eth0": ["10.0.0.5/24"], "eth1": ["192.0.2.10/24", "192.0.2.11/24"]}
    assert find_interface(addresses, "192.0.2.10/24") == "eth1"
    assert find_address(addresses, "eth1", "192.0.2.10/24") == "192.0.2.11", "the VIP itself is not the node's address"
    assert find_interface(addresses, "198.51.100.1/24") is None and find_address(addresses, "eth9", "10.0.0.9/24") is None


def test_what_an_operator_has_set_stays() -> None:
    present: dict[str, dict[str, Any]] = {
        "takeover": {"start_all": True},
        "vrrp": {"vip": "192.0.2.1/24", "priority": 100},
        "log": {},
    }
    asked: dict[str, dict[str, Any]] = {
        "vrrp": {"vip": "192.0.2.9/24", "priority": 110, "router_id": 7},
        "node": {"name": "a"},
    }
    merged = merge_settings(present, asked)
    assert merged == {
        "takeover": {"start_all": True},
        "vrrp": {"vip": "192.0.2.9/24", "priority": 100, "router_id": 7},
        "node": {"name": "a"},
    }
    assert merge_settings(merged, asked) == merged


def test_several_addresses_stay_where_the_first_is_asked_for_and_go_where_another_is() -> None:
    present: dict[str, dict[str, Any]] = {
        "node": {"addresses": ["192.0.2.11", "198.51.100.11"]},
        "peer": {"addresses": ["192.0.2.12", "198.51.100.12"]},
        "vrrp": {"vips": ["192.0.2.10/24", "192.0.2.20/24"], "path_interfaces": ["eth1"], "priority": 7},
    }
    same = {"node": {"address": "192.0.2.11"}, "peer": {"address": "192.0.2.12"}, "vrrp": {"vip": "192.0.2.10/25"}}
    assert merge_settings(present, same) == present
    moved = {"node": {"address": "192.0.2.91"}, "peer": {"address": "192.0.2.92"}, "vrrp": {"vip": "192.0.2.99/24"}}
    assert merge_settings(present, moved) == {**moved, "vrrp": {"vip": "192.0.2.99/24", "priority": 7}}
    assert merge_settings(moved, present)["vrrp"] == present["vrrp"], "and several in place of one"
    assert present["vrrp"]["path_interfaces"] == ["eth1"], "what is given is left as it is"


def test_a_change_is_shown_as_a_diff() -> None:
    change = FileChange("/etc/x", "a\nb\n", "a\nc\n", 0o644)
    assert change.is_due and change.diff("node-a")[:2] == ["--- node-a:/etc/x", "+++ node-a:/etc/x"]
    assert "-b" in change.diff("node-a") and not FileChange("/etc/x", "a", "a", 0o644).is_due
    assert FileChange("/etc/x", None, "a", 0o644).diff("n")[0] == "--- /dev/null"
