"""Configurations as texts: the commented sample, values in force, and values as TOML writes them. Pure."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from ha_agent.core.settings import ALTERNATIVES, NAMED_SECTIONS, SECTIONS, Settings


def settings_as_dict(settings: Settings) -> dict[str, dict[str, Any]]:
    """All values in force, by section."""
    plain = dataclasses.asdict(settings)
    for kind in NAMED_SECTIONS:
        plain.update({f"{kind}.{name}": table for name, table in plain.pop(kind).items()})
    for section, one, several in ALTERNATIVES:
        # What is printed can be a file again, and no file has both.
        del plain[section][one if plain[section][several] else several]
    return {s: {k: list(v) if isinstance(v, tuple) else v for k, v in t.items()} for s, t in plain.items()}


def flat_values(raw: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """The values of a parsed file by section and key, as ``sample_toml`` takes them; one with a name is ``sinks.NAME``."""
    flat: dict[tuple[str, str], Any] = {}
    for section, table in raw.items():
        if section in NAMED_SECTIONS:
            flat.update({(f"{section}.{name}", k): v for name, keys in table.items() for k, v in keys.items()})
        else:
            flat.update({(section, k): v for k, v in table.items()})
    return flat


def toml_value(value: Any) -> str:
    """``value`` as it is written in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


_EXAMPLES = {
    ("node", "name"): "node-a",
    ("node", "address"): "192.0.2.11",
    ("peer", "name"): "node-b",
    ("peer", "address"): "192.0.2.12",
    ("vrrp", "vip"): "192.0.2.10/24",
}

_NAMED_EXAMPLES: Mapping[tuple[str, str], Any] = {
    ("sinks.NAME", "kind"): "journal",
    ("hooks.NAME", "at"): ["before_start", "after_stop"],
    ("hooks.NAME", "command"): ["/usr/local/sbin/srv-data"],
    ("checks.NAME", "kind"): "http",
}


def sample_toml(values: Mapping[tuple[str, str], Any] | None = None, *, unset: bool = False) -> str:
    """A commented configuration file: every key with its documentation, at its default unless ``values`` names another.

    ``unset``: also the keys without a default are comments, with examples.
    """
    given = {**_EXAMPLES, **(values or {})}
    for section, one, several in ALTERNATIVES:
        if (section, several) in given:
            given.pop((section, one), None)
    lines: list[str] = []
    for name, cls in SECTIONS.items():
        doc = (cls.__doc__ or "").split(": ", 1)[1]
        lines += ["", f"[{name}]  # {doc}", *sample_section(name, cls, given, unset=unset)]
    for kind, cls in NAMED_SECTIONS.items():
        # In the order in which they were given: that of hooks means something.
        for name in dict.fromkeys(section for section, _ in given if section.startswith(f"{kind}.")):
            lines += ["", f"[{name}]", *(f"{k} = {toml_value(v)}" for (s, k), v in given.items() if s == name)]
        doc = (cls.__doc__ or "").split(": ", 1)[1]
        lines += ["", f"#[{kind}.NAME]  # {doc}", *sample_section(f"{kind}.NAME", cls)]
    head = "# Configuration of ha-agent. Commented keys show their defaults"
    head += "; those of [node] and [peer] and the VIP are examples, and must be set.\n" if unset else ".\n"
    return head + "\n".join(lines) + "\n"


def sample_section(
    name: str, cls: type[Any], given: Mapping[tuple[str, str], Any] | None = None, *, unset: bool = False
) -> list[str]:
    """The commented lines of one section; ``given`` and ``unset`` as for ``sample_toml``."""
    given = given or {}
    lines: list[str] = []
    for spec in dataclasses.fields(cls):
        example = _NAMED_EXAMPLES.get((name, spec.name), "")
        chosen = given.get((name, spec.name), example if spec.default is dataclasses.MISSING else spec.default)
        check = spec.metadata["check"]
        lines += ["", *(f"# {line}" for line in _wrap(spec.metadata["doc"]))]
        if check:
            lines.append(f"# Allowed: {check[1]}.")
        prefix = "" if (name, spec.name) in given and not unset else "#"
        lines.append(f"{prefix}{spec.name} = {toml_value(chosen)}")
    return lines


def _wrap(text: str, width: int = 100) -> list[str]:
    return textwrap.wrap(text, width)
