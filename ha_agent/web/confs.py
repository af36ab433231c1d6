"""A conf of the registry as both nodes have it: its text, what each node's parser says, what is kept of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ha_agent.core.visible import visible

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Asks a node something. Raises an exception whose text says why there is no answer."""

MOST_KEPT = 50


async def read_conf(ask: Ask, nodes: list[str], path: str, silent: tuple[type[Exception], ...]) -> dict[str, Any]:
    """``path`` as each of ``nodes`` has it, and the newest kept copies of both.

    ``silent`` are the exceptions of ``ask``; they become the ``problem`` of that node. A ``text`` is None where the node has
    no such conf, or where its mode lets root alone read it (``withheld``).
    """
    rows = await asyncio.gather(*(_read_at(ask, node, path, silent) for node in nodes))
    kept = [row for found in await asyncio.gather(*(_list_kept(ask, node, path, silent) for node in nodes)) for row in found]
    kept.sort(key=lambda row: float(row["at"]), reverse=True)
    return {"path": path, "nodes": rows, "kept": kept[:MOST_KEPT]}


async def _read_at(ask: Ask, node: str, path: str, silent: tuple[type[Exception], ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"node": node, "problem": None, "text": None, "withheld": False, "verdict": None}
    try:
        answer = await ask(node, {"op": "contents", "paths": [path]})
        content = answer["contents"].get(path)
        found["withheld"] = path in answer["withheld"]
        if content is not None:
            raw = base64.b64decode(content).decode("utf-8", "replace")
            found["text"] = visible(raw, "\n\t")
            judged = await ask(node, {"op": "judge", "confs": {path: raw}})
            found["verdict"] = judged["verdicts"].get(path) or {"problem": judged["failure"], "programs": []}
    except silent as error:
        found["problem"] = str(error)
    return found


async def _list_kept(ask: Ask, node: str, path: str, silent: tuple[type[Exception], ...]) -> list[dict[str, Any]]:
    try:
        answer = await ask(node, {"op": "kept-list"})
    except silent:
        return []
    wanted = ("generation", "path", "at", "sha256", "reason", "divergence", "size")
    return [{"node": node, **{key: row[key] for key in wanted}} for row in answer["kept"] if row["path"] == path]


async def read_kept(ask: Ask, node: str, copy: Mapping[str, str]) -> str | None:
    """The text of one kept copy, None where it is gone. ``copy``: generation, path and sha256."""
    answer = await ask(node, {"op": "kept-read", **copy})
    try:
        content = answer["content"]
        return None if content is None else visible(base64.b64decode(content).decode("utf-8", "replace"), "\n\t")
    except (binascii.Error, TypeError):
        return None
