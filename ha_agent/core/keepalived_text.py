"""keepalived.conf as keepalived reads it: its blocks, its includes, conditional lines and parameters. Pure.

By keepalived.conf(5) 2.2.7. ``$_PWD`` and what else keepalived defines itself is left as it stands.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

DEPTH = 16
"""Includes within includes that are followed."""
_INCLUDE = re.compile(r"\s*include[rmwba]?\s+(\S+)")
_CONDITION = re.compile(r"\s*@(\^?)(\S+)\s?(.*)")
_PARAMETER = re.compile(r"\s*\$([A-Za-z_]\w*)=(.*)")
_USE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*)(?=\s|$))")


@dataclass
class Block:
    """A line of keepalived.conf and what stands in braces after it."""

    words: list[str]
    children: list[Block] = field(default_factory=list)

    def find_all(self, keyword: str) -> list[Block]:
        """The children that begin with ``keyword``."""
        return [c for c in self.children if c.words[:1] == [keyword]]

    def value(self, keyword: str) -> str | None:
        """The first argument of the last ``keyword``; "" where it stands alone, None where it does not stand there."""
        found = self.find_all(keyword)
        return None if not found else (found[-1].words[1] if len(found[-1].words) > 1 else "")

    def words_of(self, keyword: str) -> list[str]:
        """All words after the last ``keyword``."""
        found = self.find_all(keyword)
        return found[-1].words[1:] if found else []


def parse_keepalived(text: str) -> Block:
    """The blocks of a keepalived.conf. Raises ``ValueError`` where braces or quotes do not match."""
    root = Block([])
    stack = [root]
    for number, raw in enumerate(text.splitlines(), 1):
        words: list[str] = []
        for token in _tokens(raw, number):
            if token == "{":
                block = Block(words) if words else (stack[-1].children.pop() if stack[-1].children else Block([]))
                stack[-1].children.append(block)
                stack.append(block)
                words = []
            elif token == "}":
                if words:
                    stack[-1].children.append(Block(words))
                    words = []
                stack.pop()
                if not stack:
                    raise ValueError(f"line {number}: a brace too many")
            else:
                words.append(token)
        if words:
            stack[-1].children.append(Block(words))
    if len(stack) != 1:
        raise ValueError("a brace is not closed")
    return root


def _tokens(raw: str, number: int) -> list[str]:
    line = raw.split("!", 1)[0] if raw.lstrip().startswith("!") else raw
    lexer = shlex.shlex(line, posix=True, punctuation_chars="{}")
    lexer.whitespace_split, lexer.commenters = True, "#!"
    try:
        return list(lexer)
    except ValueError as problem:
        raise ValueError(f"line {number}: {problem}") from None


def find_block(text: str, keyword: str, name: str) -> tuple[int, int] | None:
    """The first and the last line (from 0) of the block ``keyword name { ... }`` as it stands in ``text``; None: nowhere.

    Raises ``ValueError`` where braces or quotes do not match.
    """
    depth, begin = 0, None
    for number, raw in enumerate(text.splitlines()):
        tokens = _tokens(raw, number + 1)
        if depth == 0 and tokens[:2] == [keyword, name]:
            begin = number
        depth += tokens.count("{") - tokens.count("}")
        if begin is not None and depth == 0 and "}" in tokens:
            return begin, number
    return None


def read_whole(
    path: str, read: Callable[[str], str | None], find: Callable[[str], list[str]], config_id: str
) -> tuple[str, list[str]]:
    """keepalived.conf with everything that it includes, conditions and parameters resolved; and its files.

    ``read`` returns None for a file that cannot be read, ``find`` the paths that a pattern matches, ``config_id`` is what
    conditions are compared with. A main file that cannot be read is an empty text.
    """
    files: list[str] = []
    parameters: dict[str, str] = {}
    lines = list(_resolve(_joined(_lines(path, read, find, files, 0)), config_id, parameters))
    return "".join(f"{line}\n" for line in lines), files


def _lines(
    path: str, read: Callable[[str], str | None], find: Callable[[str], list[str]], files: list[str], depth: int
) -> Iterator[str]:
    text = read(path)
    if text is None or depth > DEPTH:
        return
    files.append(path)
    for line in text.splitlines():
        included = _INCLUDE.match(line)
        if included is None:
            yield line
            continue
        for other in find(posixpath.join(posixpath.dirname(path), included[1])):
            yield from _lines(other, read, find, files, depth + 1)


def _joined(lines: Iterator[str]) -> Iterator[str]:
    r"""A definition of a parameter over several lines, each but the last ended by ``\``, as one."""
    for line in lines:
        while _PARAMETER.match(line) and line.endswith("\\"):
            line = f"{line[:-1].rstrip()}\n{next(lines, '')}"
        yield line


def _resolve(lines: Iterator[str], config_id: str, parameters: dict[str, str]) -> Iterator[str]:
    for whole in lines:
        definition = re.match(_PARAMETER.pattern, whole, re.DOTALL)
        if definition is not None:
            parameters[definition[1]] = definition[2].removeprefix("\n")
            continue
        for line in _substitute(whole, parameters).split("\n"):
            condition = _CONDITION.match(line)
            if condition is None:
                yield line
            elif (condition[2] == config_id) is not bool(condition[1]):
                yield from _resolve(iter([condition[3]]), config_id, parameters)


def _substitute(line: str, parameters: dict[str, str]) -> str:
    for _ in range(DEPTH):
        made = _USE.sub(lambda match: parameters.get(match[1] or match[2], match[0]), line)
        if made == line:
            break
        line = made
    return line
