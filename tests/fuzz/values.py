"""What random inputs are made of."""

from __future__ import annotations

import random
from collections.abc import Mapping

ODD_TEXTS = ("", "\0", "\r", "\r\n", "\n", "\ufeff", "\ud800", "\udcff", "\x0b", "\x85", "\u2028", "é" * 40, "x" * 3000)
ODD_NUMBERS: tuple[object, ...] = (0, -1, 1, 2**31, 2**62, 2**63, 10**400, 0.5, 1e15, 1e308, True, False)


def make_value(chance: random.Random, depth: int = 0) -> object:
    """Any value of JSON, and some that only Python takes for one."""
    kind = chance.randrange(8 if depth < 4 else 5)
    if kind == 0:
        return chance.choice(ODD_NUMBERS)
    if kind == 1:
        return chance.choice(ODD_TEXTS)
    if kind == 2:
        return chance.choice([None, True, False, float("nan"), float("inf")])
    if kind == 3:
        return "".join(chance.choice("ab/.%-\n conf") for _ in range(chance.randrange(12)))
    if kind == 4:
        return chance.randrange(-5, 1000)
    if kind == 5:
        return [make_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return {str(make_value(chance, 9)): make_value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return {chance.choice(["op", "epoch", "confs", "names"]): make_value(chance, depth + 1)}


def spoil(chance: random.Random, message: Mapping[str, object]) -> dict[str, object]:
    """A good message with some fields exchanged, left out or added."""
    spoilt = dict(message)
    for _ in range(chance.randrange(3)):
        key = chance.choice([*spoilt, "more"]) if spoilt else "more"
        if chance.randrange(4):
            spoilt[key] = make_value(chance)
        else:
            spoilt.pop(key, None)
    return spoilt


def flip(chance: random.Random, data: bytes) -> bytes:
    """The bytes with a few of them exchanged, added or left out."""
    spoilt = bytearray(data)
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(spoilt) + 1)
        spoilt[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(spoilt)
