"""docs/faults.md is what the tests say, and no hazard is without a test or a reason."""

from __future__ import annotations

import ast

import pytest

from tests.faults_doc import HAZARDS, ROOT, WITHOUT_TEST, read_tests, render

TESTS = list(read_tests())


def test_the_page_on_faults_is_what_the_tests_say() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert page == render(TESTS), "run: make docs"


def test_every_hazard_has_a_test_or_a_reason_why_it_has_none() -> None:
    covered = {number for test in TESTS for number in test.hazards}
    assert covered | WITHOUT_TEST.keys() == HAZARDS.keys()
    assert not covered & WITHOUT_TEST.keys()


def test_every_test_that_names_a_hazard_describes_it() -> None:
    described = {test.place.split("::")[1] for test in TESTS}
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (ast.get_docstring(node) or "").startswith("Hazard"):
                assert node.name in described, f"{path.name}: {node.name} needs Fault, Answer and Bound in its docstring"


@pytest.mark.parametrize("number", sorted(HAZARDS))
def test_a_hazard_that_is_tested_is_tested_on_the_real_thing(number: int) -> None:
    places = [test.place for test in TESTS if number in test.hazards]
    assert number in WITHOUT_TEST or any(p.startswith(("tests/cluster/", "tests/integration/")) for p in places)
