"""How far the replication of payload is: what both ends note, and the account of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ha_agent.core.width import count_text


class PayloadState(StrEnum):
    """How the payload of a pair is, as one node sees it."""

    IN_SYNC = "in_sync"
    PENDING = "pending"
    COPYING = "copying"
    HELD = "held"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    RECEIVING = "receiving"
    """Of a node that is not active."""


STUCK = frozenset({PayloadState.HELD, PayloadState.REFUSED})
"""It goes no further without somebody."""


def say_pending(count: int | None, peer: str) -> str:
    """What the peer lacks, in words."""
    lacks = "files of the payload" if count is None else count_text(count, "file") + " of the payload"
    return f"{lacks} wait for {peer}"


@dataclass(slots=True)
class Received:
    """What the receiving end knows. ``at_wall``: when it was equal to the active node's for the last time.

    ``foreign``: how many files only this node has. ``refusal``: what it answered where it took nothing.
    """

    at_wall: float | None = None
    files: int = 0
    foreign: int = 0
    refusal: str | None = None


@dataclass(slots=True)
class Sent:
    """What the sending end knows.

    ``pending``: how many files, links and directories the peer has otherwise, None where that is not known. ``reason``: why
    it goes no further. ``problems``: what does not travel. ``bytes_done`` of ``bytes_all`` of a copy under way.
    """

    state: PayloadState = PayloadState.PENDING
    files: int = 0
    bytes: int = 0
    pending: int | None = None
    pending_since_wall: float | None = None
    at_wall: float | None = None
    reason: str | None = None
    problems: tuple[str, ...] = ()
    bytes_done: int = 0
    bytes_all: int = 0


@dataclass(frozen=True, slots=True)
class PayloadAccount:
    """One node's account of the payload. Wall clock seconds; what a node cannot know is None or 0."""

    state: PayloadState
    files: int = 0
    bytes: int = 0
    pending: int | None = None
    pending_since_wall: float | None = None
    at_wall: float | None = None
    reason: str | None = None
    problems: tuple[str, ...] = ()
    bytes_done: int = 0
    bytes_all: int = 0
    foreign: int = 0
    is_late: bool = False
    """Whether a change has waited for longer than ``payload.lag_s``."""


def describe_sent(sent: Sent, *, link_up: bool, now: float, lag_s: float) -> PayloadAccount:
    """The active node's account."""
    since = sent.pending_since_wall
    return PayloadAccount(
        state=sent.state if link_up else PayloadState.UNREACHABLE,
        files=sent.files,
        bytes=sent.bytes,
        pending=sent.pending,
        pending_since_wall=since,
        at_wall=sent.at_wall,
        reason=sent.reason,
        problems=sent.problems,
        bytes_done=sent.bytes_done,
        bytes_all=sent.bytes_all,
        is_late=link_up and since is not None and now - since >= lag_s,
    )


def describe_received(received: Received, *, link_up: bool) -> PayloadAccount:
    """The account of any other node."""
    return PayloadAccount(
        state=PayloadState.RECEIVING if link_up else PayloadState.UNREACHABLE,
        files=received.files,
        at_wall=received.at_wall,
        reason=received.refusal,
        foreign=received.foreign,
    )
