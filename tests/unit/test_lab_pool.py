"""Which lab a test is given, and that no lab is forgotten."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.lab.control import Lab
from tests.lab_picture import Picture
from tests.lab_pool import Pool, Resting


class FakeLab:
    """Knows whether it is up."""

    def __init__(self, labs: list[FakeLab]) -> None:
        self.is_up = True
        labs.append(self)

    def down(self) -> None:
        self.is_up = False


def resting(labs: list[FakeLab], options: str) -> Resting:
    return Resting(cast(Lab, FakeLab(labs)), options, Picture({}))


def test_a_lab_is_handed_on_to_whoever_asks_for_the_same_options_and_to_one_alone() -> None:
    pool, labs = Pool(), list[FakeLab]()
    kept = resting(labs, "{}")
    pool.keep(kept)
    assert pool.take("{}") is kept and pool.take("{}") is None and labs[0].is_up


def test_a_lab_of_other_options_is_taken_down() -> None:
    pool, labs = Pool(), list[FakeLab]()
    pool.keep(resting(labs, "{}"))
    assert pool.take('{"witness": "ssh"}') is None and not labs[0].is_up


@given(st.lists(st.tuples(st.sampled_from(["take", "keep", "close"]), st.sampled_from("ab"))))
def test_at_most_one_lab_rests_and_none_is_forgotten(acts: list[tuple[str, str]]) -> None:
    pool, labs, given_out = Pool(), list[FakeLab](), list[Any]()
    for act, options in acts:
        if act == "take" and (taken := pool.take(options)) is not None:
            assert taken.options == options
            given_out.append(taken.lab)
        elif act == "keep":
            pool.keep(resting(labs, options))
        elif act == "close":
            pool.close()
        assert sum(lab.is_up for lab in labs if lab not in given_out) <= 1
    pool.close()
    assert [lab for lab in labs if lab.is_up] == given_out


def test_a_picture_names_what_is_otherwise() -> None:
    before = Picture({"a": "1", "b": "2", "c": "3"})
    assert before.list_differences(Picture({"a": "1", "b": "x", "d": "4"})) == ["b", "c", "d"]
    assert before.list_differences(before) == []
