"""Outer programs: one is over at its deadline, whoever else holds its output."""

from __future__ import annotations

import asyncio
import time

from ha_agent.adapters.runner import run_program


def test_a_deadline_holds_where_another_session_keeps_the_output_open() -> None:
    """ssh hands its descriptors to the master of a shared connection: they are open as long as the other end wants."""
    script = "setsid sleep 20 & exec sleep 20"
    began = time.monotonic()
    ended = asyncio.run(run_program(["/bin/sh", "-c", script], 0.3))
    assert ended.code is None
    assert time.monotonic() - began < 10.0
