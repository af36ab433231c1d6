"""``witness install``: what is written on the host and on a node, what is refused, and that the way back leaves no trace."""

from __future__ import annotations

import base64
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent import witness_host
from ha_agent.cli.setup_node import SetupFailed
from ha_agent.cli.setup_witness import WitnessPartFailed, plan_node
from ha_agent.cli.witness_install import check_host, check_settings_allow, check_sides, find_line_of_peer
from ha_agent.core.schema import SettingsError
from ha_agent.core.setup_plan import FileChange
from ha_agent.core.witness_plan import (
    PROGRAM,
    HostFiles,
    NotOurs,
    command_of,
    keys_of,
    let_in,
    plan_host,
    plan_host_removal,
)
from ha_agent.core.witness_settings import WitnessSettings


def key(number: int, comment: str = "") -> str:
    text = base64.b64encode(f"key {number}".encode()).decode()
    return f"ssh-ed25519 {text} {comment}".strip()


A, B = key(1, "ha-agent@node-a"), key(2, "ha-agent@node-b")
FOREIGN = key(9, "ha-agent@elsewhere")
ADMIN = "ssh-rsa AAAAB3 admin\n"
COMMAND = command_of("/usr/bin/python3", "node-a+node-b")


def files(authorized: str | None = None, program: str | None = None) -> HostFiles:
    return HostFiles("/usr/bin/python3", "/home/x/.ssh/authorized_keys", authorized, program)


def test_each_key_gets_a_line_that_reaches_one_record_and_nothing_else() -> None:
    program, authorized = plan_host(files(ADMIN), "the program", "node-a+node-b", [A, B])
    assert (program.path, program.old, program.new) == (PROGRAM, None, "the program")
    assert authorized.new == ADMIN + "".join(
        f'restrict,command="/usr/bin/python3 -I -S {PROGRAM} --record node-a+node-b" {k}\n' for k in (A, B)
    )


def test_done_again_nothing_is_due() -> None:
    done = plan_host(files(ADMIN), "the program", "r", [A, B])
    again = plan_host(files(done[1].new, done[0].new), "the program", "r", [A, B])
    assert not any(change.is_due for change in again)


def test_a_record_that_other_keys_reach_is_left_alone_unless_they_are_said_to_be_former_ones() -> None:
    taken = let_in(ADMIN, COMMAND, "node-a+node-b", [FOREIGN])
    with pytest.raises(NotOurs, match="ha-agent@elsewhere"):
        plan_host(files(taken), "p", "node-a+node-b", [A, B])
    replaced = plan_host(files(taken), "p", "node-a+node-b", [A, B], replace=True)[1].new or ""
    assert keys_of(replaced, "node-a+node-b") == [A, B]
    assert plan_host(files(taken), "p", "another", [A, B])[1].new is not None, "another record is no matter"


def test_a_key_of_two_lines_is_refused() -> None:
    for wrong in ("ssh-ed25519 AAAA\nssh-rsa BBBB", "", 'command="x" ssh-ed25519 AAAA'):
        with pytest.raises(ValueError, match="not a public key"):
            plan_host(files(), "p", "r", [A, wrong])


def test_a_line_that_another_program_of_the_record_has_is_replaced_not_doubled() -> None:
    """A host with the package that an operator had set up by hand."""
    by_hand = f'restrict,command="/usr/bin/ha-agent-witness --record r" {A}\n'
    text = let_in(by_hand, command_of("/usr/bin/python3", "r"), "r", [A, B])
    assert keys_of(text, "r") == [A, B] and "/usr/bin/ha-agent-witness" not in text


@given(st.lists(st.sampled_from(["r", "s", "r2"]), max_size=4), st.booleans())
def test_the_way_back_leaves_what_others_have(records: list[str], has_admin: bool) -> None:
    text = ADMIN if has_admin else None
    for number, record in enumerate(records):
        if record != "r":
            present = keys_of(text or "", record)
            text = let_in(text, command_of("/usr/bin/python3", record), record, [*present, key(10 + number)])
    there = plan_host(files(text, "p" if text and PROGRAM in text else None), "p", "r", [A, B])
    back = plan_host_removal(files(there[1].new, "p"), "r")
    assert back[0].new == text
    gone = [change for change in back if change.path == PROGRAM]
    assert bool(gone) == (PROGRAM not in (text or "")) and all(change.new is None for change in gone)


def test_one_node_alone_leaves_the_other_nodes_line() -> None:
    both = keys_of(let_in(None, command_of("p", "r"), "r", [A, B]), "r")
    assert find_line_of_peer(both, B) == [A]
    assert find_line_of_peer([key(7, "ha-agent@node-b"), A], B) == [A], "a former key of this node goes"
    assert find_line_of_peer([A, FOREIGN], B) == [], "whose they are is not known"
    kept = let_in(let_in(None, command_of("p", "r"), "r", [A]), command_of("p", "r"), "r", [B], [A])
    assert keys_of(kept, "r") == [A, B]


# ---- who is who -------------------------------------------------------------------------------------------------


def look(name: str, peer_name: str, **other: Any) -> dict[str, Any]:
    usual = {"record": "r", "kind": "", "host": "", "port": 22, "user": "u", "addresses": ["192.0.2.12", "192.0.2.10"]}
    known = {"name": name, "peer": peer_name, "host_key": f"ssh-ed25519 {name}", "boot_id": name}
    return {**known, **usual, **other}


def seen(**peer: Any) -> dict[str, dict[str, Any]]:
    return {"own": look("a", "b"), "peer": look("b", "a", **peer)}


def host(address: str = "192.0.2.21", host_key: str = "ssh-ed25519 witness") -> Any:
    return SimpleNamespace(name="w", address=address, key=host_key)


THERE = {"version": [3, 7], "boot_id": "w"}


@pytest.mark.parametrize(
    ("there", "at"),
    [
        ({}, host(address="192.0.2.12")),
        ({}, host(address="192.0.2.10")),
        ({}, host(host_key="ssh-ed25519 b")),
        ({"version": [3, 6]}, host()),
    ],
    ids=["peer's address", "VIP", "peer's host key", "old Python"],
)
def test_a_host_that_is_no_third_opinion_is_refused(there: dict[str, Any], at: Any) -> None:
    check_host(THERE, host(), seen())
    with pytest.raises(SetupFailed):
        check_host({**THERE, **there}, at, seen())


def test_a_container_on_a_node_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    check_host({**THERE, "boot_id": "b"}, host(), seen())
    assert "same kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    "peer",
    [{"peer": "c"}, {"record": "other"}, {"user": "other"}, {"kind": "etcd"}, {"kind": "ssh", "host": "x"}],
    ids=lambda peer: next(iter(peer)),
)
def test_two_nodes_that_are_not_agreed_are_refused(peer: dict[str, Any]) -> None:
    check_sides(seen(), "h", 22, remove=False)
    check_sides(seen(kind="ssh", host="h"), "h", 22, remove=False)
    with pytest.raises(SetupFailed):
        check_sides(seen(**peer), "h", 22, remove=False)


def test_a_second_host_is_refused_while_one_is_configured() -> None:
    """While one node asks the one and the other node the other, a vote counts twice."""
    check_settings_allow(WitnessSettings(), "h", 22, remove=False)
    check_settings_allow(WitnessSettings(kind="ssh", host="h"), "h", 22, remove=False)
    with pytest.raises(SetupFailed, match="a vote would count twice"):
        check_settings_allow(WitnessSettings(kind="ssh", host="x"), "h", 22, remove=False)
    with pytest.raises(SetupFailed, match="etcd"):
        check_settings_allow(WitnessSettings(kind="etcd"), "h", 22, remove=False)


# ---- a node's files ---------------------------------------------------------------------------------------------

AGENT_TOML = """\
[node]
name = "node-a"
address = "192.0.2.11"
[peer]
name = "node-b"
address = "192.0.2.12"
[vrrp]
vip = "192.0.2.10/24"
interface = "eth0"  # as it is
[witness]
known_hosts = "{known_hosts}"
"""


@pytest.fixture
def agent_toml(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "agent.toml"
    path.write_text(AGENT_TOML.format(known_hosts=tmp_path / "known_hosts"), encoding="utf-8")
    return path


def node_request(**other: Any) -> dict[str, Any]:
    return {"host": "192.0.2.21", "port": 22, "host_key": key(5), **other}


def test_a_node_gets_the_host_key_and_the_section_and_all_else_stays(agent_toml: pathlib.Path) -> None:
    before = agent_toml.read_text(encoding="utf-8")
    known, conf = plan_node(node_request(), str(agent_toml))
    assert known.new == f"192.0.2.21 {key(5)}\n"
    assert conf.new == before + 'kind = "ssh"\nhost = "192.0.2.21"\n'
    agent_toml.write_text(conf.new, encoding="utf-8")
    (agent_toml.parent / "known_hosts").write_text(known.new + "node-b ssh-ed25519 X\n", encoding="ascii")
    again = plan_node(node_request(), str(agent_toml))
    assert again[1].new == conf.new
    back = plan_node(node_request(remove=True), str(agent_toml))
    assert [change.new for change in back] == ["node-b ssh-ed25519 X\n", conf.new.replace('"ssh"', '""')]


def test_a_node_of_the_pair_is_refused_by_its_address_and_a_wrong_host_key_is_no_line(agent_toml: pathlib.Path) -> None:
    with pytest.raises(SettingsError):
        plan_node(node_request(host="192.0.2.12"), str(agent_toml))
    with pytest.raises(WitnessPartFailed):
        plan_node(node_request(host_key="ssh-ed25519 A\n* ssh-rsa B"), str(agent_toml))


# ---- at the host ------------------------------------------------------------------------------------------------


def test_what_has_changed_since_it_was_shown_is_not_written(tmp_path: pathlib.Path) -> None:
    one, two = tmp_path / "one", tmp_path / "new" / "two"
    one.write_text("old", encoding="ascii")
    one.chmod(0o640)
    changes = [FileChange(str(two), None, "two", 0o644).to_dict(), FileChange(str(one), "old", "new", 0o600).to_dict()]
    witness_host.change_files(changes)
    assert (one.read_text(), two.read_text(), one.stat().st_mode & 0o777, two.stat().st_mode & 0o777) == (
        "new",
        "two",
        0o640,
        0o644,
    )
    one.write_text("somebody else's", encoding="ascii")
    two.unlink()
    with pytest.raises(witness_host.Failed, match="nothing was written"):
        witness_host.change_files(changes)
    assert not two.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["new", "one"]
