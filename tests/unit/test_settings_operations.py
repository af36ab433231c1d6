"""agent.toml beside the other node's: what differs, and what of it may be set from there."""

from __future__ import annotations

import asyncio
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from ha_agent.adapters.store import History
from ha_agent.core.requests import Request, SettingsApplyRequest
from ha_agent.core.schema import NOT_SHOWN
from ha_agent.core.settings import Settings, check_settings
from ha_agent.core.settings_compare import Kind, compare_settings, keys_to_agree, values_in_force, values_to_agree
from ha_agent.core.settings_sample import sample_toml
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.operations.settings import SettingsOperations
from ha_agent.daemon.role.maintenance import Maintenance
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_operations import operator

A, B = ("node-a", "192.0.2.11"), ("node-b", "192.0.2.12")


def raw(me: tuple[str, str], other: tuple[str, str], **sections: dict[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {
        "node": {"name": me[0], "address": me[1]},
        "peer": {"name": other[0], "address": other[1]},
        "vrrp": {"vip": "192.0.2.10/24"},
    }
    for section, values in sections.items():
        tables[section] = {**tables.get(section, {}), **values}
    return tables


def compare(own: dict[str, Any], peer: dict[str, Any]) -> list[tuple[str, Kind]]:
    one, other = check_settings(own), check_settings(peer)
    rows = compare_settings(values_in_force(one), values_in_force(other), keys_to_agree(one))
    return [(row.key, row.kind) for row in rows]


def test_what_is_each_nodes_own_is_no_difference() -> None:
    ours = raw(A, B, vrrp={"priority": 110, "interface": "eth1"}, peer={"ssh_port": 2222})
    assert compare(ours, raw(B, A)) == []


def test_several_addresses_of_either_kind_are_compared_as_what_they_mean() -> None:
    both = ["192.0.2.10/24", "2001:db8::10/64"]
    mine, theirs = ["192.0.2.11", "198.51.100.11"], ["192.0.2.12", "198.51.100.12"]

    def several(own: list[str], peer: list[str], vips: list[str]) -> dict[str, Any]:
        tables = raw(A if own is mine else B, B if own is mine else A)
        del tables["node"]["address"], tables["peer"]["address"], tables["vrrp"]["vip"]
        tables["node"]["addresses"], tables["peer"]["addresses"], tables["vrrp"]["vips"] = own, peer, vips
        tables["vrrp"]["path_interfaces"] = ["eth1" if own is mine else "ens5"]
        return tables

    hook = {"hooks": {"data": {"at": ["before_start"], "command": ["/bin/true"]}}}
    assert compare(several(mine, theirs, both), several(theirs, mine, both)) == []
    assert compare(several(mine, theirs, both), several(theirs, mine, both[:1])) == [("vrrp.vips", Kind.MUST_AGREE)]
    assert compare(several(mine, theirs, both), several(theirs, mine[::-1], both)) == [("node.addresses", Kind.MUST_NAME)]
    assert {kind for _, kind in compare({**raw(A, B), **hook}, raw(B, A))} == {Kind.MAY_DIFFER}
    to_agree = values_to_agree(check_settings(several(mine, theirs, both)))
    assert to_agree["vrrp.vips"] == both and "vrrp.vip" not in to_agree


def test_what_must_agree_is_told_first_and_the_rest_after_that() -> None:
    ours = raw(A, B, vrrp={"router_id": 7}, log={"level": "debug"}, registry={"path": "/srv/confs"})
    theirs = raw(B, ("node-x", A[1]), sinks={"mail": {"kind": "journal"}})
    assert compare(ours, theirs) == [
        ("registry.path", Kind.MUST_AGREE),
        ("vrrp.router_id", Kind.MUST_AGREE),
        ("node.name", Kind.MUST_NAME),
        ("log.level", Kind.MAY_DIFFER),
        *((f"sinks.mail.{key}", Kind.MAY_DIFFER) for key in sorted(SINK_KEYS)),
    ]


SINK_KEYS = {
    key.rpartition(".")[2]
    for key in values_in_force(check_settings(raw(A, B, sinks={"x": {"kind": "journal"}})))
    if key.startswith("sinks.x.")
}


def test_a_secret_is_not_shown() -> None:
    sink = {"kind": "webhook", "url": "https://hooks.example/s3cret"}
    values = values_in_force(check_settings(raw(A, B, sinks={"x": sink, "y": {"kind": "journal"}})))
    assert values["sinks.x.url"] == NOT_SHOWN and values["sinks.y.url"] == ""
    assert "s3cret" not in str(values)


def test_a_peer_sees_that_there_is_a_command_and_not_its_words() -> None:
    fence = {"fence_command": ["/usr/sbin/fence_ipmilan", "-p", "s3cret"]}
    settings = check_settings(raw(A, B, takeover=fence, sinks={"x": {"kind": "command", "command": ["/bin/x", "s3cret"]}}))
    assert values_in_force(settings)["takeover.fence_command"][-1] == "s3cret", "whoever may read the file"
    shown = values_in_force(settings, to_peer=True)
    assert "s3cret" not in str(shown) and shown["takeover.fence_command"] == NOT_SHOWN == shown["sinks.x.command"]


def test_what_may_be_set_from_the_peer_names_no_command_no_file_and_no_place() -> None:
    """A fixed list, which this test has a second time: whoever adds to it must go through docs/authority.md."""
    assert set(values_to_agree(check_settings(raw(A, B)))) == {
        "vrrp.vip",
        "vrrp.router_id",
        "vrrp.advert_int_s",
        "vrrp.nopreempt",
        "takeover.on_interlock_timeout",
        "takeover.start_all",
        "registry.mass_delete_fraction",
        "registry.mass_delete_minimum",
    }


class Desk:
    """The operations of node-b over a real file; ``here``: the addresses of its machine."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / "agent.toml"
        self.text = sample_toml(
            {
                **{("node", k): v for k, v in zip(("name", "address"), B, strict=True)},
                **{("peer", k): v for k, v in zip(("name", "address"), A, strict=True)},
                ("vrrp", "vip"): "192.0.2.10/24",
            }
        )
        self.path.write_text(self.text)
        self.reloads = 0
        self.here: set[str] = {B[1]}
        history = History(str(directory), "node-b", 10**6)
        self.standing = Standing("node-b", str(directory / "role.json"))
        self.maintenance = Maintenance(str(directory / "m.json"), Events(history), lambda: 1000.0, lambda: 10.0)
        self.history = history
        self.operations = self.begin(check_settings(raw(B, A)))

    def begin(self, settings: Settings) -> SettingsOperations:
        """The operations of an agent that was started with ``settings``."""
        return SettingsOperations(
            str(self.path),
            settings,
            self.standing,
            self.maintenance,
            Events(self.history),
            lambda address: address in self.here,
            self._reload,
        )

    def _reload(self) -> None:
        self.reloads += 1

    def apply(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return asyncio.run(self.operations.apply(SettingsApplyRequest(values), operator("root", 0)))


def test_values_are_set_the_former_file_is_kept_and_the_agent_begins_anew(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    answer = desk.apply({"vrrp.router_id": 7, "takeover.on_interlock_timeout": "hold", "vrrp.nopreempt": True})
    assert answer["outcome"] == Outcome.DONE
    assert answer["changed"] == ["takeover.on_interlock_timeout", "vrrp.router_id"] and desk.reloads == 1
    text = desk.path.read_text()
    assert "\nrouter_id = 7\n" in text and '\non_interlock_timeout = "hold"\n' in text
    assert pathlib.Path(answer["kept"]).read_text() == desk.text
    (event,) = desk.history.read(10)
    assert event["code"] == "settings-applied" and event["by"] == "root" and "vrrp.router_id = 7" in event["text"]


def test_an_address_is_added_and_taken_away_and_the_other_key_becomes_a_comment(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    both = ["192.0.2.10/24", "192.0.2.20/24"]
    answer = desk.apply({"vrrp.vips": both})
    assert (answer["outcome"], answer["changed"]) == (Outcome.DONE, ["vrrp.vips"])
    text = desk.path.read_text()
    assert '\nvips = ["192.0.2.10/24", "192.0.2.20/24"]\n' in text and '\n#vip = "192.0.2.10/24"' in text
    settings = check_settings(tomllib.loads(text))
    desk.operations = desk.begin(settings)
    assert desk.apply({"vrrp.vips": both}) == {"outcome": Outcome.DONE, "changed": [], "kept": None}
    assert desk.apply({"vrrp.vip": "192.0.2.10/24"})["changed"] == ["vrrp.vip"]
    assert check_settings(tomllib.loads(desk.path.read_text())).vrrp.all_vips == ("192.0.2.10/24",)


def test_what_is_so_already_changes_nothing(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    assert desk.apply({"vrrp.router_id": 51}) == {"outcome": Outcome.DONE, "changed": [], "kept": None}
    assert desk.reloads == 0 and desk.path.read_text() == desk.text and desk.history.read(10) == []


@pytest.mark.parametrize(
    "values",
    [
        {"takeover.fence_command": ["/bin/sh", "-c", "id"]},
        {"vrrp.stop_command": ["/bin/true"]},
        {"registry.path": "/etc/ld.so.conf.d"},
        {"link.known_hosts": "/tmp/x"},
        {"node.name": "x"},
        {"sinks.x.kind": "command"},
        {"vrrp.router_id": 7, "paths.state_dir": "/tmp"},
        {"vrrp.router_id": "7"},
        {"vrrp.router_id": 4000},
        {"vrrp.vip": '192.0.2.10/24"\n[takeover]\nfence_command = ["/bin/sh"]\n#'},
        {"vrrp.vip": {"x": 1}},
        {"vrrp.vip": None},
        {"vrrp.advert_int_s": float("nan")},
        {"vrrp.vips": ["192.0.2.10/24", "192.0.2.77/24"]},
        {"vrrp.vips": ["192.0.2.10/24", "192.0.2.11/24"]},
        {"vrrp.vips": ["192.0.2.10/24", 7]},
        {"vrrp.vips": []},
        {"vrrp.vips": "192.0.2.20/24", "vrrp.vip": "192.0.2.20/24"},
        {"vrrp.vips": ["192.0.2.20/24"], "vrrp.vip": "192.0.2.20/24"},
        {"vrrp.vip": "192.0.2.12/24"},
        {"vrrp.vip": "192.0.2.11/24"},
        {"vrrp.vip": "192.0.2.77/24"},
        {"": 1},
        {"vrrp": {"vip": "192.0.2.20/24"}},
    ],
)
def test_what_the_peers_key_must_not_set_is_refused_and_nothing_has_changed(
    tmp_path: pathlib.Path, values: Mapping[str, Any]
) -> None:
    desk = Desk(tmp_path)
    desk.here.add("192.0.2.77")
    assert desk.apply(values)["outcome"] == Outcome.REFUSED
    assert desk.path.read_text() == desk.text and desk.reloads == 0
    assert not list(tmp_path.glob("agent.toml.*"))


def test_an_active_node_keeps_its_vip_unless_it_is_in_maintenance(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    desk.standing.role = Role.ACTIVE
    assert "ha-agent maintenance on" in desk.apply({"vrrp.vip": "192.0.2.20/24"})["reason"]
    assert desk.apply({"takeover.start_all": True})["outcome"] == Outcome.DONE
    desk.maintenance.begin(60.0, "new address", "root")
    assert desk.apply({"vrrp.vip": "192.0.2.20/24"})["outcome"] == Outcome.DONE
    desk.here.add("192.0.2.30")
    assert desk.apply({"vrrp.vip": "192.0.2.30/24"})["outcome"] == Outcome.REFUSED


def test_a_file_that_is_broken_or_gone_is_said(tmp_path: pathlib.Path) -> None:
    desk = Desk(tmp_path)
    desk.path.write_text(desk.text + "nonsense\n")
    answer = desk.apply({"vrrp.router_id": 7})
    assert answer["outcome"] == Outcome.REFUSED and str(desk.path) in answer["reason"]
    desk.path.unlink()
    assert desk.apply({"vrrp.router_id": 7})["outcome"] == Outcome.FAILED


def test_what_is_in_force_is_shown(tmp_path: pathlib.Path) -> None:
    answer = asyncio.run(Desk(tmp_path).operations.show(Request(), operator()))
    assert answer["values"]["vrrp.router_id"] == 51 and answer["path"].endswith("agent.toml")
    assert answer["values"]["vrrp.stop_command"] != NOT_SHOWN
    there = asyncio.run(Desk(tmp_path).operations.show(Request(), operator(uid=None)))
    assert there["values"]["vrrp.stop_command"] == NOT_SHOWN
