"""The ledger: the highest epoch that this node knows, the generation, and the manifest that both nodes agreed on."""

from __future__ import annotations

import asyncio
import logging

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.journal import JournalPlace
from ha_agent.adapters.kept import prune_kept
from ha_agent.adapters.store import Loaded, Store
from ha_agent.core.manifest import EMPTY, Manifest, diff_manifests
from ha_agent.core.plans import outranks
from ha_agent.core.reasons import reason_of
from ha_agent.core.transaction import MOST_JUMP, Watermark

log = logging.getLogger(__name__)

CHECKPOINT_IDLE_S = 1.0
"""A checkpoint waits for a pause of this length, because its syncfs would make a change that comes meanwhile wait."""

CHECKPOINT_LATEST_S = 30.0


class Ledger:
    """The epoch, the generation and the agreed manifest: in memory at once, on disk by checkpoints.

    On a receiver the journal makes every agreed change durable before it is acknowledged; the checkpoint only shortens
    the journal. On a sender a lost second of agreement costs a false divergence mark at worst, never a conf.
    """

    def __init__(self, store: Store, committer: Committer, keep_generations: int) -> None:
        self._store = store
        self._keep_generations = keep_generations
        self._committer = committer
        self._known = Watermark()
        self.generation = 0
        self.agreed: Manifest = EMPTY
        self._edits: tuple[str, ...] = ()
        self.lock = asyncio.Lock()
        """Held by whoever writes the registry, the journal or the state files."""
        self._timer: asyncio.TimerHandle | None = None
        self._due_mono = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def known(self) -> Watermark:
        """The highest epoch that this node has heard of, and whose it is. It never falls."""
        return self._known

    @property
    def label(self) -> str:
        """The name under which kept copies of the present generation are stored."""
        return f"{self._known.epoch}.{self.generation}"

    def resume(self, loaded: Loaded) -> None:
        """Takes up what the disk holds, at a start."""
        self.learn(loaded.known)
        self.generation, self.agreed = loaded.generation, loaded.agreed

    def learn(self, mark: Watermark) -> bool:
        """Takes in an epoch that was heard of; says whether it is higher than the one that was known.

        This is the only way in which the known epoch changes, and it can only rise.
        """
        if not outranks(mark, self._known):
            return False
        self._known = mark
        return True

    def see_generation(self, generation: int) -> None:
        """Goes on from a generation that the peer knows where that one is higher, and not beyond what can be."""
        if generation - self.generation <= MOST_JUMP:
            self.generation = max(self.generation, generation)

    def next_generation(self) -> int:
        """Raises the generation for a change that goes out."""
        self.generation += 1
        return self.generation

    def apply_again(self, manifest: Manifest, mark: Watermark, generation: int) -> None:
        """Notes what the journal brought back after a crash."""
        self.agreed = manifest
        if not outranks(self._known, mark):
            self.learn(mark)
            self.generation = generation

    def agree(self, manifest: Manifest, mark: Watermark, generation: int) -> None:
        """Notes that both nodes hold ``manifest``."""
        self.learn(mark)
        self.agreed, self.generation = manifest, generation
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._due_mono = now + CHECKPOINT_LATEST_S
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + CHECKPOINT_IDLE_S, self._due_mono), self.checkpoint_soon)

    def local_edits(self, manifest: Manifest) -> tuple[str, ...]:
        """The paths by which ``manifest`` differs from what both nodes agreed on; nothing before the pair was one.

        While a commit is under way, inotify tells of its files before the ledger knows them: then the answer is the one
        that was given before.
        """
        if not self._known.epoch:
            return ()
        if not self.lock.locked():
            local = diff_manifests(self.agreed, manifest)
            self._edits = tuple(sorted([e.path for e in local.puts] + list(local.deletes)))
        return self._edits

    def checkpoint_soon(self) -> None:
        """Begins a checkpoint unless one is under way."""
        self._timer = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.checkpoint())

    async def claim(self, mark: Watermark) -> None:
        """Puts the epoch that this node claims on disk. Returns when it is there. Raises ``OSError``."""
        async with self.lock:
            await asyncio.to_thread(self._claim, mark)
            self.learn(mark)
            self.generation = 0

    def _claim(self, mark: Watermark) -> None:
        self._store.save_state(mark, 0)
        if self._committer.journal.size:
            # From now on the registry is edited here: what was received must not be rolled forward over that.
            self._checkpoint(mark, 0, self.agreed)

    async def checkpoint(self) -> None:
        """Puts registry and agreed manifest on disk and clears the journal. A failure leaves the journal as it is.

        No change and no claim waits for its longest part, half a second and more where other programs have written much.
        """
        async with self.lock:
            place = self._committer.journal.place
        try:
            await asyncio.to_thread(self._committer.flush)
            async with self.lock:
                await asyncio.to_thread(self._checkpoint, self._known, self.generation, self.agreed, place)
        except OSError as error:
            log.warning("checkpoint put off: %s", reason_of(error))

    def _checkpoint(self, known: Watermark, generation: int, agreed: Manifest, flushed: JournalPlace | None = None) -> None:
        self._committer.settle(flushed)
        self._store.save_agreed(known, generation, agreed)
        self._store.save_state(known, generation)
        self._store.renew_reserve()
        self._committer.journal.clear()
        self._committer.clear_staging()
        prune_kept(self._store.state_dir, self._keep_generations)

    async def close(self) -> None:
        """Makes a last checkpoint if one is due."""
        if self._timer is not None:
            self._timer.cancel()
            await self.checkpoint()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
