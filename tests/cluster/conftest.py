"""A pair for every test that asks for one: a fresh one, or one of the pool's where the test is marked ``shared_lab``."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import pytest

from ha_agent.lab.layout import fresh_directory
from tests.lab_pool import Pool, SharedPair
from tests.lab_support import Pair

FATE = "what became of the shared lab"

_fates: collections.Counter[str] = collections.Counter()


def is_shared(item: pytest.Item) -> bool:
    """Whether a test can do with a lab that another one has used."""
    return item.get_closest_marker("shared_lab") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share labs come first, each kind together: after the last of them no lab rests beside the others."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[bool, str]:
    """The mark's argument is the kind of lab, where it is not the usual one."""
    mark = item.get_closest_marker("shared_lab")
    return mark is None, str(mark.args[0]) if mark is not None and mark.args else ""


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """The labs that this worker's tests hand on to one another."""
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def pair(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Pair]:
    """A pair that is not up yet; taken down or handed on afterwards, and judged by the probe."""
    if is_shared(request.node):
        yield from _share(request, pool)
        return
    pool.close()
    made = Pair(fresh_directory("test"))
    try:
        yield made
    finally:
        made.down()
    made.check_invariant()


def _share(request: pytest.FixtureRequest, pool: Pool) -> Iterator[Pair]:
    made = SharedPair(pool)
    failed_before = request.session.testsfailed
    try:
        yield made
    finally:
        made.end(passed=request.session.testsfailed == failed_before)
        request.node.user_properties.append((FATE, made.fate))
    made.check_invariant()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _fates.update(str(said) for name, said in report.user_properties if name == FATE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how often labs were handed on, and what kept others from it."""
    for said, count in _fates.most_common():
        terminalreporter.write_line(f"shared lab, {count} times: {said}")
