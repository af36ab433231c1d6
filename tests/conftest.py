"""Rules for the whole suite: a test that was skipped counts as failed, because nothing was shown by it.

Where tests run in several workers, each report comes to the process that gave them out, too: that one judges.
"""

from __future__ import annotations

import os

import hypothesis
import pytest

_skipped: list[str] = []

# How long an example takes on a machine with other work is no promise of the code under test.
hypothesis.settings.register_profile("shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# `make check` is run before each commit; `make test` runs the same tests with as many examples as hypothesis has by default.
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("shared"), max_examples=25)
hypothesis.settings.load_profile(os.environ.get("HA_AGENT_HYPOTHESIS", "shared"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each core, because labs wait more than they work; none where only single tests are named."""
    named = config.args
    return 0 if named and all("::" in name for name in named) else 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a thing of the machine must share a worker: a pytest-xdist that does not group them is no use."""
    if config.getoption("loadgroup", False):
        alone = [item.nodeid for item in items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid]
        if alone:
            raise pytest.UsageError(f"pytest-xdist does not keep groups with pytest {pytest.__version__}: {alone[0]}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nskipped tests count as failed: " + ", ".join(_skipped))
