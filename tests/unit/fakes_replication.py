"""Two nodes of a pair without processes between them: real registries and state, and a link that fails as it is told to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.kept import list_kept
from ha_agent.adapters.rpc import Disconnected, Progress, RemoteError
from ha_agent.adapters.ssh import PeerLink, TransferFailed
from ha_agent.adapters.store import History, Store
from ha_agent.adapters.watch import HintSink, Watcher
from ha_agent.core.frames import Message
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.settings import LinkSettings, PeerSettings, RegistrySettings
from ha_agent.core.transaction import Transaction, Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.replication.acknowledgement import Acknowledger
from ha_agent.daemon.replication.editor import RegistryEditor
from ha_agent.daemon.replication.ledger import Ledger
from ha_agent.daemon.replication.receiver import Receiver
from ha_agent.daemon.replication.replicator import Replicator
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.standing import Standing

LIMITS = LinkSettings(inline_max_bytes=64, answer_timeout_s=1.0)
WALL_S = 1_700_000_000.0
FIRST = Watermark(1, "alfa")
JOURNAL_BYTES = 16 * 1024
"""What a new journal occupies: the agent's own is larger, and thousands of nodes are made here."""


def digest(content: bytes) -> str:
    """The sha256 of a content in hex."""
    return hashlib.sha256(content).hexdigest()


def manifest_of(files: dict[str, bytes], mode: int = 0o644) -> Manifest:
    """The manifest of a registry that holds ``files``."""
    return Manifest.of([Entry(path, mode, digest(content)) for path, content in files.items()])


class QuietWatcher(Watcher):
    """No inotify: a test gives the hints itself. Notes what is watched."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[str] = []
        self.trouble: str | None = None
        self.unread = False

    def watch(self, root: str, sink: HintSink, *, replaceable: bool = True) -> None:
        """Notes that ``root`` is watched."""
        self.watched.append(root)

    def problem(self, root: str) -> str | None:
        """Nothing is lost, if nothing is watched."""
        return self.trouble

    def has_unread(self) -> bool:
        """Whether the test says so."""
        return self.unread


class TestEvents(Events):
    """Events that a test can look at."""

    __test__ = False

    def __init__(self, state_dir: pathlib.Path, node: str) -> None:
        super().__init__(History(str(state_dir), node, 1 << 20))
        self.seen: list[dict[str, Any]] = []
        self.listen(lambda event: self.seen.append(dict(event)))

    @property
    def codes(self) -> list[str]:
        """The codes of everything that was added."""
        return [str(event["code"]) for event in self.seen]


class ScriptedLink(PeerLink):
    """A link that is up, at whose other end ``reply`` answers: a message, or an exception that is raised."""

    def __init__(self, reply: Callable[[Message], Message | Exception]) -> None:
        async def on_up(_link: PeerLink) -> None:
            return None

        peer = PeerSettings(name="bravo", address="192.0.2.2")
        super().__init__(LIMITS, peer, "/nonexistent", on_up, lambda: None)
        self.is_up, self.problem = True, ""
        self.reply = reply
        self.asked: list[Message] = []
        self.transferred: list[dict[str, bytes]] = []
        self.transfer_fails: Exception | None = None
        self.given_up: list[str] = []
        self.nudges = 0

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        """Answers in the next round of the loop."""
        self.asked.append(message)
        await asyncio.sleep(0)
        answer = self.reply(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def transfer(self, outgoing: str, contents: Iterable[tuple[str, bytes]], timeout_s: float) -> str:
        """Notes what was brought over."""
        if self.transfer_fails is not None:
            raise self.transfer_fails
        self.transferred.append(dict(contents))
        return "0123456789abcdef"

    def give_up(self, reason: str) -> None:
        """Notes that; the link is down."""
        self.given_up.append(reason)
        self.is_up, self.problem = False, reason

    def nudge(self) -> None:
        """Counts."""
        self.nudges += 1


class JoiningLink(PeerLink):
    """Joins ``owner`` to another node. ``fault`` says what becomes of the next message; it counts for that one alone."""

    def __init__(self, owner: PairNode) -> None:
        async def on_up(_link: PeerLink) -> None:
            return None

        super().__init__(LIMITS, owner.peer_settings, "/nonexistent", on_up, lambda: None)
        self.owner = owner
        self.fault: str | None = None
        self._life = 0

    async def connect(self) -> None:
        """Comes up, with the greeting."""
        if self.is_up:
            return
        self._life += 1
        try:
            await self.owner.conversation.greet(self)
        except (Disconnected, RemoteError, TimeoutError) as error:
            self.problem = str(error)
            return
        self.is_up, self.problem = True, ""
        self.owner.replicator.wake()

    def give_up(self, reason: str) -> None:
        """Breaks the connection. What is under way is not taken back."""
        self._life += 1
        self.is_up, self.problem = False, reason
        self.owner.replicator.learn_peer(None)

    def nudge(self) -> None:
        """Connecting is the test's business."""

    async def wait_change(self, limit_s: float) -> None:
        """Time passes."""
        await asyncio.sleep(limit_s)

    async def ask(self, message: Message, timeout_s: float, progress: Progress | None = None) -> Message:
        """Delivers ``message``, unless ``fault`` says otherwise."""
        fault, self.fault, life = self.fault, None, self._life
        message = json.loads(json.dumps(message))
        if fault in ("break before", "lose"):
            if fault == "lose":
                async with asyncio.timeout(timeout_s):
                    await asyncio.Event().wait()
            self.give_up(fault)
            raise Disconnected(fault)
        asyncio.get_running_loop()
        work = asyncio.ensure_future(self._deliver(message, fault))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await asyncio.shield(work)
        finally:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
        if fault == "break after":
            self.give_up(fault)
        if life != self._life:
            raise Disconnected("the link broke meanwhile")
        if fault == "lose answer":
            async with asyncio.timeout(timeout_s):
                await asyncio.Event().wait()
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    async def _deliver(self, message: Message, fault: str | None) -> Message:
        if fault == "delay":
            await asyncio.sleep(0.5)
        elif fault == "delay beyond":
            await asyncio.sleep(2 * LIMITS.answer_timeout_s)
        answer = await self.owner.other.serve(message)
        if fault == "double":
            answer = await self.owner.other.serve(message)
        return answer

    async def transfer(self, outgoing: str, contents: Iterable[tuple[str, bytes]], timeout_s: float) -> str:
        """Puts the contents into the peer's staging; ``fault`` may break it halfway."""
        fault, self.fault = self.fault, None
        identifier = f"{self.owner.transfers:016x}"
        self.owner.transfers += 1
        target = self.owner.other.state_dir / "staging" / identifier
        target.mkdir(exist_ok=True)
        for number, (sha, content) in enumerate(contents):
            if fault is not None and number:
                self.give_up(fault)
                raise TransferFailed(fault)
            (target / sha).write_bytes(content)
        await asyncio.sleep(0.05)
        return identifier


FAULTS = ("break before", "lose", "break after", "lose answer", "delay", "delay beyond", "double")


class PairNode:
    """One node of a pair: everything of replication/, over real directories below ``root``."""

    def __init__(self, root: pathlib.Path, name: str, other_name: str, registry: RegistrySettings | None = None) -> None:
        self.name = name
        self.root = root / name
        self.registry_dir, self.state_dir = self.root / "registry", self.root / "state"
        self.registry_dir.mkdir(parents=True)
        self.peer_settings = PeerSettings(name=other_name, address="192.0.2.2")
        self.registry_settings = replace(registry or RegistrySettings(), path=str(self.registry_dir))
        self.other: PairNode = self
        self.transfers = 1
        self.on_delivery: list[Callable[[PairNode, Message], Callable[[Message], None]]] = []
        """Called before a transaction is handed to the receiver; what that returns is called with the answer."""
        self.standing = Standing(name, str(self.root / "role.json"))
        self._build()

    def _build(self) -> None:
        """An agent that has read nothing yet."""
        settings, name, other_name = self.registry_settings, self.name, self.peer_settings.name
        self.store = Store(str(self.state_dir))
        self.store.prepare()
        self.committer = Committer(str(self.registry_dir), str(self.state_dir), JOURNAL_BYTES)
        self.ledger = Ledger(self.store, self.committer, 10_000)
        self.events = TestEvents(self.state_dir, name)
        self.watcher = QuietWatcher()
        self.view = RegistryView(settings, self.watcher)
        self.view.agreed = lambda: self.ledger.agreed
        self.receiver = Receiver(settings, self.standing, self.ledger, self.committer, self.view, self.events)
        self.link: JoiningLink = JoiningLink(self)
        self.replicator = Replicator(
            settings,
            LIMITS,
            str(self.state_dir / "outgoing"),
            self.standing,
            self.view,
            self.ledger,
            self.link,
            self.events,
            lambda: WALL_S,
        )
        loop = asyncio.get_running_loop()
        self.acknowledger = Acknowledger(other_name, self.standing, self.link, self.replicator, loop.time)
        self.editor = RegistryEditor(self.committer, self.ledger, self.view, self.events, self.acknowledger)
        self.conversation = Conversation(
            self.peer_settings,
            LIMITS,
            self.standing,
            self.ledger,
            self.view,
            self.link,
            self.replicator,
            lambda: None,
            lambda: WALL_S,
        )
        self.view.on_change += [self.replicator.wake, self.receiver.report_local_edits]
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads the registry and begins to replicate."""
        await self.view.start()
        loop = asyncio.get_running_loop()
        self._running = [loop.create_task(self.replicator.run()), loop.create_task(self.conversation.heartbeat())]

    async def crash(self) -> None:
        """The agent is killed, and another one takes up what is on the disk. The role stays, as it does in /run."""
        self.link.give_up("killed")
        self.other.link.give_up("the peer was killed")
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._build()
        self.ledger.resume(self.store.load())
        await self.receiver.recover()
        await self.start()

    async def stop(self) -> None:
        """Ends replication, with the last checkpoint. Raises what it failed with before."""
        running, self._running = self._running, []
        for task in running:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.ledger.close()

    async def serve(self, message: Message) -> Message:
        """Answers the peer as the daemon's table of operations does."""
        if message["op"] in ("hello", "ping"):
            self.conversation.learn({k: v for k, v in message.items() if k != "op"})
            return self.conversation.summary()
        if message["op"] == "manifest":
            held = await (self.receiver.look() if message.get("look") else self.receiver.glance())
            return {"hash": held.hash, "rows": None if held.hash == message.get("known") else held.to_rows()}
        if message["op"] != "transaction":
            raise RemoteError(f"unknown operation {message['op']}")
        notes = [note(self, message["txn"]) for note in self.on_delivery]
        answer = await self.receiver.receive(message["txn"])
        for note in notes:
            note(answer)
        return answer

    def files(self) -> dict[str, bytes]:
        """What the registry holds on the disk."""
        return {
            path.relative_to(self.registry_dir).as_posix(): path.read_bytes()
            for path in self.registry_dir.rglob("*")
            if path.is_file()
        }

    def edit(self, files: dict[str, bytes | None], *, hint: bool = True) -> None:
        """Changes the registry by hand (None: deletes)."""
        for path, content in files.items():
            target = self.registry_dir / path
            if content is None:
                target.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                target.chmod(0o644)
            if hint:
                self.view.hint(path)

    def kept(self) -> set[tuple[str, str]]:
        """Path and digest of everything that is kept here."""
        return {(entry.path, entry.sha256) for entry in list_kept(str(self.state_dir))}

    async def claim(self, mark: Watermark) -> None:
        """Becomes active under ``mark``."""
        await self.ledger.claim(mark)
        self.standing.claim_epoch(mark)
        self.standing.become(Role.ACTIVE)
        self.replicator.retry_now()


def transaction(
    base: Manifest,
    files: dict[str, bytes],
    deletes: tuple[str, ...] = (),
    *,
    mark: Watermark = FIRST,
    generation: int = 1,
    intent: bool = False,
) -> Transaction:
    """The transaction by which a sender brings ``files`` to a peer that holds ``base``."""
    puts = tuple(manifest_of(files))
    return Transaction(
        epoch=mark.epoch,
        claimed_by=mark.claimed_by,
        generation=generation,
        base=base.hash,
        result=base.changed(puts, deletes).hash,
        puts=puts,
        deletes=deletes,
        contents={digest(content): content for content in files.values()},
        intent=intent,
    )
