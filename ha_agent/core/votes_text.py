"""The votes of a node in one line: "votes 2 of 3: self, node-b; witness silent for 4 min". Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ha_agent.core.node_json import VotesJson

if TYPE_CHECKING:
    # For the type alone: the dashboard says votes and has no use for an account.
    from ha_agent.core.account import VotesAccount

ALL = 3


def say_votes(votes: VotesAccount, node: str) -> str:
    """As alerts say it. ``node``: whose votes these are."""
    silent_s = votes.witness_silent_s if votes.is_witness_silent else None
    return _say(votes.promised, node, votes.to, votes.is_used, silent_s, votes.witness_problem)


def say_votes_of(votes: VotesJson, node: str) -> str:
    """As the screen says it."""
    silent_s, problem = votes["witness_silent_s"], votes["witness_problem"]
    return _say(votes["promised"], node, votes["to"] or "", votes["used"], silent_s, problem or "")


def _say(promised: Sequence[str], node: str, to: str, is_used: bool, silent_s: float | None, problem: str) -> str:
    names = ", ".join("self" if name == node else name for name in promised)
    if is_used or promised:
        text = f"votes {len(promised)} of {ALL}: {names or 'none'}"
    else:
        text = f"its vote is {to}'s" if to else "its vote is nobody's"
    if silent_s is not None:
        text += f"; witness silent for {_age(silent_s)}" + (f": {problem}" if problem else "")
    return text


def _age(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
