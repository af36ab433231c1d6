"""What an operator can have done, and what HTTP says to how it ended."""

from __future__ import annotations

from collections.abc import Mapping

from ha_agent.core.words import CommandOutcome
from ha_agent.web.http import Denied
from ha_agent.web.pairs import ACTIONS, Pair, Result

STATUS_OF: Mapping[str, int] = {
    CommandOutcome.DONE: 200,
    CommandOutcome.INCOMPLETE: 202,
    CommandOutcome.REFUSED: 409,
    CommandOutcome.FAILED: 502,
    CommandOutcome.UNREACHABLE: 504,
}
"""HTTP statuses of answers to actions."""


async def do_action(pair: Pair, action: str, program: str, by: str) -> Result:
    """Does what an operator has confirmed. Raises ``Denied`` where there is no such action."""
    if action == "switchover":
        return await pair.switch_over(by)
    if action not in ACTIONS or not program or len(program) > 300 or program == "all" or program.startswith("-"):
        raise Denied(400, "there is no such action")
    return await pair.act(action, program, by)
