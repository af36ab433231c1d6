"""The peer as a voter, over the link of this node: a question has no answer where the link is down or silent."""

from __future__ import annotations

import contextlib

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.adapters.ssh import PeerLink
from ha_agent.core.vote_frames import NotAnAnswer, ask_message, let_go_message, read_answer
from ha_agent.core.voter import Answer, Ask, LetGo


class LinkVotes:
    """Questions over ``link``. ``problem``: why the last one had no answer; empty where it had one."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self.problem = ""

    async def ask_vote(self, ask: Ask, timeout_s: float) -> Answer | None:
        """The peer's answer; None where none came in time, or one that is no vote."""
        if not self._link.is_up:
            self.problem = self._link.problem
            return None
        try:
            answer = read_answer(await self._link.ask(ask_message(ask), timeout_s))
        except TimeoutError:
            self.problem = f"it did not answer within {timeout_s:g} s"
            return None
        except (Disconnected, RemoteError, NotAnAnswer) as error:
            self.problem = str(error)
            return None
        self.problem = ""
        return answer

    async def tell_let_go(self, said: LetGo, timeout_s: float) -> None:
        """Tells the peer; never raises."""
        with contextlib.suppress(Disconnected, RemoteError, TimeoutError):
            if self._link.is_up:
                await self._link.ask(let_go_message(said), timeout_s)
