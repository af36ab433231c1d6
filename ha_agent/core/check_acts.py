"""What is done about a check that fails, and what was done before: restarts, hand-overs, and when neither. Pure.

A hand-over that a check caused is a ``Move``, which both nodes know before it begins. It is open until that check has passed
since. While it is open that check moves nothing any more: the fault has come along, or never left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ha_agent.core.checks import CheckSettings

MOST_MOVES = 32
"""So many are remembered, the newest of each check first of all."""

LONGEST_WORD = 64
MOST_EPOCH = 1 << 62


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """A hand-over for ``check``, by ``node`` in its own ``epoch``, at wall clock time ``at``. ``passed``: it has since."""

    at: float
    check: str
    node: str
    epoch: int
    passed: bool = False

    @property
    def identity(self) -> tuple[float, str, str, int]:
        """What two accounts of one move have alike."""
        return self.at, self.check, self.node, self.epoch


def merge_moves(own: Iterable[Move], heard: Iterable[Move]) -> tuple[Move, ...]:
    """What both say, oldest first; a check that one of them has seen pass has passed."""
    found: dict[tuple[float, str, str, int], Move] = {}
    for move in (*own, *heard):
        before = found.get(move.identity)
        found[move.identity] = move if before is None else replace(move, passed=move.passed or before.passed)
    return _newest(found.values())


def _newest(moves: Iterable[Move]) -> tuple[Move, ...]:
    """``MOST_MOVES`` of them: the last one of each check is kept before older ones of any."""
    ordered = sorted(moves, reverse=True)
    last = {move.check: move for move in reversed(ordered)}
    first = [move for move in ordered if last[move.check] is move]
    rest = [move for move in ordered if last[move.check] is not move]
    return tuple(sorted((first + rest)[:MOST_MOVES]))


def note_passed(moves: Iterable[Move], check: str) -> tuple[Move, ...]:
    """``moves`` after ``check`` has passed: none of its own is open any more."""
    return tuple(replace(move, passed=True) if move.check == check else move for move in moves)


def find_open(moves: Iterable[Move], check: str) -> Move | None:
    """The last move for ``check`` that it has not passed since; None where there is none."""
    return max((move for move in moves if move.check == check and not move.passed), default=None)


def moves_to_rows(moves: Iterable[Move]) -> list[list[Any]]:
    """As they stand in a message and in a file."""
    return [[move.at, move.check, move.node, move.epoch, move.passed] for move in moves]


def read_moves(raw: object) -> tuple[Move, ...] | None:
    """The moves in a message; None where it does not say. Raises ``ValueError`` for anything else."""
    if raw is None:
        return None
    if not isinstance(raw, list) or len(raw) > MOST_MOVES:
        raise ValueError("moves are not a short list")
    return tuple(map(_read_move, raw))


def _read_move(row: object) -> Move:
    if not isinstance(row, list) or len(row) != 5:
        raise ValueError("a move has five parts")
    at, check, node, epoch, passed = row
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e12:
        raise ValueError("a move has no time")
    if any(not isinstance(word, str) or not 0 < len(word) <= LONGEST_WORD for word in (check, node)):
        raise ValueError("a move names no check, or no node")
    if type(epoch) is not int or not 0 <= epoch < MOST_EPOCH or not isinstance(passed, bool):
        raise ValueError("a move has no epoch")
    return Move(float(at), check, node, epoch, passed)


class Act(StrEnum):
    """What is to be done."""

    NOTHING = "nothing"
    RESTART = "restart"
    HAND_OVER = "hand-over"
    HOLD = "hold"
    """The settings say to act, and something speaks against it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, or was; ``why`` not, or why it was of no use, in words."""

    act: Act
    why: str = ""


@dataclass(frozen=True, slots=True)
class ActFacts:
    """What a verdict rests on. ``now``: wall clock seconds. ``restarts``: when programs were restarted for this check.

    ``epoch``: that of this node's own claim.
    """

    now: float
    node: str
    epoch: int
    moves: Sequence[Move] = ()
    restarts: Sequence[float] = ()


def decide_act(name: str, check: CheckSettings, facts: ActFacts) -> Verdict:
    """What is done about the check ``name``, which fails. Whether the standby could take over is asked after that."""
    if check.on_failure == "restart":
        done = count_within(facts.restarts, facts.now, check.within_s)
        if done >= check.at_most:
            return Verdict(Act.HOLD, f"{check.program} is not restarted again: {_say_done(done, check)}")
        return Verdict(Act.RESTART)
    if check.on_failure == "hand-over":
        return _decide_move(name, check, facts)
    return Verdict(Act.NOTHING)


def _decide_move(name: str, check: CheckSettings, facts: ActFacts) -> Verdict:
    found = find_open(facts.moves, name)
    if found is not None:
        if (found.node, found.epoch) == (facts.node, facts.epoch):
            # It was noted and never begun, or led nowhere: it goes on, and is no second one.
            return Verdict(Act.HAND_OVER)
        return Verdict(Act.HOLD, f"not handed over again: it has not passed since {found.node} handed over for it")
    done = count_within((move.at for move in facts.moves), facts.now, check.within_s)
    if done >= check.at_most:
        return Verdict(Act.HOLD, f"not handed over: {_say_done(done, check)}")
    return Verdict(Act.HAND_OVER)


def find_unfinished(name: str, facts: ActFacts) -> Move | None:
    """The move for ``name`` that this node has noted in this epoch, and that has not led to another one."""
    found = find_open(facts.moves, name)
    return found if found is not None and (found.node, found.epoch) == (facts.node, facts.epoch) else None


def count_within(times: Iterable[float], now: float, within_s: float) -> int:
    """How many of ``times`` are within ``within_s`` seconds of ``now``, before or, where a clock was set, after it."""
    return sum(abs(now - at) < within_s for at in times)


def _say_done(done: int, check: CheckSettings) -> str:
    return f"{done} within {check.within_s:g} s already (at_most = {check.at_most})"
