"""Pairs that serve one test after another: to start a lab and to take it down is most of what many tests would cost.

A test with the mark ``shared_lab`` gets a pair that another one may have used before. It is handed on only where the test
has passed, what it left was put away, and both a look at the pair from outside (``lab_picture``) and the agents' own word
say that it is as it was; else that lab is taken down, and the next test has a new one: no test fails for what another left.

What stays and is not seen: the history, the kept copies and the notifications of alerts on disk, and the numbers of epoch
and generation. ``SharedPair.history`` begins with the test; who looks at the others by a command wants a lab of his own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import NODES, fresh_directory
from tests.lab_picture import AT_SWITCH, Picture, find_faults, read_switch, take_picture
from tests.lab_support import Pair, sleepers, wait_for

CONFS = sleepers(3)
PROGRAMS = {name.removesuffix(".conf") for name in CONFS}

TIDY_LIMIT_S = 12.0
"""How long a pair may take to be as it was: alerts end, programs of a conf that went stop."""

MOST_AGENT_STARTS = 2
"""Of a node in one test. An init gives an agent up that is started five times in ten seconds, whoever's test that was."""

SUPERVISORCTL = ("supervisorctl", "-c", "/etc/supervisor/supervisord.conf")

REMOVE = ("rm", "-rf", "--one-file-system", "--preserve-root=all", "--")
"""rm(1): leaves what is mounted there, or below it, alone."""

SHAREABLE = {"overrides", "witness", "paths", "vips"}
"""Options of a lab that are the same for every test that says the same; the others make a lab of its own."""


@dataclass(frozen=True, slots=True)
class Resting:
    """A lab that nobody uses, with what options it was made, and how it was at its beginning."""

    lab: Lab
    options: str
    picture: Picture


class Pool:
    """At most one resting lab of this process. One that rests costs 16 ms of a core a second."""

    def __init__(self) -> None:
        self._resting: Resting | None = None

    def take(self, options: str) -> Resting | None:
        """The resting lab, which is the caller's from now on; None where none was made with ``options``: then none rests."""
        taken, self._resting = self._resting, None
        if taken is not None and taken.options != options:
            taken.lab.down()
            return None
        return taken

    def keep(self, resting: Resting) -> None:
        """Has ``resting`` wait for the next test."""
        self.close()
        self._resting = resting

    def close(self) -> None:
        """Takes down what rests. Idempotent."""
        if self._resting is not None:
            self._resting.lab.down()
            self._resting = None


class SharedPair(Pair):
    """A pair whose lab comes from the pool, and goes back there; with other confs or options it is one of its own."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(fresh_directory("shared"))
        self._pool = pool
        self._picture: Picture | None = None
        self._options = ""
        self._begins_wall = 0.0
        self.fate = "of its own"
        """What became of the lab, in words."""

    def up(self, confs: dict[str, str] | None = None, **options: Any) -> None:
        """Hands out a pair that is settled, whose node-a is active and runs what ``confs`` say."""
        if options.keys() - SHAREABLE or (confs is not None and confs != CONFS):
            super().up(confs, **options)
            return
        self._options = json.dumps(options, sort_keys=True)
        if (resting := self._pool.take(self._options)) is not None:
            self.lab, self._picture = resting.lab, resting.picture
            self.observe()
            # An event's time is noted in whole milliseconds.
            self._begins_wall = time.time() - 0.001
        else:
            super().up(CONFS, **options)
        self.await_runs("node-a", PROGRAMS)
        if self._picture is None:
            self._await_calm()
            self._picture = take_picture(self.lab)

    def _await_calm(self) -> None:
        """Waits until a new pair has nothing more to say. Raises ``LabFailed``."""
        deadline = time.monotonic() + TIDY_LIMIT_S
        while faults := find_faults(self):
            if time.monotonic() > deadline:
                raise LabFailed(f"a new pair is not well: {faults}")
            time.sleep(0.05)

    def history(self, node: str, code: str | None = None) -> list[dict[str, Any]]:
        """As of any pair, of this test alone."""
        return [event for event in super().history(node, code) if event["at"] >= self._begins_wall]

    def end(self, *, passed: bool) -> None:
        """Puts the lab back where it is as it was; else takes it down."""
        self.stop_watching()
        why = "the test failed" if not passed else self._tidy() if self._picture is not None else "of its own"
        self.fate = why or "handed on"
        if why or self._picture is None:
            self.lab.down()
        else:
            self._pool.keep(Resting(self.lab, self._options, self._picture))

    # ---- putting away -----------------------------------------------------------------------------------------

    def _tidy(self) -> str:
        """Puts away what a test may leave; returns why the pair cannot be handed on, "" where it can."""
        try:
            if why := self._cannot_be_tidied():
                return why
            self._plug_in()
            self._start_units()
            self._end_maintenance()
            self._go_back()
            self._restore_registry()
            self._empty_tmp()
            return self._await_former()
        except (LabFailed, OSError, AssertionError, subprocess.SubprocessError) as error:
            return f"{type(error).__name__}: {error}"[:200]

    def _cannot_be_tidied(self) -> str:
        for node in NODES:
            if not self.lab.is_on(node):
                return f"{node} is off"
            if len(self.history(node, "agent-started")) > MOST_AGENT_STARTS:
                return f"{node}'s agent was started too often"
        return ""

    def _plug_in(self) -> None:
        """Has the switch forward what it forwarded."""
        assert self._picture is not None
        if read_switch(self.lab) != self._picture.seen[AT_SWITCH]:
            for node in NODES:
                self.lab.rejoin(node)

    def _start_units(self) -> None:
        """Continues what was stopped and starts what is down."""
        for node in NODES:
            for name, pid in self.lab.unit(node, "show", "ha-agent").items():
                if pid:
                    self.lab.unit(node, "kill", name, signal.SIGCONT)
                else:
                    self.lab.unit(node, "start", name)
            wait_for(f"the agent of {node}", lambda node=node: self._answers(node), TIDY_LIMIT_S)  # type: ignore[misc]

    def _answers(self, node: str) -> bool:
        with contextlib.suppress(LabFailed):
            return bool(self.lab.status(node))
        return False

    def _end_maintenance(self) -> None:
        if any(self.lab.status(node)["maintenance"] for node in NODES):
            self.ha("node-a", "maintenance", "off")
            self.ha("node-b", "maintenance", "off")

    def _go_back(self) -> None:
        """Has node-a be the active node."""
        for node in NODES:
            self._write_track(node, "0")
        self.lab.wait_settled(TIDY_LIMIT_S)
        if self.role("node-b") == "active":
            self._write_track("node-b", "1")
            self.await_role("node-a", "active", TIDY_LIMIT_S)
            self.await_role("node-b", "standby", TIDY_LIMIT_S)
            self._write_track("node-b", "0")

    def _write_track(self, node: str, word: str) -> None:
        path = f"/proc/{self.lab.init_pid(node)}/root/run/ha-agent/track"
        with open(path, encoding="ascii") as file:
            if file.read().strip() == word:
                return
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{word}\n")

    def _restore_registry(self) -> None:
        """Has the registry be as it was, and supervisord run that."""
        if {name: text for name, (_, text) in self.files("node-a").items()} != _bytes(CONFS):
            for name in self.files("node-a").keys() - CONFS.keys():
                os.unlink(self.path("node-a", name))
            for name, text in CONFS.items():
                with open(self.path("node-a", name), "w", encoding="ascii") as file:
                    os.fchmod(file.fileno(), 0o644)
                    file.write(text)
            self.await_equal()
            self.ha("node-a", "sync")
            self.lab.run("node-a", *SUPERVISORCTL, "update", check=False)

    def _empty_tmp(self) -> None:
        """Removes what was not in /tmp at the beginning. The project itself may lie there, and is never touched."""
        assert self._picture is not None
        for node in NODES:
            here = [f"/tmp/{name}" for name in os.listdir(f"/proc/{self.lab.init_pid(node)}/root/tmp")]
            if left := [path for path in here if f"{node}:{path}" not in self._picture.seen]:
                self.lab.run(node, *REMOVE, *left)

    def _await_former(self) -> str:
        """Waits until both agents find nothing wrong and the picture is the former one; returns what is otherwise."""
        assert self._picture is not None
        deadline = time.monotonic() + TIDY_LIMIT_S
        while True:
            why = find_faults(self) or self._picture.list_differences(take_picture(self.lab))
            if not why or time.monotonic() > deadline:
                return "; ".join(why)[:300]
            time.sleep(0.1)


def _bytes(confs: dict[str, str]) -> dict[str, bytes]:
    return {name: text.encode("ascii") for name, text in confs.items()}
