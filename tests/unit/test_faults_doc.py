"""docs/faults.md is what the tests say, and no hazard is without a test or a reason."""

from __future__ import annotations

import functools

import pytest

from tests.faults_doc import HAZARDS, ROOT, WITHOUT_TEST, FaultTest, read_docstrings, read_tests, render


@functools.cache
def all_tests() -> list[FaultTest]:
    """Read by the worker that needs them, not by each that collects."""
    return list(read_tests())


def test_the_page_on_faults_is_what_the_tests_say() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert page == render(all_tests()), "run: make docs"


def test_every_hazard_has_a_test_or_a_reason_why_it_has_none() -> None:
    covered = {number for test in all_tests() for number in test.hazards}
    assert covered | WITHOUT_TEST.keys() == HAZARDS.keys()
    assert not covered & WITHOUT_TEST.keys()


def test_every_test_that_names_a_hazard_describes_it() -> None:
    described = {test.place.split("::")[1] for test in all_tests()}
    for path, function, text in read_docstrings("Hazard"):
        if text.startswith("Hazard"):
            assert function in described, f"{path.name}: {function} needs Fault, Answer and Bound in its docstring"


@pytest.mark.parametrize("number", sorted(HAZARDS))
def test_a_hazard_that_is_tested_is_tested_on_the_real_thing(number: int) -> None:
    places = [test.place for test in all_tests() if number in test.hazards]
    assert number in WITHOUT_TEST or any(p.startswith(("tests/cluster/", "tests/integration/")) for p in places)
