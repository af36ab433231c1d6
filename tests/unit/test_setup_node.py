"""One node's part of setup: what an undo takes back, and what no peer may be called."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from ha_agent.adapters.setup_changes import SetupChanges
from ha_agent.cli.setup_cmd import Step, adopt_settings, find_path_problem, make_requests, order_steps
from ha_agent.cli.setup_node import SetupFailed, drop_ins, trusted_files
from ha_agent.core.keepalived_plan import describe_instances
from ha_agent.core.keepalived_text import parse_keepalived
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.setup_plan import PENDING_KEY, FileChange, add_peer_key, pin_host_key
from tests.unit.test_keepalived_plan import PAIR

KEY = "ssh-ed25519 AAAAC3Nz ha-agent@node-b"


def test_an_undo_brings_no_revoked_key_back(tmp_path: pathlib.Path) -> None:
    keys, known, saved = tmp_path / "authorized_keys", tmp_path / "known_hosts", tmp_path / "authorized_keys.before-ha-agent"
    saved.write_text("ssh-rsa REVOKED mallory\nssh-rsa AAAA admin\n", encoding="ascii")
    keys.write_text(add_peer_key("ssh-rsa AAAA admin\nssh-rsa CCCC since\n", KEY), encoding="ascii")
    known.write_text(pin_host_key(None, "node-b", KEY), encoding="ascii")
    os.chmod(keys, 0o600)
    other = tmp_path / "main.conf"
    other.write_text("ours", encoding="ascii")
    (tmp_path / "main.conf.kept").write_text("theirs", encoding="ascii")
    record = {str(keys): str(saved), str(known): None, str(other): str(tmp_path / "main.conf.kept"), "peer_name": "node-b"}
    (tmp_path / "record").write_text(json.dumps(record), encoding="ascii")
    changes = SetupChanges(str(tmp_path / "record"), str(tmp_path / "aside"))
    done = changes.undo("")
    assert done.aside == (str(tmp_path / "aside" / "main.conf"),) and not (tmp_path / "record").exists()
    assert keys.read_text() == "ssh-rsa AAAA admin\nssh-rsa CCCC since\n" and os.stat(keys).st_mode & 0o777 == 0o600
    assert not known.exists() and not saved.exists() and other.read_text() == "theirs"
    (tmp_path / "record").write_text(json.dumps({str(keys): None}), encoding="ascii")
    changes.undo("")
    assert keys.read_text() == "ssh-rsa AAAA admin\nssh-rsa CCCC since\n", "once more takes nothing else"


@pytest.mark.parametrize(
    "name", ["node-b ssh-ed25519 EVIL\n*", "*", "", "a,b", "@cert-authority", "-x", "node b", "a\x1b[2J", "n" * 64]
)
def test_a_peer_with_no_good_name_is_not_trusted(tmp_path: pathlib.Path, name: str) -> None:
    request = {"peer_key": KEY, "peer_host_key": KEY}
    with pytest.raises(SetupFailed, match="not the name of a node"):
        trusted_files(request, str(tmp_path / "known_hosts"), name)
    assert trusted_files(request, str(tmp_path / "known_hosts"), "node-b")[1][1] == "node-b ssh-ed25519 AAAAC3Nz\n"


def test_a_node_without_a_key_is_shown_as_one_that_will_make_it() -> None:
    fact = {"addresses": {"eth0": ["192.0.2.11/24"]}, "key": "", "host_key": KEY, "name": "node-a"}
    other = {**fact, "addresses": {"eth0": ["192.0.2.12/24"]}, "key": KEY, "name": "node-b"}
    requests = make_requests({"own": fact, "peer": other}, ["192.0.2.10/24"], None, 51, 22)
    assert (requests["own"]["peer_key"], requests["peer"]["peer_key"]) == (KEY, PENDING_KEY)
    assert json.dumps(requests)


VIP = "192.0.2.10/24"


def facts_of(address: str, name: str, *more: str, conf: str = PAIR) -> dict[str, Any]:
    """What a node says of itself that runs keepalived with ``conf``; ``more``: its addresses besides its own."""
    instances = {key: one.to_dict() for key, one in describe_instances(parse_keepalived(conf)).items()}
    return {
        "name": name, "addresses": {"eth0": [address, *more]}, "key": KEY, "host_key": KEY, "keepalived": "active",
        "instances": json.loads(json.dumps(instances)),
        "places": {"config": "/etc/supervisord.conf", "socket": "/run/supervisor.sock", "registry": "/etc/supervisord.d"},
    }  # fmt: skip


def both(own: tuple[str, ...] = (VIP,), peer: tuple[str, ...] = (), peer_conf: str = PAIR) -> dict[str, dict[str, Any]]:
    return {
        "own": facts_of("192.0.2.11/24", "node-a", *own),
        "peer": facts_of("192.0.2.12/24", "node-b", *peer, conf=peer_conf),
    }


def test_each_node_s_end_of_a_further_path_is_found() -> None:
    facts = both()
    for number, side in enumerate(facts, 11):
        facts[side]["addresses"]["eth1"] = [f"198.51.100.{number}/24"]
    requests = make_requests(facts, [VIP], None, 51, 22, {}, ["198.51.100.0/24"])
    own, peer = requests["own"]["settings"], requests["peer"]["settings"]
    assert own["node"]["addresses"] == peer["peer"]["addresses"] == ["192.0.2.11", "198.51.100.11"]
    assert own["peer"]["addresses"] == ["192.0.2.12", "198.51.100.12"] and own["vrrp"]["path_interfaces"] == ["eth1"]
    with pytest.raises(SetupFailed, match=r"no address in the network of 203\.0\.113\.0/24"):
        make_requests(facts, [VIP], None, 51, 22, {}, ["203.0.113.0/24"])


def test_a_path_comes_into_a_pair_at_work_by_hand() -> None:
    conf = FileChange("/etc/keepalived/keepalived.conf", "old", "new", 0o600)
    plans: dict[str, dict[str, Any]] = {side: {"keepalived_files": [conf.path]} for side in ("own", "peer")}
    facts: dict[str, dict[str, Any]] = {side: {"agent": "active", "keepalived": "active"} for side in plans}
    due: dict[str, list[FileChange]] = {"own": [], "peer": [conf]}
    assert "a switchover" in (find_path_problem(facts, due, plans) or "")
    assert find_path_problem(facts, {"own": [], "peer": []}, plans) is None, "it is there already"
    facts["own"]["agent"] = "inactive"
    assert find_path_problem(facts, due, plans) is None, "there is no pair yet"


def test_an_adopted_instance_says_what_agent_toml_has() -> None:
    facts = both(peer_conf=PAIR.replace("priority 101", "priority 90"))
    adopted = adopt_settings(facts, "VI_1", None)
    requests = make_requests(facts, [VIP], None, 77, 22, adopted)
    vrrp = {side: request["settings"]["vrrp"] for side, request in requests.items()}
    assert (vrrp["own"]["priority"], vrrp["peer"]["priority"]) == (101, 90)
    assert vrrp["own"]["instance"] == "VI_1" and vrrp["own"]["router_id"] == 51 and vrrp["own"]["nopreempt"] is False
    assert requests["own"]["settings"]["supervisor"] == {"config": "/etc/supervisord.conf"}, "what is usual is not said"
    assert requests["own"]["settings"]["registry"] == {"path": "/etc/supervisord.d"}
    facts["peer"]["places"] = {
        "config": "/etc/supervisor/supervisord.conf",
        "socket": "",
        "registry": "/etc/supervisor/conf.d",
    }
    other = make_requests(facts, [VIP], None, 77, 22, adopted)["peer"]["settings"]
    assert other["registry"] == {"path": "/etc/supervisord.d"} and "supervisor" not in other, "one directory for both"


def test_an_instance_is_not_adopted_where_the_nodes_differ_or_the_address_is_on_the_other() -> None:
    for facts, said in (
        (both(peer_conf=PAIR.replace("auth_pass 1111", "auth_pass 1")), "authentication"),
        (both(peer_conf=""), "node-b has no vrrp_instance VI_1"),
        (both((), (VIP,)), "is on node-b: run setup there"),
    ):
        with pytest.raises(SetupFailed, match=said):
            adopt_settings(facts, "VI_1", None)


def steps(facts: dict[str, dict[str, Any]], *, changed: bool = True, added: bool = False) -> list[Step]:
    conf = FileChange("/etc/keepalived/keepalived.conf", "", "x", 0o644)
    due = {side: [conf] if changed else [] for side in ("own", "peer")}
    plan = {"keepalived_files": [conf.path], "is_added": added}
    return order_steps(facts, due, {"own": plan, "peer": plan}, VIP)


def test_where_both_run_keepalived_the_one_without_the_address_is_silent_first() -> None:
    for facts, first, other in ((both(), "own", "peer"), (both((), (VIP,)), "peer", "own")):
        found = steps(facts)
        assert found[0] == Step(other, "keepalived", "stop")
        order = [(step.side, step.how) for step in found if step.unit == "keepalived" or step.how in ("active", "pair")]
        assert order[1:] == [(first, "changed"), (first, "active"), (other, "changed"), (other, "pair")]
        agents = [index for index, step in enumerate(found) if step.unit == "agent"]
        assert max(agents) < found.index(Step(first, "keepalived", "changed")), "the agents know each other before"


def test_nobody_is_silent_where_nothing_changes_or_ours_is_added_beside_others() -> None:
    for found in (steps(both(), changed=False), steps(both(), added=True)):
        assert all(step.how != "stop" for step in found)
    idle = both()
    idle["peer"]["keepalived"] = "inactive"
    assert all(step.how != "stop" for step in steps(idle))


def test_the_units_are_told_of_a_supervisord_that_is_no_debian_s() -> None:
    usual = dict(drop_ins("supervisor", SupervisorSettings()))
    assert len(usual) == 2 and "After=ha-agent.service supervisor.service" in "".join(usual.values())
    other = dict(drop_ins("supervisord", SupervisorSettings(socket="/run/s.sock", config="/etc/supervisord.conf")))
    folder = "/etc/systemd/system"
    assert f"{folder}/supervisord.service.d/ha-agent.conf" in other and "supervisor.service" not in "".join(other.values())
    fence = other[f"{folder}/ha-agent-fence.service.d/ha-agent.conf"]
    assert 'Environment="HA_AGENT_SUPERVISOR_UNIT=supervisord"' in fence and "CONF=/etc/supervisord.conf" in fence
