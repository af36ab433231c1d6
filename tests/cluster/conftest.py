"""A fresh pair for every test that asks for one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from ha_agent.lab.layout import default_root
from tests.lab_support import Pair

_numbers = itertools.count(1)


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair that is not up yet; taken down afterwards, and judged by the probe."""
    made = Pair(os.path.join(default_root(), f"test-{os.getpid()}-{next(_numbers)}"))
    try:
        yield made
    finally:
        made.down()
    made.check_invariant()
