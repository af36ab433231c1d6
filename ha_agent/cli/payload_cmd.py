"""``ha-agent payload``: the files of programs that are replicated beside the registry, and copying them now."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from ha_agent.adapters.terminal import complain
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.cli.registry_cmd import SYNC_EXITS
from ha_agent.core.frames import Message
from ha_agent.core.node_json import NodeJson, PayloadSyncJson
from ha_agent.core.payload_status import PayloadState
from ha_agent.core.payload_text import say_bytes, say_payload
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit, Outcome

SCHEMA = 1
NONE = "[payload] in agent.toml names nothing to replicate (docs/payload.md)"


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    parts = commands.add_group(
        "payload", "see and copy the files that programs need besides their confs", "ha-agent payload", "status|sync"
    )
    status = parts.add("status", "say how far the peer has them, and what does not travel", "ha-agent payload", run_status)
    status.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    summary = "copy what the peer lacks now, and wait until it has all; on the active node"
    sync = parts.add("sync", summary, "ha-agent payload sync --accept-deletes", run_sync)
    sync.add_argument("--accept-deletes", action="store_true", help="the deletions that are held are meant")
    sync.add_argument(
        "--accept-running", action="store_true", help="also replace what processes of the standby run from just now"
    )
    sync.add_argument("--timeout", type=duration, default=600.0, metavar="S", help="seconds to wait (default 600)")
    sync.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")


def run_status(options: argparse.Namespace) -> int:
    """Runs ``payload status``; returns 0 where the peer has all, 1 where it has not, 4 where it cannot be reached."""
    seen = Nodes(settings_of(options)).status()
    payloads = {n["name"]: n.get("payload_sync") for n in seen if n["reachable"]}
    active = next((n for n in seen if n["reachable"] and n["role"] == "active"), None)
    if options.json:
        rows = [{"node": name, "payload": payload} for name, payload in payloads.items()]
        print(json.dumps({"schema": SCHEMA, "nodes": rows}, indent=2))
    else:
        print("\n".join(list_payload(seen)))
    payload = active.get("payload_sync") if active is not None and active["reachable"] else None
    if payload is None:
        return Exit.FAILED if any(payloads.values()) else Exit.DONE
    if payload["state"] == PayloadState.UNREACHABLE:
        return Exit.PEER_UNREACHABLE
    return Exit.DONE if payload["state"] == PayloadState.IN_SYNC else Exit.FAILED


def list_payload(nodes: Sequence[NodeJson]) -> list[str]:
    """The lines of ``payload status``."""
    lines = []
    for node in nodes:
        payload = node.get("payload_sync") if node["reachable"] else None
        if payload:
            lines += [f"{node['name']}: {say_payload(payload)}", *_details(payload)]
        else:
            lines.append(f"{node['name']}: {NONE if node['reachable'] else 'does not answer'}")
    return lines


def _details(payload: PayloadSyncJson) -> list[str]:
    lines = []
    if payload["bytes"]:
        lines.append(f"  {count_text(payload['files'], 'file')}, {say_bytes(payload['bytes'])}")
    if payload["pending_since"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(payload["pending_since"]))
        lines.append(f"  waits since {since}")
    if payload["reason"]:
        lines.append(f"  {payload['reason']}")
    if payload["foreign"]:
        lines.append(f"  {count_text(payload['foreign'], 'path')} that only this node has stay")
    return lines + [f"  does not travel: {problem}" for problem in payload["left_out"]]


def run_sync(options: argparse.Namespace) -> int:
    """Runs ``payload sync``; returns the exit status."""
    nodes = Nodes(settings_of(options))
    message = {
        "op": "payload-sync",
        "accept_deletes": options.accept_deletes,
        "accept_running": options.accept_running,
        "timeout_s": options.timeout,
    }
    show = None if options.json or not sys.stderr.isatty() else show_progress
    answer = nodes.ask_own(message, options.timeout + 40.0, show)
    if options.json:
        answer.pop("id", None)
        print(json.dumps({"schema": SCHEMA, "files": None, "bytes": None, "reason": None, **answer}, indent=2))
    elif answer["outcome"] == Outcome.IN_SYNC:
        print(f"in sync: {count_text(answer['files'], 'file')}, {say_bytes(answer['bytes'])} on both nodes")
    else:
        complain(f"payload is not in sync with {nodes.peer_name} ({answer['outcome']}): {answer.get('reason', '')}")
    return SYNC_EXITS.get(str(answer["outcome"]), Exit.FAILED)


def show_progress(progress: Message) -> None:
    """Writes how much of a copy is done over the line before it."""
    done, whole = _number(progress.get("bytes_done")), _number(progress.get("bytes_all"))
    sys.stderr.write(f"\r{say_bytes(done)} of {say_bytes(whole)} \r")
    sys.stderr.flush()


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
