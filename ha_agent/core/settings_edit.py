"""agent.toml as a text in which some values are set, and everything else stays as somebody has written it. Pure.

TOML is not written again here: a line is changed, a commented default becomes a line, or a line is added. What came out is
parsed and compared with what it must mean, so a file that is laid out in another way is refused and never damaged.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from ha_agent.core.settings_sample import toml_value

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]\s*(#.*)?")
_VALUE = r"""("(?:[^"\\]|\\.)*"|'[^']*'|\[[^\[\]]*\]|[^\s#"'\[]+)"""


class UneditableText(ValueError):
    """The text is laid out in a way that is not understood here; nothing of it was changed."""


def set_values(text: str, values: Mapping[str, Any], dropped: Collection[str] = ()) -> str:
    """The TOML ``text`` with ``values`` set, by names such as ``vrrp.vip``, and those ``dropped`` made comments.

    Raises ``UneditableText``.
    """
    lines = text.splitlines()
    for name in dropped:
        lines = _drop(lines, *name.rsplit(".", 1))
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        lines = _set(lines, section, key, toml_value(value))
    edited = "\n".join(lines) + "\n"
    try:
        wanted = _with(_without(tomllib.loads(text), dropped), values)
        found = tomllib.loads(edited)
    except tomllib.TOMLDecodeError as error:
        raise UneditableText(str(error)) from None
    if found != wanted:
        raise UneditableText(f"{', '.join(values)} cannot be set in this file without writing all of it anew")
    return edited


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What ``set_values`` must set to make the tables ``after`` of ``before``; see ``dropped_values``."""
    found: dict[str, Any] = {}
    for section, table in after.items():
        present = before.get(section, {})
        for key, value in table.items():
            if not isinstance(present, Mapping) or key not in present or present[key] != value:
                found[f"{section}.{key}"] = value
    return found


def dropped_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What stands in ``before``, in a section that is in both, and no longer in ``after``."""
    tables = {section: table for section, table in before.items() if isinstance(table, Mapping) and section in after}
    return [f"{section}.{key}" for section, table in tables.items() for key in table if key not in after[section]]


def _without(tables: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    for name in names:
        *sections, key = name.split(".")
        table: Any = tables
        for section in sections:
            table = table[section]
        del table[key]
    return tables


def _drop(lines: list[str], section: str, key: str) -> list[str]:
    begin, end = _find_section(lines, section)
    present = re.compile(rf"\s*{re.escape(key)}\s*=\s*{_VALUE}\s*(?:#.*)?")
    for number in range(begin if begin is not None else end, end):
        if present.fullmatch(lines[number]):
            return [*lines[:number], f"#{lines[number].lstrip()}", *lines[number + 1 :]]
    return lines


def _with(tables: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        *sections, key = name.split(".")
        table: Any = tables
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise UneditableText(f"{section} is not a section")
        table[key] = list(value) if isinstance(value, tuple) else value
    return tables


def _set(lines: list[str], section: str, key: str, value: str) -> list[str]:
    begin, end = _find_section(lines, section)
    if begin is None:
        return [*lines, "", f"[{section}]", f"{key} = {value}"]
    present = re.compile(rf"(\s*{re.escape(key)}\s*=\s*){_VALUE}(\s*(?:#.*)?)")
    sample = re.compile(rf"#\s?{re.escape(key)}\s*=.*")
    for number in range(begin, end):
        if found := present.fullmatch(lines[number]):
            return [*lines[:number], found[1] + value + found[3], *lines[number + 1 :]]
    for number in range(begin, end):
        if sample.fullmatch(lines[number]):
            return [*lines[:number], f"{key} = {value}", *lines[number + 1 :]]
    while end > begin and not lines[end - 1].strip():
        end -= 1
    return [*lines[:end], f"{key} = {value}", *lines[end:]]


def _find_section(lines: list[str], section: str) -> tuple[int | None, int]:
    """The lines below the header of ``section``: the first, and the one after the last."""
    headers = [(number, found[1]) for number, line in enumerate(lines) if (found := _HEADER.fullmatch(line))]
    for place, (number, name) in enumerate(headers):
        if name == section:
            return number + 1, headers[place + 1][0] if place + 1 < len(headers) else len(lines)
    return None, len(lines)
