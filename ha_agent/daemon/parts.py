"""Parts of the agent on which no role depends: one that fails is told and started again, and the agent goes on.

For any other part an exception that nobody has thought of ends the agent, which is started again and finds its role and its
programs as they were. Five such ends within ten seconds give up the VIP and end the programs: a price that a role is worth,
and that a defect in replication or in judging confs is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0


async def keep_running(name: str, work: Callable[[], Awaitable[None]], events: Events) -> None:
    """Does ``work``, and does it again where it fails, after pauses that grow. Ends when ``work`` ends by itself.

    ``work`` can be begun again whatever it has left undone.
    """
    pause = FIRST_PAUSE_S
    while True:
        try:
            return await work()
        except Exception as error:
            log.critical("%s failed and is started again in %g s", name, pause, exc_info=error)
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            events.add("part-failed", f"{name} failed ({what:.200}); it is started again", part=name)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_S)
