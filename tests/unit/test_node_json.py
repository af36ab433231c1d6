"""The types of a node's account have the fields that its documented shape has."""

from __future__ import annotations

import json
import pathlib
from typing import Any, get_type_hints

import pytest

from ha_agent.core import node_json

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "status.json").read_text(encoding="ascii"))["nodes"][0]


def fields(shape: dict[str, Any]) -> set[str]:
    return {name.rstrip("?") for name in shape}


def test_an_account_and_what_is_known_of_a_silent_node_make_the_documented_entry() -> None:
    known = get_type_hints(node_json.NodeAccountJson).keys() | get_type_hints(node_json.SilentNodeJson).keys()
    assert known == fields(GOLDEN)


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("registry?", node_json.RegistryJson),
        ("replication?", node_json.ReplicationJson),
        ("readiness?", node_json.ReadinessJson),
        ("maintenance?", node_json.MaintenanceJson),
        ("standby_order?", node_json.StandbyOrderJson),
        ("votes?", node_json.VotesJson),
        ("checks?", node_json.CheckJson),
        ("payload_sync?", node_json.PayloadSyncJson),
        ("drill?", node_json.DrillJson),
        ("programs?", node_json.ProgramJson),
    ],
)
def test_each_part_has_the_documented_fields(field: str, typed: type[Any]) -> None:
    shape = GOLDEN[field]
    shape = shape[0] if isinstance(shape, list) else shape.get("or", [shape])[0]
    assert get_type_hints(typed).keys() == fields(shape)
