"""What is done about a check that fails: a restart of its program, or a hand-over that is prepared on both nodes.

Whatever it does can be cut off anywhere. A hand-over begins only when both nodes have it on their disks: then neither gives
the programs back for the same fault, also when it is killed in the next moment. A restart is counted before it begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ha_agent.core.check_acts import Act, ActFacts, Move, Verdict, decide_act, find_unfinished
from ha_agent.core.checks import CheckSettings
from ha_agent.core.findings import Severity
from ha_agent.core.node_json import NodeAccountJson
from ha_agent.core.prechecks import find_obstacles
from ha_agent.core.rules import Cause
from ha_agent.daemon.checks.record import CheckRecord
from ha_agent.daemon.events import Events
from ha_agent.daemon.peer.conversation import Conversation
from ha_agent.daemon.role.hand_over import HandOver
from ha_agent.daemon.standing import Standing

PEER_NOTES_S = 3.0
"""The peer has this long to say that it has noted a hand-over. It writes a file for that."""

Restart = Callable[[str, str], Awaitable[str | None]]


class CheckActs:
    """``peer``: the name of the other node. ``restart``: restarts a program, told who asks for it; says why it could not.

    ``describe``: this node's own account. ``wall``: the wall clock, in seconds.
    """

    def __init__(
        self,
        peer: str,
        standing: Standing,
        record: CheckRecord,
        conversation: Conversation,
        hand_over: HandOver,
        restart: Restart,
        describe: Callable[[], Awaitable[NodeAccountJson]],
        events: Events,
        wall: Callable[[], float],
    ) -> None:
        self._peer, self._standing, self._record = peer, standing, record
        self._conversation, self._hand_over = conversation, hand_over
        self._restart, self._describe, self._events, self._wall = restart, describe, events, wall

    async def act(self, name: str, check: CheckSettings, why: str, is_wanted: Callable[[], bool]) -> Verdict:
        """Does what is to be done about the check ``name``, which fails because of ``why``, and says what that was.

        ``is_wanted``: whether it is still to be done; asked again before each step that changes something.
        """
        facts = self._gather_facts(name)
        verdict = decide_act(name, check, facts)
        if verdict.act is Act.RESTART:
            return await self.restart(name, check, why)
        if verdict.act is Act.HAND_OVER:
            return await self._move(name, facts, why, is_wanted)
        return verdict

    def _gather_facts(self, name: str) -> ActFacts:
        standing, record = self._standing, self._record
        return ActFacts(self._wall(), standing.node, standing.claim.epoch, record.moves, record.restarts.get(name, ()))

    # ---- restart ------------------------------------------------------------------------------------------

    async def restart(self, name: str, check: CheckSettings, why: str) -> Verdict:
        """Counts a restart of the check's program, and makes it."""
        try:
            self._record.begin_restart(name)
        except OSError as error:
            return Verdict(Act.HOLD, f"{check.program} is not restarted: that cannot be noted: {error.strerror or error}")
        self._events.add(
            "check-restart", f"check {name}: {why}: restarts {check.program}", check=name, program=check.program
        )
        return await self.finish_restart(name, check)

    async def finish_restart(self, name: str, check: CheckSettings) -> Verdict:
        """Makes a restart that is counted already. One that an agent before this one was killed in is made again."""
        problem = await self._restart(check.program, f"check {name}")
        self._record.end_restart()
        return Verdict(Act.RESTART, f"{check.program} was restarted in vain: {problem}" if problem is not None else "")

    # ---- hand-over ----------------------------------------------------------------------------------------

    async def _move(self, name: str, facts: ActFacts, why: str, is_wanted: Callable[[], bool]) -> Verdict:
        if obstacle := await self._find_obstacle():
            return Verdict(Act.HOLD, f"not handed over: {obstacle}")
        move = find_unfinished(name, facts) or Move(round(facts.now, 3), name, facts.node, facts.epoch)
        if not is_wanted():
            return Verdict(Act.NOTHING)
        try:
            self._record.add_move(move)
        except OSError as error:
            return Verdict(Act.HOLD, f"not handed over: that cannot be noted: {error.strerror or error}")
        if not await self._peer_knows(move):
            return Verdict(Act.HOLD, f"not handed over: {self._peer} has not noted it")
        if not is_wanted():
            return Verdict(Act.NOTHING)
        text = f"check {name}: {why}: hands over to {self._peer}"
        self._events.add("check-moves", text, check=name, epoch=move.epoch)
        self._hand_over.begin(f"check {name}: {why}", Cause.CHECK)
        return Verdict(Act.HAND_OVER)

    async def _peer_knows(self, move: Move) -> bool:
        await self._conversation.ask_role(PEER_NOTES_S)
        peer = self._conversation.peer
        return peer is not None and any(known.identity == move.identity for known in peer.moves or ())

    async def _find_obstacle(self) -> str | None:
        """What speaks against a hand-over now: what a switchover asks, and that both nodes have the same checks."""
        if (why := await self._hand_over.find_obstacle()) is not None:
            return why
        peer = self._conversation.peer
        if peer is None or peer.moves is None or peer.agreement.get("checks") != self._conversation.agreement.get("checks"):
            return f"{self._peer} does not have the same checks: ha-agent config diff --peer"
        nodes = [await self._describe(), await self._conversation.query_status()]
        errors = [f for f in find_obstacles(nodes) if f.severity is Severity.ERROR]
        return "; ".join(_say(f.where, f.text) for f in errors[:3]) if errors else None


def _say(where: str, text: str) -> str:
    return f"{where} {text}" if where else text
