"""The shape of a JSON document: which fields it has and of which types, whatever their values."""

from __future__ import annotations

from typing import Any

MAPS = frozenset(
    {
        "agreement",
        "problems",
        "warnings",
        "refused",
        "failed",
        "outage_s",
        "program_gap_s",
        "overlap_s",
        "stretches",
        "not_loadable",
        "sinks",
        "vips",
    }
)
"""Fields whose keys are names (of confs, programs, nodes, probes) and no fields themselves."""

EVENT = {
    "at": "number",
    "node": "string",
    "code": "string",
    "text": "string",
    "alias?": "string",
    "by?": "string",
    "from?": "string",
    "to?": "string",
    "plan?": "string",
    "took_s?": "number",
    "steps?": [{"step": "string", "took_s": "number"}],
    "vrrp_state?": "string",
}
"""An event has these fields, and more by its code."""

_NAMES = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string"}


def shape_of(value: Any, key: str = "") -> Any:
    """The shape of a value; ``key`` is the field that it belongs to."""
    if isinstance(value, dict):
        if "code" in value and "at" in value and "node" in value:
            _check_event(value)
            return "EVENT"
        if key in MAPS or (key == "*" and all(isinstance(v, list) for v in value.values()) and value):
            return {"*": merge(*(shape_of(v, "*") for v in value.values()))}
        return {name: shape_of(v, name) for name, v in sorted(value.items())}
    if isinstance(value, list):
        return [merge(*(shape_of(v) for v in value))]
    return _NAMES[type(value)]


def _check_event(event: dict[str, Any]) -> None:
    for name, wanted in EVENT.items():
        plain = name.rstrip("?")
        assert plain in event or name.endswith("?"), f"an event without {plain}: {event}"
        if plain in event and isinstance(wanted, str):
            assert _NAMES[type(event[plain])] == wanted, f"{plain} of an event: {event}"
    for step in event.get("steps", ()):
        assert {"step", "took_s"} <= step.keys(), f"a step of an event: {step}"


def merge(*shapes: Any) -> Any:
    """One shape for several: a field that some lack is optional ("?"), several types stand beside each other."""
    known = [part for s in shapes for part in _parts(s)]
    dicts = [s for s in known if isinstance(s, dict)]
    lists = [s for s in known if isinstance(s, list)]
    words = sorted({word for s in known if isinstance(s, str) for word in s.split("|")})
    parts: list[Any] = [_merge_dicts(dicts)] if dicts else []
    if lists:
        parts.append([merge(*(item for s in lists for item in s))])
    if not parts:
        return "|".join(words) or "nothing"
    return parts[0] if len(parts) == 1 and not words else {"or": [*parts, *words]}


def _parts(shape: Any) -> list[Any]:
    if shape == "nothing":
        return []
    return list(shape["or"]) if isinstance(shape, dict) and "or" in shape else [shape]


def _merge_dicts(dicts: list[dict[str, Any]]) -> dict[str, Any]:
    plain = [{k.rstrip("?"): (v, k.endswith("?")) for k, v in d.items()} for d in dicts]
    merged = {}
    for name in sorted({k for d in plain for k in d}):
        there = [d[name] for d in plain if name in d]
        optional = name != "*" and (len(there) < len(plain) or any(o for _, o in there))
        merged[name + ("?" if optional else "")] = merge(*(v for v, _ in there))
    return merged


def explain(a: Any, b: Any, place: str = "") -> list[str]:
    """Where two shapes differ, a line each."""
    if isinstance(a, dict) and isinstance(b, dict):
        lines = [f"{place}/{k}: only in {'the first' if k in a else 'the second'}" for k in sorted(a.keys() ^ b.keys())]
        return lines + [line for k in sorted(a.keys() & b.keys()) for line in explain(a[k], b[k], f"{place}/{k}")]
    if isinstance(a, list) and isinstance(b, list):
        return explain(a[0], b[0], place + "[]")
    return [] if a == b else [f"{place}: {a} and {b}"]
