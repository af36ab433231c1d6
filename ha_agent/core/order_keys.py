"""What a conf says of its place in the order of starts, in comments that supervisord ignores. Pure.

A line ``; ha-agent: after = redis, tcp://127.0.0.1:6379`` in a program's section, or in a group's. Why it is a comment of
the conf: docs/adr/0016-order-in-the-conf.md. The key ``files`` of the same comments is read in ``core/file_keys.py``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MARK = "ha-agent:"
_LINE = re.compile(r"[;#]\s*ha-agent:(.*)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_HEADER = re.compile(r"\[(.+)\]")
_SECTIONS = ("program:", "fcgi-program:", "group:")
FILES = "files"
"""The key that says nothing of an order."""

TIMEOUTS = {
    "start": "it is started all the same",
    "skip": "it is not started, until somebody does it or the next takeover",
    "fail": "it is not started, and a standby that is fit is given the VIP",
}
"""What ``on_timeout`` may say, from the mildest to the strictest, and what is done then."""

LONGEST_S = 3600.0
MOST_NAMES = 100
LONGEST_NAME = 255

Address = tuple[str, int]


class BadAddress(ValueError):
    """An address that no connection can be made to; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class OrderKeys:
    """What one section says. ``limit_s`` and ``on_timeout`` are None where it leaves them to agent.toml.

    ``lines``: on which line each of ``after`` stands.
    """

    after: tuple[str, ...] = ()
    limit_s: float | None = None
    on_timeout: str | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something that cannot be meant so. ``code``: ``bad-order-key`` or ``bad-order-address``."""

    code: str
    line: int
    text: str
    fix: str


@dataclass(slots=True)
class _Draft:
    after: list[tuple[str, int]]
    limit_s: float | None = None
    on_timeout: str | None = None

    def finish(self) -> OrderKeys:
        """The keys of one program: each word once, with the line on which it stands first."""
        first = dict(reversed(self.after))
        return OrderKeys(
            tuple(dict.fromkeys(w for w, _ in self.after)),
            self.limit_s,
            self.on_timeout,
            tuple(first[w] for w in dict.fromkeys(w for w, _ in self.after)),
        )


def is_address(word: str) -> bool:
    """Whether a word of ``after`` means an address and not a name."""
    return "://" in word


def parse_address(word: str) -> Address:
    """Host and port of ``tcp://127.0.0.1:6379``, ``tcp://[::1]:6379`` or ``tcp://localhost:6379``. Raises ``BadAddress``.

    A host is an IP address or localhost, which is 127.0.0.1: a name would need a name server at the moment of a takeover.
    """
    scheme, _, rest = word.partition("://")
    if scheme.lower() != "tcp":
        raise BadAddress(f"{scheme}:// is not known: a connection is all that is tried, tcp://ADDRESS:PORT")
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", rest)
    if match is None:
        raise BadAddress("it is tcp://ADDRESS:PORT, an IPv6 address in square brackets")
    host, port = match[1] if match[1] is not None else match[2], int(match[3])
    if not 0 < port < 65536:
        raise BadAddress(f"{port} is no port: 1 to 65535")
    if match[1] is None and host.lower() == "localhost":
        return "127.0.0.1", port
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise BadAddress(f"{host!r} is no IP address, and a name is not looked up at a takeover") from None
    if (version == 6) is not (match[1] is not None):
        raise BadAddress("an IPv6 address stands in square brackets, and no other one does")
    return host, port


def read_order(text: str) -> tuple[dict[str, OrderKeys], list[Mistake]]:
    """What each section of a conf says, by the section's name, and all that is wrong with it. Takes any text.

    What is wrong is left out of the keys. A section that says nothing is not there.
    """
    drafts: dict[str, _Draft] = {}
    mistakes: list[Mistake] = []
    for said in read_key_lines(text):
        if said.section is None:
            text_ = "a line of ha-agent: stands outside of a program's and of a group's section, and says nothing there"
            mistakes.append(Mistake("bad-order-key", said.line, text_, "move it below [program:NAME]"))
        elif said.key != FILES:
            _take(drafts.setdefault(said.section, _Draft([])), said.key, said.value, said.line, mistakes)
    return {name: draft.finish() for name, draft in drafts.items()}, mistakes


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One comment of the agent's in a conf. ``section``: None outside of a program's and of a group's."""

    section: str | None
    key: str
    value: str
    line: int


def read_key_lines(text: str) -> Iterator[KeyLine]:
    """The comments ``; ha-agent: key = value`` of a conf, from its beginning. Takes any text."""
    if MARK not in text:
        return
    section: str | None = None
    for number, raw in enumerate(_LINE_END.split(text), 1):
        line = raw.strip()
        if match := _LINE.fullmatch(line):
            key, _, value = (part.strip() for part in match[1].strip().partition("="))
            yield KeyLine(section, key, value, number)
        elif header := _HEADER.match(line):
            section = header[1] if header[1].startswith(_SECTIONS) else None


def _take(draft: _Draft, key: str, value: str, line: int, mistakes: list[Mistake]) -> None:
    if key == "after":
        _take_names(draft, value, line, mistakes)
    elif key == "wait_s":
        limit_s = _as_seconds(value)
        if limit_s is None:
            text = f"wait_s={value}: not a number of seconds from 0.1 to {LONGEST_S:g}"
            mistakes.append(Mistake("bad-order-key", line, text, "wait_s = 30"))
        draft.limit_s = limit_s if limit_s is not None else draft.limit_s
    elif key == "on_timeout":
        if value not in TIMEOUTS:
            text = f"on_timeout={value}: not {', '.join(TIMEOUTS)}"
            mistakes.append(Mistake("bad-order-key", line, text, f"one of {', '.join(TIMEOUTS)}"))
        else:
            draft.on_timeout = value
    else:
        text = f"{key or 'an empty line'} means nothing to ha-agent"
        mistakes.append(Mistake("bad-order-key", line, text, "; ha-agent: after=NAME, or wait_s=, on_timeout=, files="))


def _take_names(draft: _Draft, value: str, line: int, mistakes: list[Mistake]) -> None:
    words = [word for part in value.split(",") if (word := part.strip())]
    if not words:
        mistakes.append(Mistake("bad-order-key", line, "after= names nothing", "name a program, or tcp://ADDRESS:PORT"))
    if len(draft.after) + len(words) > MOST_NAMES:
        text = f"after= names more than {MOST_NAMES}"
        mistakes.append(Mistake("bad-order-key", line, text, "name the last ones of a chain alone"))
        return
    for word in words:
        if len(word) > LONGEST_NAME:
            text = f"after= has a name of more than {LONGEST_NAME} characters"
            mistakes.append(Mistake("bad-order-key", line, text, "separate names by commas"))
        elif is_address(word):
            try:
                parse_address(word)
            except BadAddress as error:
                fix = "tcp://127.0.0.1:6379, for one"
                mistakes.append(Mistake("bad-order-address", line, f"{word} cannot be waited for: {error}", fix))
            else:
                draft.after.append((word, line))
        else:
            draft.after.append((word, line))


def _as_seconds(value: str) -> float | None:
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) is None:
        return None
    seconds = float(value)
    return seconds if 0.1 <= seconds <= LONGEST_S else None


def lines_of(keys: Mapping[str, OrderKeys]) -> dict[tuple[str, str], int]:
    """On which line each word of each section stands, by section and word."""
    return {(name, word): line for name, one in keys.items() for word, line in zip(one.after, one.lines, strict=True)}
