"""docs/degraded.md has a section for every state that is made, with what is to be done about it."""

from __future__ import annotations

import pathlib

from tests.cluster.degraded_states import ALONE, BY_STANDBY, NAMES, OF_PAIR
from tests.degraded_page import PAGE, read_sections

LEAST = 25
"""So many states were asked for."""


def test_the_page_has_every_state_in_the_order_of_the_table() -> None:
    assert list(read_sections()) == [name.lower() for name in NAMES] and len(NAMES) == len(set(NAMES)) >= LEAST


def test_every_problem_of_the_page_has_its_code_and_its_remedy() -> None:
    sections = read_sections()
    for state in (*BY_STANDBY, *OF_PAIR):
        section = sections[state.name.lower()]
        if state.code:
            assert f"- `{state.code}` ({state.severity}): " in section and "- Do: \n" not in section, section
        else:
            assert "- No problem." in section, section


def test_what_has_a_pair_of_its_own_names_a_test_that_there_is() -> None:
    source = (PAGE.parents[1] / "tests" / "cluster" / "test_degraded.py").read_text(encoding="utf-8")
    assert all(f"def {test}(" in source for test in ALONE.values())


def test_the_operators_page_names_it() -> None:
    assert "degraded.md" in (pathlib.Path(PAGE.parent) / "operations.md").read_text(encoding="utf-8")
