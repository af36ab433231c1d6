"""What an operator can have done, and what HTTP says to how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ha_agent.core.visible import is_steering
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
LONGEST_MAINTENANCE_S = 7 * 86400


async def do_action(pair: Pair, action: str, programs: Sequence[str], by: str) -> Result:
    """Does what an operator has confirmed, to all ``programs`` at once. Raises ``Denied`` where there is no such action."""
    if action == "switchover":
        return await pair.switch_over(by)
    if action not in ACTIONS or not 0 < len(programs) <= MOST_PROGRAMS or not all(map(_is_name, programs)):
        raise Denied(400, "there is no such action")
    return await pair.act(action, programs, by)


async def do_maintenance(pair: Pair, for_s: float, reason: str, by: str) -> Result:
    """Begins or ends a maintenance, as ``Pair.set_maintenance``. Raises ``Denied`` for a time that cannot be."""
    if for_s != 0 and not 1 <= for_s <= LONGEST_MAINTENANCE_S:
        raise Denied(400, "a maintenance lasts between 1 s and 7 days")
    if is_steering(reason):
        raise Denied(400, "the reason is one line of text")
    return await pair.set_maintenance(for_s, reason[:500], by)


def _is_name(program: str) -> bool:
    return bool(program) and len(program) <= 300 and program != "all" and not program.startswith("-")
