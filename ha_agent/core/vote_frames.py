"""Questions for votes and their answers as frames between the two agents. Pure."""

from __future__ import annotations

from typing import Any

from ha_agent.core.frames import Message
from ha_agent.core.voter import Answer, Ask, LetGo
from ha_agent.core.witness_record import LARGEST_NUMBER, BadRecord, parse_record

VOTE, LET_GO = "vote", "vote-let-go"
"""The operations' names (``daemon/operations/table.py``)."""

LONGEST_NAME = 64
LONGEST_TTL_S = 600.0


class NotAnAnswer(ValueError):
    """The peer answered something else than a vote."""


def ask_message(ask: Ask) -> dict[str, Any]:
    """``ask`` as a request."""
    return {
        "op": VOTE,
        "holder": ask.holder,
        "boot": ask.boot,
        "number": ask.number,
        "ttl_s": ask.ttl_s,
        "holds": ask.holds,
    }


def let_go_message(said: LetGo) -> dict[str, Any]:
    """``said`` as a request."""
    return {"op": LET_GO, "holder": said.holder, "boot": said.boot, "number": said.number}


def answer_message(answer: Answer) -> dict[str, Any]:
    """``answer`` as it stands in the frame."""
    return {
        "boot": answer.boot,
        "number": answer.number,
        "promised": answer.promised,
        "ttl_s": answer.ttl_s,
        "to": answer.to,
        "freed": answer.freed.to_text() if answer.freed is not None else None,
    }


def read_answer(raw: Message) -> Answer:
    """The reverse of ``answer_message``. Raises ``NotAnAnswer``."""
    boot, number, promised = raw.get("boot"), raw.get("number"), raw.get("promised")
    ttl_s, to, freed = raw.get("ttl_s"), raw.get("to"), raw.get("freed")
    if not (isinstance(boot, str) and isinstance(to, str) and isinstance(promised, bool)):
        raise NotAnAnswer("the peer's answer is no vote")
    if type(number) is not int or not 0 <= number < LARGEST_NUMBER:
        raise NotAnAnswer("the peer's vote has no number")
    if not isinstance(ttl_s, int | float) or not 0 <= ttl_s <= LONGEST_TTL_S:
        raise NotAnAnswer("the peer's vote has no time")
    try:
        record = parse_record(freed) if isinstance(freed, str) else None
    except BadRecord as error:
        raise NotAnAnswer(str(error)) from None
    return Answer(boot, number, promised, float(ttl_s), to, record)


def is_sound(holder: str, boot: str, number: int, ttl_s: float = 1.0) -> bool:
    """Whether the fields of a request can be a node's question."""
    names = bool(holder) and len(holder) <= LONGEST_NAME and len(boot) <= LONGEST_NAME
    return names and 0 <= number < LARGEST_NUMBER and 0 < ttl_s <= LONGEST_TTL_S
