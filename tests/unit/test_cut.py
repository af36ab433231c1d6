"""The rules of a cut: nothing but what was named is touched, and the kernel ends it by itself."""

from __future__ import annotations

from ha_agent.adapters.cut import TABLE, make_rules


def test_every_address_is_in_its_set_with_an_end_and_is_dropped_both_ways() -> None:
    rules = make_rules(["192.0.2.12", "fd00::12", "198.51.100.2"], 51, 19.2)
    assert "four { 192.0.2.12 timeout 20s, 198.51.100.2 timeout 20s }" in rules
    assert "six { fd00::12 timeout 20s }" in rules and "adverts { 112 timeout 20s }" in rules
    for hook, side in (("input", "saddr"), ("output", "daddr")):
        assert f"add rule inet {TABLE} {hook} ip {side} @four drop" in rules
        assert f"add rule inet {TABLE} {hook} meta l4proto @adverts @th,8,8 51 drop" in rules


def test_without_a_router_no_advert_is_dropped_and_an_earlier_cut_is_replaced() -> None:
    rules = make_rules(["192.0.2.21"], None, 0.2)
    assert "@th" not in rules and "timeout 1s" in rules
    assert rules.splitlines()[:3] == [f"{verb} table inet {TABLE}" for verb in ("add", "delete", "add")]
    assert all(TABLE in row for row in rules.splitlines()), "no other table"
