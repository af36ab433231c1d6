"""Checks of the files that programs need: whether they are compared at all. What differs is among the pair's problems."""

from __future__ import annotations

from collections.abc import Iterator

from ha_agent.cli.doctor.context import Check, Context, ok, unknown
from ha_agent.core.drift import say_compared
from ha_agent.core.findings import Finding

MOST_REMARKS = 5


def check_payload(context: Context) -> Iterator[Finding]:
    """What this node's agent knows. What it cannot know yet, and a peer that does not answer, are no findings here."""
    nodes, _ = context.status()
    own = next((n for n in nodes if n["name"] == context.settings.node.name), None)
    payload = own.get("payload") if own is not None and own["reachable"] else None
    if not payload or not all(n["reachable"] for n in nodes):
        return
    if payload["state"] == "unknown":
        text = f"whether programs find the same files on both nodes is not known: {payload['problem']}"
        yield unknown(
            "payload", text, "upgrade the older node, or set payload.compare to the same on both (docs/payload.md)"
        )
    elif payload["state"] == "equal":
        text = say_compared(payload["programs"], payload["files"])
        remarks = "; ".join(payload["remarks"][:MOST_REMARKS])
        yield ok("payload", text + (f" (not compared: {remarks})" if remarks else ""))


CHECKS: dict[str, Check] = {"payload": check_payload}
