"""The machinery of configurations: keys with their documentation and limits, and the check of one section.

``core/settings.py`` and ``core/web_settings.py`` describe their sections with it. All problems of a file are told at once.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_type_hints

Check = Callable[[Any], str | None]
REQUIRED: Any = object()
S = TypeVar("S")


MISSING, UNKNOWN = "missing", "unknown key"
"""What is ``found`` of a key that must be there and is not, and of one that there is not."""


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with a configuration: where, what was found, what is allowed."""

    key: str
    found: str
    allowed: str

    def __str__(self) -> str:
        if self.found == MISSING:
            return f"{self.key}: missing; it is: {self.allowed}"
        if self.found == UNKNOWN:
            return f"{self.key}: unknown key; {self.allowed}"
        return f"{self.key}: {self.found}; allowed: {self.allowed}"


def between(low: float, high: float, unit: str = "") -> tuple[Check, str]:
    """A check that a number lies between two others, both allowed."""
    text = f"{low:g} to {high:g}{' ' + unit if unit else ''}"
    return (lambda v: None if low <= v <= high else text), text


def matching(pattern: str, text: str) -> tuple[Check, str]:
    """A check that the whole of a text matches ``pattern``; ``text`` says in words what is allowed."""
    return (lambda v: None if re.fullmatch(pattern, v) else text), text


def one_of(*words: str) -> tuple[Check, str]:
    """A check that a text is one of ``words``."""
    text = " or ".join(f'"{w}"' for w in words)
    return (lambda v: None if v in words else text), text


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_interface_address(value: str) -> bool:
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return "/" in value


ABSOLUTE = matching(r"/[^\0\n]*", "an absolute path")
NAME = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "1 to 63 letters, digits, '.', '_' or '-'")
HOST = matching(r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,253}", "a host name or an address")
ADDRESS: tuple[Check, str] = (lambda v: None if _is_address(v) else "an IP address", "an IP address")
INTERFACE_ADDRESS: tuple[Check, str] = (
    lambda v: None if _is_interface_address(v) else "an address with its prefix length, as 192.0.2.10/24",
    "an address with its prefix length, as 192.0.2.10/24",
)


def key(default: Any, doc: str, check: tuple[Check, str] | None = None, *, secret: bool = False) -> Any:
    """A configuration key: its default (``REQUIRED`` for none), its documentation, and what values are allowed.

    ``secret``: its value may hold a password or a token, which no message repeats.
    """
    metadata = {"doc": doc, "check": check, "secret": secret}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, tuple):
        return field(default=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def each(check: Callable[[str], bool], text: str) -> tuple[Check, str]:
    """A check of every text of a list."""
    return (lambda values: None if all(map(check, values)) else text), text


def several(check: Callable[[str], bool], most: int, text: str) -> tuple[Check, str]:
    """A check of a list of 1 to ``most`` texts, none of them twice."""
    said = f"{text}: 1 to {most}, each once"
    return (lambda v: None if 0 < len(set(v)) == len(v) <= most and all(map(check, v)) else said), said


ADDRESSES = each(_is_address, "IP addresses")
INTERFACES = each(lambda value: re.fullmatch(r"[^\s/]{1,15}", value) is not None, "interface names")
PATH_ADDRESSES = several(_is_address, 4, "IP addresses, one a path")
INTERFACE_ADDRESSES = several(_is_interface_address, 20, "addresses with their prefix lengths, as 192.0.2.10/24")
_TYPE_WORDS: dict[Any, str] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple[str, ...]: "a list of texts",
}


class SettingsError(ValueError):
    """A configuration with problems; ``problems`` lists all of them."""

    def __init__(self, problems: list[SettingsProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def nearest(word: str, known: Mapping[str, Any]) -> str:
    # Needed for a mistake alone, and large for a dashboard that makes none.
    import difflib

    close = difflib.get_close_matches(word, list(known), 1)
    return f'did you mean "{close[0]}"?' if close else "one of " + ", ".join(sorted(known))


def check_section(name: str, cls: type[Any], table: Mapping[str, Any], problems: list[SettingsProblem]) -> Any:
    """The section ``name`` as a ``cls``; None, with what is wrong added to ``problems``, where it is none."""
    hints = get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    before = len(problems)
    for word in table:
        if word not in known:
            problems.append(SettingsProblem(f"{name}.{word}", UNKNOWN, nearest(word, known)))
    values: dict[str, Any] = {}
    for word, spec in known.items():
        if word in table:
            value, found = _checked(f"{name}.{word}", table[word], hints[word], spec.metadata["check"])
            values[word] = value
            if found is not None:
                problems.append(replace(found, found=NOT_SHOWN) if spec.metadata["secret"] else found)
        elif spec.default is dataclasses.MISSING:
            problems.append(SettingsProblem(f"{name}.{word}", MISSING, spec.metadata["doc"]))
    return cls(**values) if len(problems) == before else None


def check_named(
    kind: str,
    cls: type[S],
    tables: Any,
    problems: list[SettingsProblem],
    check_one: Callable[[str, S], Iterable[SettingsProblem]],
) -> dict[str, S]:
    """The sections [``kind``.NAME] in ``tables``, the parsed [``kind``], as ``cls`` by their names.

    What is wrong is added to ``problems``. ``check_one`` says what is wrong with one whose keys are right by themselves; it
    is told where that one stands.
    """
    found: dict[str, S] = {}
    if not isinstance(tables, Mapping):
        problems.append(SettingsProblem(kind, repr(tables), f"tables [{kind}.NAME]"))
        return found
    for name, table in tables.items():
        where = f"{kind}.{name}"
        if not isinstance(table, Mapping) or NAME[0](name) is not None:
            problems.append(SettingsProblem(where, repr(table), f"a table [{kind}.NAME], NAME of {NAME[1]}"))
            continue
        section = check_section(where, cls, table, problems)
        if section is not None:
            problems += check_one(where, section)
            found[name] = section
    return found


NOT_SHOWN = "a value that is not shown here"


def _checked(where: str, value: Any, wanted: Any, check: tuple[Check, str] | None) -> tuple[Any, SettingsProblem | None]:
    """``value`` as the type ``wanted``, and what is wrong with it."""
    words = _TYPE_WORDS[wanted]
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            return (), SettingsProblem(where, repr(value), words)
    elif type(value) is not wanted:
        return value, SettingsProblem(where, repr(value), f"{words}, {check[1]}" if check else words)
    wrong = check[0](value) if check else None
    problem = SettingsProblem(where, repr(value), wrong) if wrong else None
    return tuple(value) if wanted == tuple[str, ...] else value, problem
