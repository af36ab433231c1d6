"""The steps of a takeover: claim, interlock, orphans, activate, load; and the look at the programs that follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from ha_agent.adapters.reach import is_machine_up
from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.runner import ProgramMissing, run_program
from ha_agent.adapters.supervisord import RereadRefused, SupervisordDown
from ha_agent.core.plans import claim_epoch, outranks
from ha_agent.core.words import Role, Step
from ha_agent.daemon.programs.supervised import culprit_of
from ha_agent.daemon.role.plan_run import StepCode, StepFailed

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

log = logging.getLogger(__name__)

VERIFY_POLL_S = 0.2
VERIFY_LIMIT_S = 120.0
LOAD_ATTEMPTS = 30

GIVEN = frozenset({"released"})
"""Outcomes of the interlock that are the peer's word."""

REFUSALS = {
    "refused": "the peer is active and MASTER itself",
    "maintenance": "the peer is in maintenance and releases nothing",
}
"""Outcomes by which the peer keeps what it has."""

OFF = frozenset({"dead", "link-down"})
"""Outcomes that mean that the peer's machine does not answer at all."""


class Takeover:
    """Takes over for one agent. Every step is idempotent; ``resuming`` keeps the epoch of a takeover that was cut off."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._limits = agent.settings.takeover
        self.resuming = False
        self._last_settled = ""
        self.steps: dict[Step, StepCode] = {
            Step.CLAIM: self._claim,
            Step.INTERLOCK: self._interlock,
            Step.ORPHANS: self._end_orphans,
            Step.ACTIVATE: self._activate,
            Step.LOAD: self._load,
        }

    async def _claim(self) -> dict[str, Any]:
        """Raises the epoch, on disk before anything else happens."""
        agent = self._agent
        known = agent.ledger.known
        if agent.peer is not None and outranks(agent.peer.mark, known):
            known = agent.peer.mark
        claim = claim_epoch(known, agent.node, resuming=self.resuming)
        await agent.ledger.claim(claim)
        agent.standing.claim_epoch(claim)
        self.resuming = True
        return {"epoch": agent.standing.claim.epoch}

    async def _interlock(self) -> dict[str, Any]:
        """Gets the peer's word that nothing is left running there, or settles by the stated policy that it will not come."""
        outcome = await self._ask_until_settled()
        result = outcome["interlock"]
        if result in GIVEN:
            return outcome
        if result in REFUSALS:
            self._agent.give_way(REFUSALS[result])
            raise StepFailed(REFUSALS[result])
        await self._settle(outcome)
        return outcome

    async def _settle(self, outcome: dict[str, Any]) -> None:
        """What is done without the peer's word: fence it, else what the policy says. The decision goes into the history."""
        result, policy = outcome["interlock"], self._limits.on_interlock_timeout
        fenced = None
        if self._limits.fence_command:
            fenced = outcome["fence_exit"] = await self._fence()
        holds = policy == "hold" and fenced != 0 and (bool(self._limits.fence_command) or result not in OFF)
        words = f"{result} ({outcome.get('because', 'no reason given')})"
        if self._limits.fence_command:
            words += "; fence_command succeeded" if fenced == 0 else f"; fence_command failed ({fenced})"
        decided = f'nothing is started, policy is "{policy}"' if holds else "the programs are started"
        text = f"no word of the peer: {words}; {decided}"
        if text != self._last_settled:
            self._agent.history.add("interlock-settled", text, started=not holds, policy=policy, **outcome)
            self._last_settled = text
        if holds:
            raise StepFailed(text)

    async def _ask_until_settled(self) -> dict[str, Any]:
        """Asks for the release. A peer whose machine is up while its agent is silent gets ``silent_peer_s`` to come back."""
        agent, limits = self._agent, self._limits
        limit = agent.loop.time() + limits.silent_peer_s
        waiting = False
        while True:
            peer = agent.settings.peer
            probe = asyncio.ensure_future(is_machine_up(peer.address, peer.ssh_port, limits.peer_probe_s))
            try:
                outcome = await self._ask_release()
                if outcome["interlock"] not in OFF or not await probe:
                    return outcome
            finally:
                probe.cancel()
                await asyncio.gather(probe, return_exceptions=True)
            if agent.loop.time() >= limit:
                because = f"its machine answers, its agent did not within {limits.silent_peer_s:g} s"
                return {"interlock": "silent", "because": because}
            if not waiting:
                waiting = True
                text = f"the peer's machine answers, its agent does not: waiting for it, {limits.silent_peer_s:g} s at most"
                agent.history.add("peer-silent", text, because=outcome.get("because"))
            await self._await_link(limits.peer_probe_s)

    async def _await_link(self, limit_s: float) -> None:
        """Waits a little for the link, which is tried again at once."""
        self._agent.link.nudge()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._agent.link_changed.wait(), limit_s)

    async def _ask_release(self) -> dict[str, Any]:
        """Asks the peer to release and waits for its word. A peer that does not even say that it heard counts as dead."""
        agent, limits = self._agent, self._limits
        if not agent.link.is_up:
            return {"interlock": "link-down", "because": agent.link.problem}
        heard = asyncio.Event()
        message = {"op": "release", "epoch": agent.standing.claim.epoch, "claimed_by": agent.standing.claim.claimed_by}
        asking = asyncio.ensure_future(agent.link.ask(message, limits.interlock_timeout_s, lambda _: heard.set()))
        hearing = asyncio.ensure_future(heard.wait())
        try:
            await asyncio.wait({asking, hearing}, timeout=limits.peer_probe_s, return_when=asyncio.FIRST_COMPLETED)
            if not heard.is_set() and not asking.done():
                agent.link.give_up("no answer to the interlock")
                return {"interlock": "dead", "because": f"no sign of life within {limits.peer_probe_s:g} s"}
            answer = await asking
        except TimeoutError:
            return {"interlock": "timeout", "because": f"not released after {limits.interlock_timeout_s:g} s"}
        except (Disconnected, RemoteError) as error:
            return {"interlock": "dead", "because": str(error)}
        finally:
            hearing.cancel()
            asking.cancel()
            await asyncio.gather(asking, hearing, return_exceptions=True)
        return {"interlock": str(answer.get("outcome", "released"))}

    async def _fence(self) -> int | None:
        """Runs the operator's fence command; returns its exit status, None where it did not end in time or is missing."""
        limits = self._limits
        try:
            outcome = await run_program(limits.fence_command, limits.fence_timeout_s)
        except ProgramMissing as error:
            log.error("fence_command: %s", error)
            return None
        if outcome.code != 0:
            log.error("fence_command ended with %s: %s", outcome.code, outcome.errors.strip()[-500:])
        return outcome.code

    async def _end_orphans(self) -> dict[str, Any]:
        """Ends what an earlier supervisord left running, before the present one could start second copies.

        A supervisord that hangs is ended as well: only a new one can be loaded.
        """
        programs = self._agent.programs
        up, left = await asyncio.gather(programs.is_up(), programs.end_orphans())
        if left:
            raise StepFailed(f"orphans cannot be ended: {', '.join(f'{p.process} (pid {p.pid})' for p in left[:20])}")
        if not up:
            programs.look()
            if programs.process.is_alive:
                self._agent.active_set.remove()
                await programs.end_supervisord()
            raise StepFailed("supervisord does not answer")
        return {}

    async def _activate(self) -> dict[str, Any]:
        """Puts every conf that this node can load into the active set and names the others."""
        agent = self._agent
        manifest = agent.view.manifest
        selection = await agent.active_set.judge(manifest)
        await agent.active_set.write(keep_last_good=False)
        agent.programs.remember_groups(selection.groups)
        for path, problem in selection.problems.items():
            log.error("%s cannot be loaded on this node: %s", path, problem)
        return {"confs": len(selection.loadable), "not_loadable": dict(selection.problems)}

    async def _load(self) -> dict[str, Any]:
        """Loads the active set. What supervisord refuses all the same is taken out, one conf after the other.

        Fails where supervisord was replaced meanwhile: the new one has found an empty active set.
        """
        agent = self._agent
        supervisord = agent.programs.process.identity
        if supervisord is None:
            raise StepFailed("there is no supervisord")
        agent.standing.note_loaded(supervisord)
        result = await self._load_all()
        if agent.programs.process.identity != supervisord:
            raise StepFailed("supervisord was replaced while it was being loaded")
        return result

    async def _load_all(self) -> dict[str, Any]:
        for attempt in range(LOAD_ATTEMPTS):
            try:
                refused = await self._agent.programs.load(self._agent.active_set.selection.order, self._limits.start_all)
            except SupervisordDown as error:
                raise StepFailed(f"supervisord: {error}") from None
            except RereadRefused as error:
                await self._drop_culprit(str(error), attempt)
            else:
                return {"refused": refused} if refused else {}
        raise StepFailed("supervisord refuses the confs again and again")

    async def _drop_culprit(self, message: str, attempt: int) -> None:
        """First all confs are judged afresh (the machine may have changed), then the one that supervisord blames goes."""
        active_set, manifest = self._agent.active_set, self._agent.view.manifest
        if attempt == 0:
            await active_set.judge(manifest, afresh=True)
        else:
            name = culprit_of(message)
            if name is None or active_set.drop(name, message) is None:
                raise StepFailed(f"supervisord refuses its configuration: {message}")
        await active_set.write(keep_last_good=False)
        self._agent.history.add("reread-refused", message)

    async def verify(self, code: str) -> None:
        """Looks until every program runs or has failed, and puts the outcome into the history under ``code``."""
        agent = self._agent
        clock = agent.loop.time
        began = clock()
        while agent.standing.role is Role.ACTIVE:
            asked = clock()
            try:
                seen = await agent.programs.verify(agent.active_set.selection.not_started)
            except SupervisordDown as error:
                agent.history.add("supervisord-down", str(error))
                return
            if not seen.waiting or clock() - began > VERIFY_LIMIT_S:
                text = f"{seen.running} programs running, {len(seen.failed)} failed, {seen.waiting} still starting"
                took = round(clock() - began, 3)
                agent.history.add(code, text, failed=seen.failed, running=seen.running, took_s=took)
                return
            # supervisord needs 0.2 s to describe 500 processes and does nothing else meanwhile.
            await agent.standing.wait_change(max(VERIFY_POLL_S, 4 * (clock() - asked)))
