"""Epochs rise with every takeover and not with its resumption."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.plans import claim_epoch, outranks
from ha_agent.core.transaction import Watermark

marks = st.builds(Watermark, st.integers(min_value=0, max_value=9), st.sampled_from(["", "node-a", "node-b"]))


@given(marks)
def test_a_claim_outranks_all_that_is_known(known: Watermark) -> None:
    assert outranks(claim_epoch(known, "node-a", resuming=False), known)


def test_a_resumed_takeover_keeps_its_epoch() -> None:
    assert claim_epoch(Watermark(7, "node-a"), "node-a", resuming=True) == Watermark(7, "node-a")
    assert claim_epoch(Watermark(7, "node-b"), "node-a", resuming=True) == Watermark(8, "node-a")


@given(marks, marks)
def test_two_different_claims_are_ranked_the_same_on_both_nodes(a: Watermark, b: Watermark) -> None:
    assert outranks(a, b) + outranks(b, a) == (a != b)
