"""The pair of machines that all tests here use, installed once; a test leaves it as healthy as it found it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.machines.machine import BRIDGE, BUILD, two_machines
from tests.machines.pair import MachinePair


@pytest.fixture(scope="session", autouse=True)
def bridge() -> None:
    """What the cables of all machines are plugged into; it goes with the namespace."""
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


@pytest.fixture(scope="module")
def pair() -> Iterator[MachinePair]:
    """Two booted machines with the package installed and the pair at work; one ran its programs before."""
    with two_machines() as machines:
        made = MachinePair(*machines)
        made.install()
        with open(os.path.join(BUILD, "transcript"), "w", encoding="utf-8") as file:
            file.write("\n".join(made.transcript))
        yield made
