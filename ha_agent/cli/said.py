"""What a command says while it works: printed as it comes, or kept for the one document of ``--json``."""

from __future__ import annotations

import json

from ha_agent.adapters.terminal import complain
from ha_agent.core.words import CommandOutcome, Exit

SCHEMA = 1

_OUTCOMES = {
    Exit.DONE: CommandOutcome.DONE,
    Exit.FAILED: CommandOutcome.FAILED,
    Exit.USAGE: CommandOutcome.REFUSED,
    Exit.REFUSED: CommandOutcome.REFUSED,
    Exit.PEER_UNREACHABLE: CommandOutcome.UNREACHABLE,
    Exit.TIMED_OUT: CommandOutcome.TIMED_OUT,
    Exit.INCOMPLETE: CommandOutcome.INCOMPLETE,
}


class Said:
    """The words of one command about ``node``. Problems go to standard error in either case."""

    def __init__(self, node: str, *, as_json: bool) -> None:
        self._node, self._as_json = node, as_json
        self._lines: list[str] = []
        self._problems: list[str] = []

    def say(self, text: str, shown: str = "") -> None:
        """Says ``text``; a terminal is shown ``shown`` in its place, where that is given."""
        if not self._as_json:
            print(shown or text)
        self._lines += text.splitlines()

    def complain(self, text: str) -> None:
        """Says what went wrong."""
        complain(text)
        self._problems.append(text)

    def end(self, code: int) -> int:
        """Prints the document, where one is wanted; returns ``code``, which is one of a command's own exit statuses."""
        if self._as_json:
            found = {"schema": SCHEMA, "node": self._node, "outcome": _OUTCOMES[Exit(code)].value}
            print(json.dumps({**found, "said": self._lines, "problems": self._problems}, indent=2))
        return code
