"""The steps of a takeover: claim, interlock, orphans, activate, load."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from ha_agent.adapters.supervisord import RereadRefused, SupervisordDown
from ha_agent.core.peer_summary import PeerSummary
from ha_agent.core.settings import TakeoverSettings
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Outcome, Step
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.interlock import OFF, Interlock, PeerWord
from ha_agent.daemon.programs.active_set import ActiveSet
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.loader import Loader, culprit_of
from ha_agent.daemon.programs.orphan_hunt import OrphanHunt
from ha_agent.daemon.programs.supervised import Supervised
from ha_agent.daemon.replication.view import RegistryView
from ha_agent.daemon.role.claims import Claims
from ha_agent.daemon.role.hooks import HookSteps
from ha_agent.daemon.role.peer_off import PeerOffWord
from ha_agent.daemon.role.plan_run import StepCode, StepFailed
from ha_agent.daemon.role.start_order import StartOrder
from ha_agent.daemon.standing import Standing
from ha_agent.daemon.votes.votes import NoVotes, VotesMissing

log = logging.getLogger(__name__)

LOAD_ATTEMPTS = 30

VOTES_WAIT_S = 10.0
"""A wait for votes that takes longer is told: it is not the end of a dead peer's promises any more, by the defaults."""

REFUSALS = {
    Outcome.REFUSED: "the peer is active and MASTER itself",
    Outcome.MAINTENANCE: "the peer is in maintenance and releases nothing",
}
"""Outcomes by which the peer keeps what it has."""


class Takeover:
    """Takes over for one group. Every step is idempotent."""

    def __init__(
        self,
        limits: TakeoverSettings,
        standing: Standing,
        claims: Claims,
        interlock: Interlock,
        view: RegistryView,
        active_set: ActiveSet,
        supervised: Supervised,
        loaded: LoadedGroups,
        loader: Loader,
        orphans: OrphanHunt,
        hooks: HookSteps,
        start_order: StartOrder,
        events: Events,
        peer: Callable[[], PeerSummary | None],
        fence: Callable[[], Awaitable[int | None]],
        is_connected: Callable[[], Awaitable[bool]],
        give_way: Callable[[str], None],
        peer_off: PeerOffWord,
        votes: NoVotes,
    ) -> None:
        """``peer``: what was last heard of the other node. ``fence`` runs the operator's fence command and returns its exit
        status. ``is_connected``: whether one of ``require_any`` answers. ``give_way`` has keepalived give up MASTER here."""
        self._limits, self._standing, self._claims, self._interlock = limits, standing, claims, interlock
        self._view, self._active_set, self._supervised, self._loaded = view, active_set, supervised, loaded
        self._loader, self._orphans, self._events = loader, orphans, events
        self._peer, self._fence, self._is_connected, self._give_way = peer, fence, is_connected, give_way
        self._peer_off, self._votes, self._start_order = peer_off, votes, start_order
        self._last_settled: tuple[Watermark, str] | None = None
        self.steps: dict[Step, StepCode] = {
            Step.CLAIM: self._claim,
            Step.INTERLOCK: self._get_word,
            Step.ORPHANS: self._end_orphans,
            Step.ACTIVATE: self._activate,
            Step.LOAD: self._load,
            **hooks.takeover,
        }

    async def _claim(self) -> dict[str, Any]:
        """Raises the epoch, on disk before anything else happens. The votes are asked for meanwhile."""
        self._votes.want()
        peer = self._peer()
        mark = await self._claims.claim(peer.mark if peer else None, self._votes.seen_epoch)
        self._votes.note_epoch(mark.epoch)
        return {"epoch": mark.epoch}

    async def _get_word(self) -> dict[str, Any]:
        """Gets the peer's word that nothing is left running there, or settles by the stated policy that it will not come.

        Where there is a witness, this node must hold two of the three votes besides; then it needs no word. What an earlier
        supervisord has left here is looked for meanwhile.
        """
        self._orphans.begin()
        word = await self._interlock.ask(self._votes.is_held)
        if word.outcome not in OFF:
            self._peer_off.withdraw(f"it was asked once more, and what came of it is {word.outcome.value!r}")
        if word.outcome is Outcome.RELEASED:
            return {**word.to_dict(), **await self._get_votes("")}
        if word.outcome in REFUSALS:
            self._give_way(REFUSALS[word.outcome])
            raise StepFailed(REFUSALS[word.outcome])
        return await (self._settle_by_votes(word) if self._votes.is_needed else self._settle(word))

    async def _settle_by_votes(self, word: PeerWord) -> dict[str, Any]:
        """What is done without the peer's word where there is a witness: the votes alone decide, and a fence saves the wait.

        A node that does not hear the witness could not have them, and fences nobody.
        """
        limits, result = self._limits, word.to_dict()
        words = _describe(word)
        if limits.fence_command and not self._votes.is_held() and self._votes.hears_witness:
            began = self._votes.read_clock()
            fenced = result["fence_exit"] = await self._fence()
            if fenced == 0:
                self._votes.peer_was_fenced(began)
            words += "; fence_command succeeded" if fenced == 0 else f"; fence_command failed ({fenced})"
        result.update(await self._get_votes(f"no word of the peer: {words}; "))
        promised = ", ".join(result["votes"])
        self._note_settled(f"no word of the peer: {words}; votes of {promised}: the programs are started", True, result)
        return result

    async def _get_votes(self, why: str) -> dict[str, Any]:
        """Waits until this node holds the votes, as long as the takeover goes on, and has the keeper hold their deadline.

        ``why``: what is said before of a wait that takes longer than a dead peer's promises can last.
        """
        votes, standing = self._votes, self._standing
        if not votes.is_needed:
            standing.note_held(None)
            return {}
        while not await votes.wait_held(VOTES_WAIT_S):
            standing.note_held(f"{why}it has not got two of the three votes, but {_name_all(votes.promised)}")
        try:
            await votes.begin_use()
        except VotesMissing as error:
            standing.note_held(str(error))
            raise StepFailed(str(error)) from None
        standing.note_held(None)
        return {"votes": list(votes.promised)}

    def _require_votes(self) -> None:
        try:
            self._votes.require()
        except VotesMissing as error:
            raise StepFailed(str(error)) from None

    async def _settle(self, word: PeerWord) -> dict[str, Any]:
        """What is done without the peer's word: fence it, else what the policy says (``core/settings.POLICIES``).

        An operator's word that the machine is off stands for both. The decision goes into the history, once a takeover, and
        is in the standing for as long as it is to start nothing.
        """
        said = self._peer_off.find(self._standing.claim)
        if said is not None:
            result = {**word.to_dict(), "by": said.by, "reason": said.reason}
            self._note_settled(
                f"no word of the peer: {_describe(word)}; {said.text}; the programs are started", True, result
            )
            self._standing.note_held(None)
            return result
        if self._limits.require_any and not await self._is_connected():
            self._hold_cut_off(word)
        result, policy = word.to_dict(), self._limits.on_interlock_timeout
        has_fence = bool(self._limits.fence_command)
        fenced = None
        if has_fence:
            fenced = result["fence_exit"] = await self._fence()
        holds = fenced != 0 and (policy == "hold" or (policy == "hold-if-alive" and word.outcome not in OFF))
        words = _describe(word)
        if has_fence:
            words += "; fence_command succeeded" if fenced == 0 else f"; fence_command failed ({fenced})"
        decided = f'nothing is started, policy is "{policy}"' if holds else "the programs are started"
        text = f"no word of the peer: {words}; {decided}"
        self._note_settled(text, not holds, result)
        self._standing.note_held(text if holds else None)
        if holds:
            raise StepFailed(text)
        return result

    def _hold_cut_off(self, word: PeerWord) -> NoReturn:
        """Of two nodes that do not hear of each other this one may be the one that is cut off: it must not even fence."""
        names = ", ".join(self._limits.require_any)
        text = f"no word of the peer: {_describe(word)}; none of takeover.require_any answers ({names}); nothing is started"
        self._note_settled(text, False, {**word.to_dict(), "cut_off": True})
        self._standing.note_held(text)
        raise StepFailed(text)

    def _note_settled(self, text: str, started: bool, result: dict[str, Any]) -> None:
        """Tells each takeover's decision once: it is tried again and again while it holds."""
        key = (self._standing.claim, text)
        if key != self._last_settled:
            policy = self._limits.on_interlock_timeout
            self._events.add("interlock-settled", text, started=started, policy=policy, **result)
            self._last_settled = key

    async def _end_orphans(self) -> dict[str, Any]:
        """Ends what an earlier supervisord left running, before the present one could start second copies.

        A supervisord that hangs is ended as well: only a new one can be loaded.
        """
        supervised, caught = self._supervised, await self._orphans.finish()
        if caught.left:
            named = ", ".join(f"{p.process} (pid {p.pid})" for p in caught.left[:20])
            raise StepFailed(f"orphans cannot be ended: {named}")
        if not caught.is_up:
            supervised.note_process()
            if supervised.process.is_alive:
                self._active_set.remove()
                await supervised.end()
            raise StepFailed("supervisord does not answer")
        return {}

    async def _activate(self) -> dict[str, Any]:
        """Puts every conf that this node can load into the active set and names the others."""
        selection = await self._active_set.judge(self._view.manifest)
        self._require_votes()
        await self._active_set.write(keep_last_good=False)
        self._loaded.remember(selection.groups)
        for path, problem in selection.problems.items():
            log.error("%s cannot be loaded on this node: %s", path, problem)
        return {"confs": len(selection.loadable), "not_loadable": dict(selection.problems)}

    async def _load(self) -> dict[str, Any]:
        """Loads the active set. What supervisord refuses all the same is taken out, one conf after the other.

        Fails where supervisord was replaced meanwhile: the new one has found an empty active set.
        """
        self._require_votes()
        self._supervised.note_process()
        supervisord = self._supervised.life
        if supervisord is None:
            raise StepFailed("there is no supervisord")
        self._standing.note_loaded(supervisord)
        result = await self._load_all()
        self._supervised.note_process()
        if supervisord.is_other_than(self._supervised.life):
            raise StepFailed("supervisord was replaced while it was being loaded")
        return result

    async def _load_all(self) -> dict[str, Any]:
        held = self._start_order.begin()
        for attempt in range(LOAD_ATTEMPTS):
            try:
                refused = await self._loader.load(self._active_set.selection.order, self._limits.start_all, held)
            except SupervisordDown as error:
                raise StepFailed(f"supervisord: {error}") from None
            except RereadRefused as error:
                await self._drop_culprit(str(error), attempt)
            else:
                return {**({"refused": refused} if refused else {}), **({"held": sorted(held)} if held else {})}
        raise StepFailed("supervisord refuses the confs again and again")

    async def _drop_culprit(self, message: str, attempt: int) -> None:
        """First all confs are judged afresh (the machine may have changed), then the one that supervisord blames goes."""
        active_set, manifest = self._active_set, self._view.manifest
        if attempt == 0:
            await active_set.judge(manifest, afresh=True)
        else:
            name = culprit_of(message)
            if name is None or active_set.drop(name, message) is None:
                raise StepFailed(f"supervisord refuses its configuration: {message}")
        await active_set.write(keep_last_good=False)
        self._events.add("reread-refused", message)


def _describe(word: PeerWord) -> str:
    return f"{word.outcome.value} ({word.because or 'no reason given'})"


def _name_all(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
