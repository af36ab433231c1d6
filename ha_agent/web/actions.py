"""What an operator can have done, and what HTTP says to how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


MOST_PROGRAMS = 500


async def do_action(pair: Pair, action: str, programs: Sequence[str], by: str) -> Result:
    """Does what an operator has confirmed, to all ``programs`` at once. Raises ``Denied`` where there is no such action."""
    if action == "switchover":
        return await pair.switch_over(by)
    if action not in ACTIONS or not 0 < len(programs) <= MOST_PROGRAMS or not all(map(_is_name, programs)):
        raise Denied(400, "there is no such action")
    return await pair.act(action, programs, by)


def _is_name(program: str) -> bool:
    return bool(program) and len(program) <= 300 and program != "all" and not program.startswith("-")
