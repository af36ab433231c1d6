"""A fresh pair for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ha_agent.lab.layout import fresh_directory
from tests.lab_support import Pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair that is not up yet; taken down afterwards, and judged by the probe."""
    made = Pair(fresh_directory("test"))
    try:
        yield made
    finally:
        made.down()
    made.check_invariant()
