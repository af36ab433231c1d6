"""What an operator can have done, and what HTTP says to how it ended."""

from __future__ import annotations

from ha_agent.web.http import Denied
from ha_agent.web.pairs import ACTIONS, Pair, Result

STATUS_OF = {"done": 200, "incomplete": 202, "refused": 409, "failed": 502, "unreachable": 504}


async def do_action(pair: Pair, action: str, program: str, by: str) -> Result:
    """Does what an operator has confirmed. Raises ``Denied`` where there is no such action."""
    if action == "switchover":
        return await pair.switch_over(by)
    if action not in ACTIONS or not program or len(program) > 300 or program == "all" or program.startswith("-"):
        raise Denied(400, "there is no such action")
    return await pair.act(action, program, by)
