"""The claims of a node: above everything that was ever heard of, durable, and raised by an active node alone."""

from __future__ import annotations

import asyncio
import pathlib
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.store import History, Store
from ha_agent.core.plans import outranks
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.role.claims import Claims
from ha_agent.daemon.standing import Standing


class Rig:
    def __init__(self, tmp_path: pathlib.Path) -> None:
        registry, state = tmp_path / "registry", tmp_path / "state"
        registry.mkdir(exist_ok=True)
        self.store = Store(str(state))
        self.store.prepare()
        self.ledger = Ledger(self.store, Committer(str(registry), str(state)), 5)
        self.standing = Standing("a", str(tmp_path / "role.json"))
        self.raised = 0
        events = Events(History(str(state), "a", 10**6))
        self.note = tmp_path / "epoch"
        self.claims = Claims(self.standing, self.ledger, events, self.on_raised, str(self.note))

    def on_raised(self) -> None:
        self.raised += 1


MARKS = st.builds(Watermark, st.integers(0, 9), st.sampled_from(["a", "b"]))


@pytest.mark.parametrize(("witnessed", "epoch"), [(0, 8), (7, 8), (41, 42), (2**40, 8)])
def test_the_witness_has_the_floor_of_a_claim_unless_it_tells_what_cannot_be(
    tmp_path: pathlib.Path, witnessed: int, epoch: int
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.ledger.learn(Watermark(7, "b"))
        assert await rig.claims.claim(None, witnessed) == Watermark(epoch, "a")
        assert (await rig.claims.claim(None, witnessed)).epoch == epoch, "begun again"

    asyncio.run(main())


def test_programs_find_the_epoch_in_a_note_that_grows_with_every_takeover_and_is_kept_right(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        rig.ledger.learn(Watermark(7, "b"))
        await rig.claims.claim(None)
        assert rig.note.read_text() == "HA_AGENT_EPOCH=8\n" and rig.note.stat().st_mode & 0o777 == 0o644
        assert not rig.claims.keep()
        rig.standing.become(Role.ACTIVE)
        rig.note.write_text("HA_AGENT_EPOCH=99\n")
        assert rig.claims.keep() and rig.note.read_text() == "HA_AGENT_EPOCH=8\n"
        await rig.claims.raise_above(Watermark(11, "b"))
        assert rig.note.read_text() == "HA_AGENT_EPOCH=12\n"
        rig.standing.become(Role.STANDBY)
        rig.note.unlink()
        assert not rig.claims.keep(), "a standby has no programs that would read it"

    asyncio.run(main())


@given(known=MARKS, heard=st.none() | MARKS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_claim_is_above_all_that_was_heard_of_and_on_the_disk(
    tmp_path_factory: pytest.TempPathFactory, known: Watermark, heard: Watermark | None
) -> None:
    async def main() -> None:
        rig = Rig(tmp_path_factory.mktemp("claims"))
        rig.ledger.learn(known)
        mark = await rig.claims.claim(heard)
        assert outranks(mark, known) and (heard is None or outranks(mark, heard))
        assert rig.standing.claim == rig.ledger.known == rig.store.load().known == mark
        assert await rig.claims.claim(heard) == mark, "a takeover that is begun again keeps its epoch"
        rig.claims.resuming = False
        assert outranks(await rig.claims.claim(None), mark)

    asyncio.run(main())


@pytest.mark.parametrize("role", list(Role))
def test_only_an_active_node_raises_its_epoch(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.claims.claim(None)
        rig.standing.become(role)
        await rig.claims.raise_above(Watermark(5, "b"))
        expected = Watermark(6, "a") if role is Role.ACTIVE else Watermark(1, "a")
        assert rig.standing.claim == expected and rig.raised == (role is Role.ACTIVE)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("over", "raised"), [(Watermark(1, "a"), False), (Watermark(0, "b"), False), (Watermark(1, "b"), True)]
)
def test_it_is_raised_above_what_is_not_older_and_not_its_own(tmp_path: pathlib.Path, over: Watermark, raised: bool) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.claims.claim(None)
        rig.standing.become(Role.ACTIVE)
        await rig.claims.raise_above(over)
        assert rig.standing.claim.epoch == (2 if raised else 1)

    asyncio.run(main())


def test_a_disk_that_does_not_take_it_leaves_the_claim_as_it_is(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        rig = Rig(tmp_path)
        await rig.claims.claim(None)
        rig.standing.become(Role.ACTIVE)
        shutil.rmtree(tmp_path / "state")
        await rig.claims.raise_above(Watermark(5, "b"))
        assert rig.standing.claim == rig.ledger.known == Watermark(1, "a") and rig.raised == 0

    asyncio.run(main())
