"""The operator of a chaos run: keeps editing the registry of the active node, and notes what was acknowledged.

Every content carries the number of its edit, so that each can be found again wherever it ended up.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from ha_agent.adapters.control import CommandFailed, NoDaemon, ask_daemon
from ha_agent.core.frames import Message
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES

_EDIT = re.compile(rb"; edit (\d+)\n")


@dataclass(slots=True)
class Edit:
    """One change of one file on one node. ``number`` is None in the content's place for a deletion.

    ``replaced`` is the number of the content that the operator himself wrote over or deleted, if any.
    """

    number: int
    node: str
    path: str
    deletes: bool
    replaced: int | None
    at_mono: float
    acknowledged_mono: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


@dataclass(slots=True)
class Toggle:
    """One stop (which parks) or start of the program that the operator stops and starts all the time."""

    verb: str
    node: str
    at_mono: float
    acknowledged: bool = False


TOGGLED = "toggled"


def number_of(content: bytes | None) -> int | None:
    """The number of the edit that wrote ``content``; None for none."""
    found = _EDIT.findall(content or b"")
    return int(found[-1]) if found else None


def ask(lab: Lab, node: str, message: Message, timeout_s: float) -> Message | None:
    """The answer of a node's daemon, asked from outside the node; None where there is none in time."""
    try:
        run_dir = f"/proc/{lab.init_pid(node)}/root/run/ha-agent"
        return ask_daemon(run_dir, message, timeout_s)
    except (LabFailed, NoDaemon, CommandFailed, OSError, ValueError):
        return None


def look(lab: Lab, node: str, timeout_s: float = 1.0) -> dict[str, Any] | None:
    """A node's own account of itself."""
    answer = ask(lab, node, {"op": "status"}, timeout_s)
    entry: dict[str, Any] | None = answer["nodes"][0] if answer else None
    return entry


class Editor:
    """Works in a thread of its own until stopped; ``edits`` holds what it did."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab = lab
        self._rng = random.Random(f"editor/{seed}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="editor", daemon=True)
        self._next = 0
        self.edits: list[Edit] = []
        self.toggles: list[Toggle] = []

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the edit under way."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._rng.uniform(0.1, 0.6)):
            active = [node for node in NODES if (look(self._lab, node) or {}).get("role") == "active"]
            if active and self._rng.random() < 0.2:
                self._toggle(self._rng.choice(active))
            elif active:
                self._edit_and_wait(self._rng.choice(active))
            if self._rng.random() < 0.05:
                self._edit(self._rng.choice(NODES))

    def _toggle(self, node: str) -> None:
        """Stops the program where it is registered, as ``supzcli stop`` does, and starts it where it is parked."""
        verb = "stop" if self._read(node, f"{TOGGLED}.conf") is not None else "start"
        toggle = Toggle(verb, node, time.monotonic())
        self.toggles.append(toggle)
        answer = ask(self._lab, node, {"op": f"program-{verb}", "names": [TOGGLED]}, 12.0)
        if answer is not None and answer.get("outcome") == "done" and answer.get("ack"):
            toggle.acknowledged = bool(answer["ack"]["on_peer"])

    def _edit_and_wait(self, node: str) -> None:
        edit = self._edit(node)
        if edit is None:
            return
        answer = ask(self._lab, node, {"op": "sync", "timeout_s": 4.0}, 6.0)
        if answer is not None and answer.get("outcome") == "in-sync" and self._is_still_there(edit):
            edit.acknowledged_mono = time.monotonic()

    def _is_still_there(self, edit: Edit) -> bool:
        """Whether the file still is what the edit made it: an answer about something else acknowledges nothing."""
        content = self._read(edit.node, edit.path)
        return content is None if edit.deletes else number_of(content) == edit.number

    def _read(self, node: str, path: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self._lab.paths.registry(node), path), "rb") as file:
            return file.read()
        return None

    def _edit(self, node: str) -> Edit | None:
        """One edit; None where the disk did not take it."""
        draw = self._rng.random()
        name = self._rng.choice([f"p{n}" for n in range(4)] if draw < 0.4 else [f"e{n}" for n in range(6)])
        path = f"sub/{name}.conf" if name in ("e4", "e5") else f"{name}.conf"
        deletes = name.startswith("e") and draw > 0.85
        self._next += 1
        target = os.path.join(self._lab.paths.registry(node), path)
        try:
            if deletes:
                before = self._read(node, path)
                if before is None:
                    return None
                os.unlink(target)
            else:
                before = self._write(node, path, name)
        except OSError:
            return None
        edit = Edit(self._next, node, path, deletes, number_of(before), time.monotonic())
        self.edits.append(edit)
        return edit

    def _write(self, node: str, path: str, name: str) -> bytes | None:
        """Replaces the file in one step, as a careful editor does; what it replaced is what stood there in that moment."""
        target = os.path.join(self._lab.paths.registry(node), path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        broken = name == "e3" and self._rng.random() < 0.5
        text = f"[program:{name}]\ncommand=/bin/sleep infinity\nstartsecs=0\n{'numprocs=l' if broken else ''}\n"
        temporary = os.path.join(os.path.dirname(target), ".editing")
        try:
            with open(temporary, "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(f"{text}; edit {self._next}\n")
            before = self._read(node, path)
            os.rename(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        return before
