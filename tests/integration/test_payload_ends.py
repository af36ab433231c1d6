"""Both ends of payload replication, joined: the offer that is asked until it is there, and what holds it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
from collections.abc import Awaitable, Callable, Mapping

import pytest

from ha_agent.adapters.payload_commit import PayloadCommitter
from ha_agent.adapters.payload_scan import PayloadScanner, Scan
from ha_agent.adapters.rpc import Disconnected, Progress
from ha_agent.adapters.ssh import TransferFailed
from ha_agent.core.file_keys import read_files
from ha_agent.core.frames import Message
from ha_agent.core.payload_list import Listing, PayloadAnswer
from ha_agent.core.payload_plan import DeleteLimits
from ha_agent.core.payload_rules import PayloadRules
from ha_agent.core.payload_status import PayloadState, Sent
from ha_agent.core.requests import PayloadOfferRequest
from ha_agent.core.settings import PayloadSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Role
from ha_agent.daemon.operations.payload import find_outside
from ha_agent.daemon.payload.holding import PayloadHolding
from ha_agent.daemon.payload.payload import Payload
from ha_agent.daemon.payload.receiver import PayloadReceiver
from ha_agent.daemon.payload.sender import Ask, PayloadSender
from ha_agent.daemon.standing import Standing
from tests.unit.fakes_replication import WALL_S, PairNode, ScriptedLink

EPOCH = Watermark(3, "alfa")


class OtherPlace(PayloadHolding):
    """What lies below one directory, told as if it lay below another one: two nodes have the same paths."""

    def __init__(self, inner: PayloadHolding, own: pathlib.Path, told: pathlib.Path) -> None:
        self._inner, self._mine, self._told = inner, str(own), str(told)

    def find_rules(self) -> PayloadRules:
        """Those of its own place."""
        return self._inner.find_rules()

    async def look(self, rules: PayloadRules) -> Scan:
        """Another node's."""
        scan = await self._inner.look(rules)
        entries = [dataclasses.replace(e, path=self.tell(e.path)) for e in scan.listing]
        return Scan(Listing(entries, map(self.tell, scan.listing.left_out)), scan.problems)

    def tell(self, path: str) -> str:
        """Where the other node has it."""
        return self._told + path[len(self._mine) :]


class Line(ScriptedLink):
    """Delivers offers to the receiver; ``faults`` are raised by the next messages and copies."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(lambda _: {})
        self._bench = bench
        self.faults: list[Exception | None] = []
        self.copied: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        """The receiver's answer."""
        self.asked.append(message)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        self.before_answer()
        raw = {name: value for name, value in json.loads(json.dumps(message)).items() if name != "op"}
        return json.loads(json.dumps(await self._bench.receiver.receive(PayloadOfferRequest.read(raw))))  # type: ignore[no-any-return]

    async def transfer_files(self, outgoing: str, identifier: str, files: Mapping[str, str], timeout_s: float) -> None:
        """Copies into the receiver's staging directory."""
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        target = self._bench.standby.state_dir / "staging" / identifier
        target.mkdir(exist_ok=True)
        for sha, told in files.items():
            own = str(self._bench.here) + told[len(str(self._bench.there)) :]
            (target / sha).write_bytes(pathlib.Path(own).read_bytes())
            self.copied.append(own)


class Bench:
    """An active node and a standby."""

    def __init__(self, root: pathlib.Path, settings: PayloadSettings | None = None) -> None:
        self.active, self.standby = PairNode(root, "alfa", "bravo"), PairNode(root, "bravo", "alfa")
        self.here, self.there = root / "alfa/app", root / "bravo/app"
        self.here.mkdir()
        self.there.mkdir()
        self.active.standing.role = Role.ACTIVE
        for node in (self.active, self.standby):
            node.ledger.learn(EPOCH)
        own = settings or PayloadSettings(exclude=("*.log",))
        self.link = Line(self)
        self.sender_holding = OtherPlace(self._holding(self.active, own, self.here), self.here, self.there)
        self.receiver_holding = self._holding(self.standby, own, self.there)
        self.committer = PayloadCommitter(str(self.standby.state_dir))
        self.receiver = self.make_receiver(self.standby.standing)
        self.now = 0.0
        self.sender = PayloadSender(
            "bravo",
            own,
            str(self.active.state_dir / "outgoing"),
            self.active.standing,
            self.active.ledger,
            self.sender_holding,
            PayloadCommitter(str(self.active.state_dir)),
            self.link,
            self.active.events,
            lambda: self.now,
            lambda: WALL_S,
        )

    def make_receiver(self, standing: Standing) -> PayloadReceiver:
        return PayloadReceiver(
            DeleteLimits(),
            standing,
            self.standby.ledger,
            self.receiver_holding,
            self.committer,
            self.standby.committer.spared,
            self.standby.events,
            lambda: WALL_S,
        )

    def _holding(self, node: PairNode, settings: PayloadSettings, place: pathlib.Path) -> PayloadHolding:
        paths = dataclasses.replace(settings, paths=(str(place),))
        return PayloadHolding(paths, str(node.registry_dir), node.view, PayloadScanner(), ())

    async def sync(self, ask: Ask | None = None) -> tuple[Outcome, str]:
        return await self.sender.sync(ask or Ask(), "me", 60.0, lambda _: None)

    def write(self, name: str, text: str) -> None:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(tmp_path: pathlib.Path, test: Callable[[Bench], Awaitable[None]], settings: PayloadSettings | None = None) -> None:
    async def whole() -> None:
        await test(Bench(tmp_path, settings))

    asyncio.run(whole())


def test_what_is_there_is_offered_copied_and_committed_once(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("v1/app", "one")
        bench.write("x.log", "noise")
        assert (await bench.sync())[0] is Outcome.IN_SYNC
        assert (bench.there / "v1/app").read_text() == "one"
        assert not (bench.there / "x.log").exists()
        sent = bench.sender.sent
        assert (sent.state, sent.pending, sent.files) == (PayloadState.IN_SYNC, 0, 1)
        assert bench.standby.events.codes == ["payload-received"]
        # A second time nothing travels, and the list does not either.
        bench.link.asked.clear()
        assert (await bench.sync())[0] is Outcome.IN_SYNC
        assert [m["listing"] for m in bench.link.asked] == [None]
        assert len(bench.link.copied) == 1
        assert not any((bench.standby.state_dir / "staging").iterdir())

    run(tmp_path, test)


def test_a_content_that_the_standby_has_already_does_not_travel(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("v1/app", "one")
        await bench.sync()
        bench.write("v2/app", "one")
        await bench.sync()
        assert (bench.there / "v2/app").read_text() == "one"
        assert len(bench.link.copied) == 1

    run(tmp_path, test)


@pytest.mark.parametrize("fault", [Disconnected("gone"), TimeoutError(), TransferFailed("rsync ended with 12")])
@pytest.mark.parametrize("at", range(4))
def test_whatever_is_cut_off_the_next_look_finishes(tmp_path: pathlib.Path, fault: Exception, at: int) -> None:
    async def test(bench: Bench) -> None:
        bench.write("v1/app", "one")
        bench.link.faults = [None] * at + [fault]
        await bench.sync()
        assert not list(bench.there.rglob(".ha-agent-payload-*"))
        bench.link.faults = []
        assert (await bench.sync())[0] is Outcome.IN_SYNC
        assert (bench.there / "v1/app").read_text() == "one"

    run(tmp_path, test)


@pytest.mark.parametrize("role", [r for r in Role if r is not Role.STANDBY])
def test_a_node_that_is_not_standby_takes_nothing(tmp_path: pathlib.Path, role: Role) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        bench.standby.standing.role = role
        outcome, reason = await bench.sync()
        assert outcome is Outcome.REFUSED_BY_PEER
        assert role.value in reason
        assert not list(bench.there.iterdir())

    run(tmp_path, test)


def test_an_older_epoch_is_stale_and_one_that_no_takeover_explains_is_not_believed(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        for epoch, answer in ((2, PayloadAnswer.STALE), (1 << 50, PayloadAnswer.BAD)):
            request = PayloadOfferRequest(epoch, "alfa", "0" * 64, Listing([]).encode())
            assert (await bench.receiver.receive(request))["answer"] == answer

    run(tmp_path, test)


def test_a_takeover_in_the_middle_ends_the_commit(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        roles = iter([Role.STANDBY] * 3 + [Role.TAKING_OVER] * 50)

        class Turning(Standing):
            @property
            def role(self) -> Role:
                return next(roles)

            @role.setter
            def role(self, role: Role) -> None:
                pass

        bench.receiver = bench.make_receiver(Turning("bravo", str(tmp_path / "role.json")))
        outcome, _ = await bench.sync()
        assert outcome is Outcome.REFUSED_BY_PEER
        assert not list(bench.there.iterdir())

    run(tmp_path, test)


def test_deletions_of_most_are_held_until_the_word_which_counts_once(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        for name in "abcdef":
            bench.write(name, name)
        await bench.sync()
        for name in "abcd":
            (bench.here / name).unlink()
        outcome, reason = await bench.sync()
        assert outcome is Outcome.HELD
        assert "4 of 6 files" in reason
        assert len(list(bench.there.iterdir())) == 6
        assert bench.active.events.codes[-1] == "payload-held"
        assert (await bench.sync(Ask(accept_deletes=True)))[0] is Outcome.IN_SYNC
        assert len(list(bench.there.iterdir())) == 2
        kept = [path.name for path in pathlib.Path(bench.committer.kept).rglob("*") if path.name in "abcd"]
        assert sorted(kept) == ["a", "b", "c", "d"]

    run(tmp_path, test)


def test_a_root_that_is_gone_deletes_nothing(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        await bench.sync()
        bench.here.rename(bench.here.with_name("elsewhere"))
        assert (await bench.sync())[0] is Outcome.IN_SYNC
        assert (bench.there / "x").exists()
        assert "is not there" in bench.sender.sent.problems[0]

    run(tmp_path, test)


def test_what_a_process_of_the_standby_is_in_is_held(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        bench.write("v1/x", "one")
        bench.write("keep", "k")
        bench.write("keep2", "k2")
        await bench.sync()
        monkeypatch.chdir(bench.there / "v1")
        (bench.here / "v1/x").unlink()
        (bench.here / "v1").rmdir()
        outcome, reason = await bench.sync()
        assert outcome is Outcome.HELD
        assert "is in" in reason
        assert (bench.there / "v1/x").exists()
        assert (await bench.sync(Ask(accept_running=True)))[0] is Outcome.IN_SYNC
        assert not (bench.there / "v1").exists()

    run(tmp_path, test)


def test_a_file_that_the_standby_alone_has_stays_and_is_counted(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        await bench.sync()
        (bench.there / "own").write_text("mine")
        bench.write("x", "two")
        await bench.sync()
        assert (bench.there / "own").read_text() == "mine"
        assert bench.receiver.received.foreign == 1

    run(tmp_path, test)


def test_nothing_is_asked_again_while_nothing_changed_until_it_is_to_be_confirmed(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        await bench.sync()
        asked = len(bench.link.asked)
        await bench.sender.look()
        assert len(bench.link.asked) == asked
        (bench.there / "x").write_text("edited there")
        bench.now += 61.0
        await bench.sender.look()
        assert (bench.there / "x").read_text() == "one"
        assert "payload-diverged" in bench.standby.events.codes

    run(tmp_path, test)


def test_a_checkpoint_of_the_registry_leaves_what_is_staged(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        bench.write("x", "one")
        cleared: list[int] = []

        def checkpoint() -> None:
            bench.standby.committer.clear_staging()
            cleared.append(1)

        bench.link.before_answer = checkpoint
        assert (await bench.sync())[0] is Outcome.IN_SYNC
        assert len(cleared) > 2
        assert len(bench.link.copied) == 1

    run(tmp_path, test)


def test_what_confs_name_is_payload_where_it_lies_below_what_root_allows(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        node = bench.active
        text = "[program:x]\n; ha-agent: files = /opt/x/rules, /etc/x, /opt/other/.ssh\ncommand=/bin/x\n"
        assert read_files(text)[0]
        (node.registry_dir / "x.conf").write_text(text)
        await node.view.start()
        settings = PayloadSettings(conf_files_below=("/opt",))
        holding = PayloadHolding(settings, str(node.registry_dir), node.view, PayloadScanner(), ())
        assert holding.find_rules().patterns == ("/opt/x/rules",)
        closed = PayloadHolding(PayloadSettings(), str(node.registry_dir), node.view, PayloadScanner(), ())
        assert closed.find_rules().patterns == ()
        await node.stop()

    run(tmp_path, test)


def test_push_of_what_is_no_payload_says_so() -> None:
    rules = PayloadRules(("/opt/app", "/srv/x/*"), ("*.log",))
    for path in ("/opt/app/v2", "/opt/app", "/opt", "/srv/x"):
        assert find_outside(path, rules) is None
    for path in ("/opt/b", "/etc", "/opt/app/x.log"):
        assert find_outside(path, rules) is not None


def test_the_account_of_both_ends(tmp_path: pathlib.Path) -> None:
    async def test(bench: Bench) -> None:
        up = [True]
        payload = Payload(
            300.0,
            bench.active.standing,
            bench.sender_holding,
            bench.sender,
            bench.receiver,
            bench.active.events,
            lambda: up[0],
        )
        bench.write("x", "one")
        bench.sender.sent = Sent(pending=2, pending_since_wall=WALL_S)
        account = payload.describe(WALL_S + 301.0)
        assert account is not None and account.is_late
        up[0] = False
        account = payload.describe(WALL_S + 301.0)
        assert account is not None and account.state is PayloadState.UNREACHABLE and not account.is_late
        bench.active.standing.role = Role.STANDBY
        up[0] = True
        account = payload.describe(WALL_S)
        assert account is not None and account.state is PayloadState.RECEIVING

    run(tmp_path, test)
