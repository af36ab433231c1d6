"""The watch over a peer's adverts: what it asks when, and what it says of the machine's silence to a takeover."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_agent.core.adverts import Advert
from ha_agent.core.words import Role
from ha_agent.daemon.peer.silence_watch import SilenceWatch
from ha_agent.daemon.standing import Standing
from tests.unit.timeless import run_timeless

EVERY_S, DOWN_S, PROBE_S = 0.1, 0.36, 0.25
"""An advert every 0.1 s; keepalived takes over 0.36 s after the last one (three of them, and a skew)."""

Stretch = tuple[float, float]


class Machine:
    """The peer: it answers and sends adverts but in ``dead`` stretches, counted from the beginning of the test.

    ``adverts_until``: its keepalived ends then. An answer takes ``answer_s``.
    """

    def __init__(self, dead: Sequence[Stretch], adverts_until: float = 1e9, answer_s: float = 0.0002) -> None:
        self._loop = asyncio.get_running_loop()
        self.began = self._loop.time()
        self.dead, self.adverts_until, self.answer_s = dead, adverts_until, answer_s
        self.echoes: list[float] = []
        self.connections: list[float] = []
        self.signs: list[float] = []
        self._looked = 0.0
        self._answers: list[float] = []
        self.opened = 0

    @property
    def now(self) -> float:
        return self._loop.time() - self.began

    def is_alive(self, moment: float) -> bool:
        return not any(begin <= moment < end for begin, end in self.dead)

    def last_advert(self) -> float:
        return max(0.0, *(n * EVERY_S for n in range(int(self.now / EVERY_S + 1e-6) + 1) if self._sends(n * EVERY_S)))

    def _sends(self, moment: float) -> bool:
        return moment < self.adverts_until and self.is_alive(moment)

    def receive(self) -> list[tuple[Advert, float]]:
        first, self._looked = self._looked, self.now
        moments = [n * EVERY_S for n in range(int(self._looked / EVERY_S + 1e-6) + 1)]
        heard = [moment for moment in moments if first < moment + 1e-9 <= self._looked + 1e-6 and self._sends(moment)]
        self.signs += heard
        return [(Advert(51, EVERY_S), self.began + moment) for moment in heard]

    def open_questions(self) -> Machine:
        self._answers = []
        self.opened += 1
        return self

    def send_echo(self) -> bool:
        self.echoes.append(self.now)
        if self.is_alive(self.now) and self.is_alive(self.now + self.answer_s):
            self._answers.append(self.now + self.answer_s)
        return True

    def send_syn(self) -> bool:
        self.connections.append(self.now)
        return True

    def has_sign(self) -> bool:
        come = [moment for moment in self._answers if moment <= self.now]
        self.signs += come
        return bool(come)

    def close(self) -> None:
        """Nothing to close."""


def run(
    tmp_path: pathlib.Path, test: Callable[[Machine, SilenceWatch, Standing], Awaitable[None]], *dead: Stretch, **kind: float
) -> None:
    """Runs ``test`` beside the watch of a standby."""

    async def main() -> None:
        machine = Machine(dead, **kind)
        standing = Standing("alfa", str(tmp_path / "role.json"))
        clock = asyncio.get_running_loop().time
        watch = SilenceWatch(PROBE_S, standing, lambda: machine, machine.open_questions, clock)
        task = asyncio.ensure_future(watch.run())
        try:
            await test(machine, watch, standing)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run_timeless(main())


async def until(machine: Machine, moment: float) -> None:
    await asyncio.sleep(moment - machine.now)


def test_a_peer_that_sends_its_adverts_is_asked_nothing(tmp_path: pathlib.Path) -> None:
    async def test(machine: Machine, watch: SilenceWatch, _standing: Standing) -> None:
        await until(machine, 30.0)
        assert machine.opened == 0 and await watch.find_silence() is None

    run(tmp_path, test)


@pytest.mark.parametrize("off", [10.001, 10.05, 10.099])
def test_the_silence_of_a_machine_that_went_off_is_known_when_keepalived_takes_over(
    tmp_path: pathlib.Path, off: float
) -> None:
    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, 10.0 + DOWN_S + 0.002)
        standing.become(Role.TAKING_OVER)
        began = machine.now
        assert await watch.find_silence() is True
        assert machine.now - began < 0.01
        assert await watch.find_silence() is None, "it counts once"
        asked = len(machine.echoes)
        await until(machine, 15.0)
        assert len(machine.echoes) == asked, "and ends the look"

    run(tmp_path, test, (off, 1e9))


def test_a_machine_that_answers_and_sends_no_adverts_is_alive(tmp_path: pathlib.Path) -> None:
    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, 10.0 + DOWN_S)
        standing.become(Role.TAKING_OVER)
        assert await watch.find_silence() is not True
        await until(machine, 20.0)
        assert len(machine.echoes) < 12 and not machine.connections

    run(tmp_path, test, adverts_until=10.05)


def test_a_machine_that_is_frozen_for_a_while_and_then_answers_is_alive(tmp_path: pathlib.Path) -> None:
    """Its keepalived says nothing any more, so that the role changes here; the machine answers 0.2 s after it stopped."""

    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, 10.0 + DOWN_S)
        standing.become(Role.TAKING_OVER)
        assert await watch.find_silence() is not True

    run(tmp_path, test, (10.05, 10.25), adverts_until=10.05)


def test_a_sign_over_the_link_ends_a_look(tmp_path: pathlib.Path) -> None:
    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, 10.3)
        standing.become(Role.TAKING_OVER)
        asked = asyncio.ensure_future(watch.find_silence())
        await asyncio.sleep(0.01)
        watch.note_sign()
        assert await asked is False

    run(tmp_path, test, (10.05, 1e9))


def test_a_silence_that_leads_to_no_takeover_is_forgotten(tmp_path: pathlib.Path) -> None:
    """Nobody asks a machine that is off for ever; it is expected again with its first advert."""

    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, 12.0)
        asked = len(machine.echoes)
        await until(machine, 20.0)
        assert len(machine.echoes) == asked and await watch.find_silence() is None
        await until(machine, 35.3)
        assert machine.opened == 2
        await until(machine, 35.37)
        assert await watch.find_silence() is True

    run(tmp_path, test, (10.05, 30.0), (35.05, 1e9))


def test_an_active_node_looks_for_nothing(tmp_path: pathlib.Path) -> None:
    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        standing.become(Role.ACTIVE)
        await until(machine, 20.0)
        assert machine.opened == 0 and await watch.find_silence() is None

    run(tmp_path, test, (10.05, 1e9))


def test_where_adverts_cannot_be_heard_nothing_is_known(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        def refuse() -> Machine:
            raise PermissionError("no raw sockets here")

        loop, standing = asyncio.get_running_loop(), Standing("alfa", str(tmp_path / "role.json"))
        watch = SilenceWatch(PROBE_S, standing, refuse, Machine([]).open_questions, loop.time)
        task = asyncio.ensure_future(watch.run())
        await asyncio.sleep(300)
        assert not task.done() and await watch.find_silence() is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_timeless(main())


@settings(max_examples=60)
@given(
    dead=st.lists(st.tuples(st.floats(0.0, 0.7), st.floats(0.01, 0.4)), max_size=4),
    adverts_until=st.floats(0.1, 1.0),
    answer_s=st.sampled_from([0.0002, 0.003, 0.03]),
    asked_at=st.floats(0.1, 1.4),
)
def test_whatever_stops_and_comes_back_when_silence_is_silence(
    tmp_path_factory: pytest.TempPathFactory,
    dead: list[Stretch],
    adverts_until: float,
    answer_s: float,
    asked_at: float,
) -> None:
    """It is said only where no sign came for ``PROBE_S``, and fifty echoes and four connections had no answer."""

    async def test(machine: Machine, watch: SilenceWatch, standing: Standing) -> None:
        await until(machine, asked_at)
        standing.become(Role.TAKING_OVER)
        if await watch.find_silence() is not True:
            return
        since = machine.now - PROBE_S
        assert not [sign for sign in machine.signs if sign > since]
        echoes = [sent for sent in machine.echoes if sent >= since]
        assert len(echoes) >= 50 and machine.now - echoes[-1] < 0.05
        assert max(b - a for a, b in zip([since, *echoes], [*echoes, machine.now], strict=True)) <= 0.051
        assert len([sent for sent in machine.connections if sent >= since]) >= 4

    stretches = [(begin, begin + length) for begin, length in dead]
    run(tmp_path_factory.mktemp("any"), test, *stretches, adverts_until=adverts_until, answer_s=answer_s)
