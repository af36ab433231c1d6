"""Asking the witness from this node, over a connection of its own, without the agent."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass

from ha_agent.adapters.witness import NoAnswer, Witness
from ha_agent.adapters.witness_kinds import make_witness
from ha_agent.core.settings import Settings
from ha_agent.core.width import count_text
from ha_agent.core.witness_record import Record

CONNECT_S = 8.0
READS = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of asking the witness: ``took_ms`` of each answer, and the record; ``problem`` where none came."""

    problem: str
    took_ms: tuple[float, ...] = ()
    record: Record | None = None


async def try_witness(settings: Settings) -> Tried:
    """Reads the record some times over a connection of its own. Writes nothing."""
    with tempfile.TemporaryDirectory() as directory:
        witness = make_witness(settings.witness, settings.node.name, settings.peer.name, directory)
        running = asyncio.ensure_future(witness.run())
        try:
            return await _read_some(witness, settings.witness.answer_s)
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            witness.close()


async def _read_some(witness: Witness, answer_s: float) -> Tried:
    until = time.monotonic() + CONNECT_S
    took: list[float] = []
    while len(took) < READS:
        began = time.monotonic()
        try:
            sight = await witness.read(answer_s)
        except NoAnswer as error:
            if time.monotonic() >= until:
                return Tried(str(error) or f"no answer within {answer_s:g} s", tuple(took))
            await asyncio.sleep(0.1)
            continue
        took.append(round((time.monotonic() - began) * 1000, 2))
    return Tried("", tuple(took), sight.record)


def say_tried(settings: Settings, tried: Tried) -> str:
    """As text."""
    kind = settings.witness.kind
    if tried.problem:
        return f"the witness ({kind}) does not answer {settings.node.name}: {tried.problem}"
    took = sorted(tried.took_ms)[len(tried.took_ms) // 2]
    limit = settings.witness.answer_s * 1000
    text = f"the witness ({kind}) answers {settings.node.name} in {took:g} ms; answer_s leaves it {limit:g} ms"
    record = tried.record
    if record is None:
        return f"{text}\nit keeps no record yet"
    holder = f"{record.holder}'s" if record.holder else "nobody's"
    return f"{text}\nthe record is {holder}, written {count_text(record.counter, 'time')}, epoch {record.epoch}"
