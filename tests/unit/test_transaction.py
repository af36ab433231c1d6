"""What a receiver accepts, and that nothing that a peer sends can do more than be refused."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.transaction import (
    MOST_JUMP,
    BadTransaction,
    ReceiverView,
    Transaction,
    Watermark,
    is_mass_deletion,
    judge_transaction,
    parse_transaction,
)
from ha_agent.core.words import Answer, Role

CONTENT = b"[program:x]\n"
SHA = hashlib.sha256(CONTENT).hexdigest()
BASE = Manifest.of([Entry(f"{n}.conf", 0o644, SHA) for n in range(6)])


def make(
    base: Manifest = BASE, puts: tuple[Entry, ...] = (Entry("new.conf", 0o644, SHA),), deletes: tuple[str, ...] = ()
) -> Transaction:
    return Transaction(3, "node-a", 1, base.hash, base.changed(puts, deletes).hash, puts, deletes, {SHA: CONTENT})


def view(role: Role = Role.STANDBY, known: Watermark = Watermark(3, "node-a"), manifest: Manifest = BASE) -> ReceiverView:  # noqa: B008
    return ReceiverView(role, known, manifest, 0.5, 3)


def test_a_good_transaction_survives_the_way_over_the_wire() -> None:
    assert parse_transaction(make().to_dict()) == make()
    assert judge_transaction(make(), view())[0] is Answer.COMMITTED


@pytest.mark.parametrize("role", [Role.ACTIVE, Role.TAKING_OVER, Role.RELEASING])
def test_nothing_is_accepted_while_this_node_is_active(role: Role) -> None:
    assert judge_transaction(make(), view(role))[0] is Answer.ACTIVE


@pytest.mark.parametrize("known", [Watermark(4, "node-a"), Watermark(3, "node-b"), Watermark(9, "node-b")])
def test_an_older_epoch_or_the_same_one_of_another_node_is_stale(known: Watermark) -> None:
    assert judge_transaction(make(), view(known=known))[0] is Answer.STALE


def test_a_newer_epoch_is_accepted() -> None:
    assert judge_transaction(make(), view(known=Watermark(2, "node-b")))[0] is Answer.COMMITTED


def test_a_change_of_another_base_needs_the_whole() -> None:
    assert judge_transaction(make(), view(manifest=EMPTY))[0] is Answer.NEED_FULL


def test_an_epoch_that_cannot_be_is_not_taken() -> None:
    above = view().known.epoch + MOST_JUMP
    assert judge_transaction(replace(make(), epoch=above), view())[0] is Answer.COMMITTED
    answer, reason = judge_transaction(replace(make(), epoch=above + 1), view())
    assert answer is Answer.BAD and "not believed" in reason


def test_a_mass_deletion_is_held_unless_it_is_meant() -> None:
    txn = make(puts=(), deletes=tuple(f"{n}.conf" for n in range(4)))
    assert judge_transaction(txn, view())[0] is Answer.HELD
    assert judge_transaction(replace(txn, intent=True), view())[0] is Answer.COMMITTED


def test_changes_that_do_not_lead_to_the_announced_manifest_are_bad() -> None:
    assert judge_transaction(replace(make(), result="0" * 64), view())[0] is Answer.BAD


@pytest.mark.parametrize(
    ("known", "deleted", "mass"),
    [(10, 5, False), (10, 6, True), (2, 1, False), (2, 2, True), (1, 1, False), (100, 2, False)],
)
def test_most_or_all_of_several_is_a_mass_deletion(known: int, deleted: int, mass: bool) -> None:
    assert is_mass_deletion(known, deleted, 0.5, 3) is mass


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", -1),
        ("epoch", "3"),
        ("epoch", 2**62),
        ("generation", 2**62),
        ("puts", [["x.conf", 0o646, SHA]]),
        ("epoch", True),
        ("claimed_by", ""),
        ("claimed_by", 5),
        ("base", "xyz"),
        ("puts", {}),
        ("puts", [["../x.conf", 0o644, SHA]]),
        ("puts", [["/x.conf", 0o644, SHA]]),
        ("puts", [["x.conf", 0o4755, SHA]]),
        ("puts", [["x.conf", -1, SHA]]),
        ("puts", [["x.conf", 0o644, "short"]]),
        ("puts", [["x.conf", 0o644]]),
        ("puts", [["x.conf", 0o644, SHA], ["x.conf", 0o600, SHA]]),
        ("puts", [["a.conf", 420, SHA], ["a.conf/b.conf", 420, SHA]]),
        ("deletes", ["new.conf"]),
        ("deletes", [5]),
        ("deletes", "x"),
        ("staging", "../../etc"),
        ("staging", "A" * 16),
        ("contents", {SHA: "!!"}),
        ("contents", {SHA: base64.b64encode(b"other").decode()}),
        ("contents", []),
    ],
)
def test_a_bad_field_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(BadTransaction):
        parse_transaction({**make().to_dict(), key: value})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(make().to_dict())), json_values), json_values)
def test_no_message_does_more_than_be_refused(fields: dict[str, object], whole: object) -> None:
    for raw in ({**make().to_dict(), **fields}, whole):
        try:
            parse_transaction(raw)
        except BadTransaction:
            continue
