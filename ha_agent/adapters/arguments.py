"""Arguments of a command that are not text: they are refused before anything is made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ha_agent.core.visible import visible


def problem_of(words: Sequence[str]) -> str | None:
    """Why these arguments cannot be used: one holds bytes that are not UTF-8, and is not the name of a file that there is.

    Python has such bytes as halves of a surrogate pair (PEP 383), which nothing but the file system takes.
    """
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            if not os.path.lexists(word):
                return f"'{visible(word)}' is not text in UTF-8"
    return None
