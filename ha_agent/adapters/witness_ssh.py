"""The witness's record on any third host, over one OpenSSH connection to the forced command ``ha-agent-witness`` there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.witness import NoAnswer
from ha_agent.core.frames import FrameError, Message
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import LinkSettings, PeerSettings
from ha_agent.core.witness_record import ABSENT, NOTHING_THERE, BadRecord, Record, Sight, parse_record
from ha_agent.core.witness_watch import Outcome

COMMAND = "votes"
MISSED = 2
"""A connection on which so many answers in a row did not come is closed: ssh would notice its end after 15 s only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessHost:
    """Where the witness is, and which key reaches the pair's record there. Its host key is pinned under the host's name."""

    host: str
    port: int
    user: str
    key_file: str
    known_hosts: str


class SshWitness:
    """The record behind the key of ``where``. ``run`` keeps the connection up; without one every question fails at once."""

    def __init__(self, where: WitnessHost, run_dir: str, wall: Callable[[], float] = time.time) -> None:
        link = LinkSettings(key_file=where.key_file, known_hosts=where.known_hosts, connect_timeout_s=5.0, retry_max_s=1.0)
        peer = PeerSettings(name=where.host, address=where.host, ssh_port=where.port, ssh_user=where.user)
        self._link = PeerLink(link, peer, run_dir, _greet_nobody, lambda: None, COMMAND, "witness")
        self._wall = wall
        self._missed = 0
        self._problem = ""

    async def run(self) -> None:
        """Connects again and again until cancelled."""
        await self._link.run(self._wall)

    @property
    def problem(self) -> str:
        return self._problem

    async def read(self, timeout_s: float) -> Sight:
        """The record as it is on the host's disk. Raises ``NoAnswer``."""
        return self._sight(await self._ask({"op": "read"}, timeout_s))

    async def swap(self, expected: Sight, record: Record, timeout_s: float) -> tuple[Outcome, Sight | None]:
        """Writes where revision and text are still those of ``expected``; on the host's disk before the answer."""
        seen = expected.record.to_text() if expected.record is not None else None
        try:
            question = {"op": "swap", "revision": expected.revision, "text": seen, "new": record.to_text()}
            answer = await self._ask(question, timeout_s)
            return Outcome.DONE if answer.get("done") is True else Outcome.OTHER, self._sight(answer)
        except NoAnswer:
            return Outcome.UNKNOWN, None

    def close(self) -> None:
        """Closes the connection; ``run`` must be cancelled as well."""
        self._link.give_up("the agent lets go of the witness")

    async def _ask(self, question: dict[str, Any], timeout_s: float) -> Message:
        try:
            answer = await self._link.ask(question, timeout_s)
        except TimeoutError:
            self._missed += 1
            if self._missed >= MISSED:
                self._missed = 0
                self._link.give_up(f"{MISSED} answers in a row did not come")
            self._problem = f"the witness host did not answer within {timeout_s:g} s"
            raise NoAnswer(self._problem) from None
        except (Disconnected, RemoteError, FrameError, OSError) as error:
            self._problem = reason_of(error)
            raise NoAnswer(self._problem) from None
        self._missed, self._problem = 0, ""
        return answer

    def _sight(self, answer: Message) -> Sight:
        revision, text = answer.get("revision"), answer.get("text")
        if revision == ABSENT and text is None:
            return NOTHING_THERE
        try:
            if type(revision) is not int or revision <= ABSENT or not isinstance(text, str):
                raise BadRecord("the witness host answered what is not understood")
            return Sight(revision, parse_record(text))
        except BadRecord as error:
            self._problem = str(error)
            raise NoAnswer(self._problem) from None


async def _greet_nobody(_link: PeerLink) -> None:
    """The forced command is ready as soon as it is there."""
