"""A moment of `make fuzz`: the targets that need no process. The same inputs each time."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import PURE

INPUTS, PAGES = 600, 150
"""A page takes ten times as long as anything else."""


@pytest.mark.parametrize("name", PURE)
def test_no_input_of_a_stranger_does_more_than_be_refused(name: str) -> None:
    for number in range(PAGES if name == "web" else INPUTS):
        PURE[name](random.Random(f"unit/{number}"))
