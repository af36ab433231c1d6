"""Texts of others, made fit to be read by people: what steers a terminal or a reader's eye is written out.

A reason, a conf's name or a program's last words may hold a newline that forges a line, an escape sequence that moves the
cursor, or a mark that turns the order of letters round (Unicode Technical Report 36, 3.1). Everything that is shown, sent or
written down goes through here.
"""

from __future__ import annotations

import re
from typing import Any

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # what no font shows
    "\ud800-\udfff]"  # halves of a pair, which nothing can encode
)


def visible(text: str, keep: str = "") -> str:
    r"""``text`` with each character that steers written out, as in ``\x1b``, but for those in ``keep``. Idempotent."""
    if text.isprintable():
        return text
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else _written_out(found[0]), text)


def _written_out(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        # A byte that was not UTF-8, as Python holds it (PEP 383).
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def is_steering(text: str) -> bool:
    """Whether ``visible`` would change ``text``."""
    return not text.isprintable() and _STEERING.search(text) is not None


def visible_data(value: Any, keep: str = "") -> Any:
    """JSON-able data with every text in it made visible, those that are keys, too."""
    if isinstance(value, str):
        return visible(value, keep)
    if isinstance(value, dict):
        return {visible(str(key), keep): visible_data(one, keep) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible_data(one, keep) for one in value]
    return value
