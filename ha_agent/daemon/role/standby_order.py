"""The order that this node takes over nothing until told otherwise.

Owns the order and its file in the state directory: it outlives the agent and a reboot, because the reason for it does.
Must not decide the role: the rules do, and the track file has keepalived give MASTER to the other node.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict

from ha_agent.adapters.files import fsync_dir, read_or_none, remove_note, write_atomic
from ha_agent.core.orders import StandbyOrder, describe_order
from ha_agent.core.reasons import reason_of
from ha_agent.daemon.events import Events

log = logging.getLogger(__name__)


class StandbyOrders:
    """The order of one node. ``path``: its file; ``wall``: the wall clock, in seconds."""

    def __init__(self, path: str, events: Events, wall: Callable[[], float]) -> None:
        self._path, self._events, self._wall = path, events, wall
        self.order: StandbyOrder | None = None

    def find_reason(self) -> str | None:
        """Why this node must not be MASTER; None where nobody has ordered that."""
        return None if self.order is None else describe_order(self.order.by, self.order.reason)

    def load(self) -> None:
        """Takes up an order that an agent before this one was given.

        A file that cannot be read is an order all the same: somebody gave it, and a node that takes over against it does
        more harm than one that says why it does not.
        """
        try:
            raw = read_or_none(self._path)
            if raw is None:
                return
            content = json.loads(raw)
            self.order = StandbyOrder(float(content["since"]), str(content["by"]), str(content["reason"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s cannot be read, this node stays standby: %s", self._path, reason_of(error, self._path))
            self._events.add("state-damaged", f"{self._path} cannot be read: this node stays standby until it is unstandby")
            self.order = StandbyOrder(self._wall(), "?", f"{self._path} cannot be read")

    def give(self, reason: str, by: str) -> StandbyOrder:
        """Puts the order in force, or gives the one in force another reason. It is on the disk when this returns.

        Raises ``OSError``; nothing has changed then.
        """
        order = StandbyOrder(self.order.since if self.order else self._wall(), by, reason)
        write_atomic(self._path, json.dumps(asdict(order)).encode())
        self.order = order
        why = f" ({reason})" if reason else ""
        text = f"an operator ordered this node to stay standby until told otherwise{why}"
        self._events.add("standby-ordered", text, by=by, reason=reason)
        return order

    def lift(self, reason: str, by: str) -> bool:
        """Ends the order; says whether there was one. Raises ``OSError``; the order is in force then."""
        if self.order is None:
            return False
        remove_note(self._path)
        # An order that came back with a reboot would keep the node from a takeover that it is counted on for.
        fsync_dir(os.path.dirname(self._path))
        self.order = None
        why = f" ({reason})" if reason else ""
        self._events.add("standby-lifted", f"an operator let this node take over again{why}", by=by, reason=reason)
        return True
