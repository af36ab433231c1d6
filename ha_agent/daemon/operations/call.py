"""Who asks, and on whose behalf: what every handler is told besides its request."""

from __future__ import annotations

from dataclasses import dataclass

from ha_agent.adapters.rpc import Caller, Progress
from ha_agent.core.frames import Message
from ha_agent.core.guard import Access
from ha_agent.core.visible import visible

WEB_USER = "ha-agent-web"
"""The user that the dashboard runs as, who says on whose behalf it asks."""

MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation.

    ``by``: the user's name, for the history. ``uid``: by the kernel's word; None where the peer's agent asks, for itself or
    for an operator there. ``progress`` sends a word ahead of the answer. ``root_there``: the peer's agent says that it asks
    for root of its node.
    """

    by: str
    uid: int | None
    access: Access
    progress: Progress
    root_there: bool = False

    @property
    def is_root(self) -> bool:
        """Whether root asks, of this node or, by the word of the peer's agent, of the other one."""
        return self.uid == 0 or (self.from_peer and self.root_there)

    def may_read(self, mode: int) -> bool:
        """Whether the content of a conf with permission bits ``mode`` may be given out.

        As on the disk: root reads all, everybody else what everybody may read.
        """
        return self.is_root or bool(mode & 0o004)

    @property
    def from_peer(self) -> bool:
        """Whether the peer's agent asks."""
        return self.uid is None


def call_of_user(message: Message, caller: Caller, progress: Progress) -> Call:
    """The call of a user of this node. What the message says of the user counts only where root or the dashboard says it."""
    by, sudo, behalf = caller.name, message.get("sudo_user"), message.get("on_behalf")
    if caller.uid == 0 and isinstance(sudo, str):
        by = _marked(sudo, "sudo")
    if isinstance(behalf, str) and (caller.uid == 0 or caller.name == WEB_USER):
        by = _marked(behalf, "web")
    return Call(by[:MAX_NAME], caller.uid, caller.access, progress)


def _marked(name: str, way: str) -> str:
    """``name`` with how it came, which a name of any length leaves to be seen."""
    mark = f" ({way})"
    return visible(name)[: MAX_NAME - len(mark)] + mark


def call_of_peer(message: Message, progress: Progress) -> Call:
    """The call of the peer's agent, which says for whom it asks and what that one may do; for itself it may do all."""
    try:
        access = Access(message.get("access", Access.OPERATE))
    except ValueError:
        access = Access.READ
    root_there = "access" not in message or message.get("root") is True
    return Call(visible(str(message.get("by", "?")))[:MAX_NAME], None, access, progress, root_there)
