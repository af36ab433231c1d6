"""Two nodes, a link that fails in every way, hands that edit on both: what must hold whatever happens, and in the end."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from ha_agent.core.frames import Message
from ha_agent.core.plans import outranks
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import OWNING_ROLES, Outcome, Role
from ha_agent.daemon.replication.replicator import LAST_RESTORE_PAUSE_S
from ha_agent.daemon.role.claims import Claims
from tests.unit.fakes_replication import FAULTS, PairNode, digest
from tests.unit.timeless import TimelessLoop

PATHS = ("a.conf", "b.conf", "c.conf", "sub/d.conf", "sub/e.ini", "f.conf.parked")
MANY = tuple(f"many{number:02}.conf" for number in range(20))
CONTENTS = (b"[program:one]\n", b"[program:two]\n", b"", b"[program:long]\n" + b"x" * 100)
NODES = st.sampled_from([0, 1])

MEMORY = "/dev/shm"


class Pair(RuleBasedStateMachine):
    """What a pair does. Time is the loop's own."""

    def __init__(self) -> None:
        super().__init__()
        self.root = pathlib.Path(tempfile.mkdtemp(dir=MEMORY if os.path.isdir(MEMORY) else None))
        self.loop = TimelessLoop()
        self.must_keep: set[tuple[str, str, str]] = set()
        """(node, path, digest) of what our own code replaced or deleted."""
        self.by_hand: set[tuple[str, str, str]] = set()
        """(node, path, digest) of what hands replaced or deleted."""
        self.acknowledged: dict[str, bytes | None] = {}
        """What was acknowledged last of each path, and has not been edited since."""
        self.ever_acknowledged: set[tuple[str, str]] = set()
        self.unclear: set[str] = set()
        """Paths that were edited on a standby and not written there since."""
        self.highest: dict[str, Watermark] = {}
        self.background: set[asyncio.Future[None]] = set()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    @initialize(held=st.lists(st.sampled_from(PATHS), unique=True))
    def begin(self, held: list[str]) -> None:
        """A pair that works; the first node is active and has ``held``."""

        async def main() -> None:
            self.nodes = (PairNode(self.root, "alfa", "bravo"), PairNode(self.root, "bravo", "alfa"))
            self.claims: list[Claims] = []
            for node, other in zip(self.nodes, reversed(self.nodes), strict=True):
                node.other = other
                node.on_delivery.append(self.note_delivery)
                self.claims.append(self.make_claims(node))
            self.nodes[0].edit(dict.fromkeys(held, CONTENTS[0]), hint=False)
            for node in self.nodes:
                await node.start()
                await node.link.connect()

        self.do(main())
        self.take_over(0, True)

    def make_claims(self, node: PairNode) -> Claims:
        claims = Claims(node.standing, node.ledger, node.events, node.replicator.retry_now, str(node.root / "epoch"))
        node.replicator.on_stale.append(self.hear_of(claims))
        return claims

    def hear_of(self, claims: Claims) -> Callable[[Message], None]:
        def hear(answer: Message) -> None:
            if answer["role"] not in OWNING_ROLES:
                mark = Watermark(int(answer["epoch"]), str(answer["claimed_by"]))
                self.spawn(claims.raise_above(mark))

        return hear

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def note_delivery(self, node: PairNode, txn: Message) -> Callable[[Message], None]:
        before, known = node.files(), node.ledger.known
        mark = Watermark(txn["epoch"], txn["claimed_by"])

        def judge(answer: Message) -> None:
            after = node.files()
            gone = {(path, digest(content)) for path, content in before.items() if after.get(path) != content}
            gone -= {(path, sha) for name, path, sha in self.by_hand if name == node.name}
            if answer["answer"] != "COMMITTED":
                assert not gone, f"{answer} and yet it was applied"
                return
            assert not outranks(known, mark), "accepted from an older epoch"
            assert node.standing.role not in OWNING_ROLES, "accepted while this node's own registry is the truth"
            self.must_keep |= {(node.name, path, sha) for path, sha in gone}
            wanted: dict[str, str | None] = {path: sha for path, _, sha in txn["puts"]} | dict.fromkeys(txn["deletes"])
            held = {path: digest(content) for path, content in after.items()}
            self.unclear -= {path for path, sha in wanted.items() if held.get(path) == sha}

        return judge

    # ---- what happens -------------------------------------------------------------------------------------

    @rule(number=NODES, path=st.sampled_from(PATHS), content=st.none() | st.sampled_from(CONTENTS), hint=st.booleans())
    def edit_by_hand(self, number: int, path: str, content: bytes | None, hint: bool) -> None:
        node = self.nodes[number]

        async def main() -> None:
            self.note_hand(node, path)
            if node.standing.role is not Role.ACTIVE:
                self.unclear.add(path)
            node.edit({path: content}, hint=hint)
            if not hint:
                asyncio.get_running_loop().call_later(0.3, node.view.hint, path)

        self.do(main())

    @rule(number=NODES, content=st.none() | st.sampled_from(CONTENTS))
    def edit_many(self, number: int, content: bytes | None) -> None:
        node = self.nodes[number]

        async def main() -> None:
            for path in MANY:
                self.note_hand(node, path)
            if node.standing.role is not Role.ACTIVE:
                self.unclear |= set(MANY)
            node.edit(dict.fromkeys(MANY, content))

        self.do(main())

    def note_hand(self, node: PairNode, path: str) -> None:
        self.acknowledged.pop(path, None)
        if (old := node.files().get(path)) is not None:
            self.by_hand.add((node.name, path, digest(old)))

    @precondition(lambda self: any(node.standing.role is Role.ACTIVE for node in self.nodes))
    @rule(path=st.sampled_from(PATHS), content=st.none() | st.sampled_from(CONTENTS), first=NODES)
    def edit_by_command(self, path: str, content: bytes | None, first: int) -> None:
        order = self.nodes if first == 0 else self.nodes[::-1]
        node = next(node for node in order if node.standing.role is Role.ACTIVE)

        async def main() -> None:
            old = node.files().get(path)
            self.acknowledged.pop(path, None)
            if content is None and old is None:
                return
            if content is None:
                await node.editor.remove(path, "somebody")
            else:
                await node.editor.write(path, content.decode(), "somebody")
            if old is not None and old != content:
                self.must_keep.add((node.name, path, digest(old)))
            self.acknowledged[path] = content
            self.spawn(self.await_acknowledged(node, path, content))

        self.do(main())

    async def await_acknowledged(self, node: PairNode, path: str, content: bytes | None) -> None:
        mine = self.acknowledged.pop(path)
        stamp = (self.by_hand.copy(), node.ledger.known)
        word = await node.editor.acknowledged([path])
        if word.outcome is not Outcome.IN_SYNC or path in self.unclear or stamp != (self.by_hand, node.ledger.known):
            return
        held = node.other.files().get(path)
        if node.files().get(path) == content:
            assert held == content, f"{path}: acknowledged, and the peer holds {held!r}"
            self.acknowledged[path] = mine
            if content is not None:
                self.ever_acknowledged.add((path, digest(content)))

    @rule(number=NODES, cleanly=st.booleans())
    def take_over(self, number: int, cleanly: bool) -> None:
        node, other = self.nodes[number], self.nodes[1 - number]
        if node.standing.role is Role.ACTIVE:
            return

        async def main() -> None:
            heard = node.conversation.peer.mark if node.conversation.peer else None
            claims = self.claims[number]
            claims.resuming = False
            mark = await claims.claim(heard)
            if cleanly:
                other.standing.become(Role.STANDBY)
                if node.link.is_up:
                    other.ledger.learn(mark)
            node.standing.become(Role.ACTIVE)
            node.replicator.wake()

        self.do(main())

    @rule(number=NODES)
    def crash(self, number: int) -> None:
        node = self.nodes[number]

        async def main() -> None:
            await node.crash()
            self.claims[number] = self.make_claims(node)

        # An epoch that was only heard of is forgotten; one that was claimed or committed under is not.
        claimed = node.standing.claim
        self.do(main())
        assert not outranks(claimed, node.ledger.known)
        self.highest[node.name] = node.ledger.known

    @rule(number=NODES)
    def connect(self, number: int) -> None:
        self.do(self.nodes[number].link.connect())

    @rule(number=NODES)
    def cut(self, number: int) -> None:
        async def main() -> None:
            self.nodes[number].link.give_up("cut")

        self.do(main())

    @rule(number=NODES, fault=st.sampled_from(FAULTS))
    def fail_next(self, number: int, fault: str) -> None:
        self.nodes[number].link.fault = fault

    @rule(number=NODES)
    def accept_deletes(self, number: int) -> None:
        async def main() -> None:
            if self.nodes[number].standing.role is Role.ACTIVE:
                self.nodes[number].replicator.accept_deletes()

        self.do(main())

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.2, 3.0]))
    def go_on(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    # ---- what holds ---------------------------------------------------------------------------------------

    @invariant()
    def no_epoch_falls(self) -> None:
        for node in getattr(self, "nodes", ()):
            assert not outranks(self.highest.get(node.name, Watermark()), node.ledger.known)
            self.highest[node.name] = node.ledger.known

    def teardown(self) -> None:
        try:
            if hasattr(self, "nodes"):
                self.do(self.end())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            shutil.rmtree(self.root)

    async def end(self) -> None:
        """The link works, nobody edits, one node is active."""
        await asyncio.sleep(3)
        first, second = self.nodes
        if first.standing.role is second.standing.role:
            loser = first if outranks(second.standing.claim, first.standing.claim) else second
            loser.standing.become(Role.STANDBY)
            await self.claims[1 - self.nodes.index(loser)].claim(None)
            loser.other.standing.become(Role.ACTIVE)
        for node in self.nodes:
            node.link.fault = None
            await node.view.compare_now()
            await node.link.connect()
        active = first if first.standing.role is Role.ACTIVE else second
        await asyncio.sleep(5)
        active.replicator.accept_deletes()
        # An edit of the standby is put right after the longest of the pauses.
        await asyncio.sleep(LAST_RESTORE_PAUSE_S + 10)
        active.replicator.accept_deletes()
        await asyncio.sleep(10)
        for node in self.nodes:
            await node.stop()
        assert active.files() == active.other.files(), f"{active.replicator.state}"
        self.judge_end(active.files(), {node.name: node.kept() for node in self.nodes})

    def judge_end(self, files: dict[str, bytes], kept: dict[str, set[tuple[str, str]]]) -> None:
        for name, path, sha in self.must_keep:
            assert (path, sha) in kept[name], f"{path} was replaced on {name}, and no copy is kept"
        for path, content in self.acknowledged.items():
            assert files.get(path) == content, f"{path} was acknowledged, and nobody has edited it since"
        holders = {(path, digest(content)) for path, content in files.items()}.union(*kept.values())
        for path, sha in self.ever_acknowledged - holders:
            assert {(node.name, path, sha) for node in self.nodes} <= self.by_hand, f"{path} is lost"


def test_nothing_is_lost_and_both_registries_become_one_whatever_the_link_does() -> None:
    run_state_machine_as_test(
        Pair,
        settings=settings(
            max_examples=8,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
