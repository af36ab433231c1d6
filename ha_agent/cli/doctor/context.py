"""What every check may look at: the configuration, files below a root, outer programs, the daemon. All of it read-only."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ha_agent.adapters.addresses import find_address
from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.adapters.program_path import SAFE_PATH
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.core.faults import Face, former_code
from ha_agent.core.findings import Finding, Severity
from ha_agent.core.node_json import NodeJson
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import Settings
from ha_agent.core.vote_checks import ClockRates, Way, rate_of

if TYPE_CHECKING:
    # Whoever needs them imports them: with asyncio they are most of what a check costs.
    from ha_agent.adapters.keeper import KeeperState
    from ha_agent.cli.witness_try import Tried

PROGRAM_LIMIT_S = 10.0
ANSWER_S = 0.5
RATES_S = 2.0
"""With answers within a few ms a difference of a fifth of a percent is seen."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How an outer program ended; ``code`` is None where it is missing or did not end in time."""

    code: int | None
    output: str
    errors: str


@dataclass
class Context:
    """One run of the doctor on this node."""

    settings: Settings
    config_path: str
    keepalived_conf: str = "/etc/keepalived/keepalived.conf"
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    _status: tuple[list[NodeJson], str | None] | None = None
    is_refused: bool = False
    """Whether whoever asks may not ask the agent, which says nothing of the agent."""

    def run(self, *words: str) -> Ran:
        """Runs a program that only looks: empty environment, no input, a deadline."""
        path = self.find(words[0])
        if path is None:
            return Ran(None, "", f"{words[0]} is not installed")
        try:
            done = subprocess.run(
                [path, *words[1:]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROGRAM_LIMIT_S,
                env={"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8"},
            )
        except subprocess.TimeoutExpired:
            return Ran(None, "", f"no end after {PROGRAM_LIMIT_S:g} s")
        except OSError as error:
            return Ran(None, "", reason_of(error))
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def find(self, name: str) -> str | None:
        """The absolute path of a program; None where it is not installed."""
        places = (os.path.join(folder, name) for folder in SAFE_PATH.split(":"))
        return next((path for path in places if os.access(path, os.X_OK)), None)

    def read(self, path: str) -> str | None:
        """The text of a file; None where it cannot be read."""
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
        return None

    def status(self) -> tuple[list[NodeJson], str | None]:
        """Both nodes' own accounts, and why there are none where the daemon does not answer."""
        if self._status is None:
            try:
                self._status = Nodes(self.settings).status(known=True), None
            except (NoDaemon, CommandFailed, TimeoutError) as error:
                self.is_refused = isinstance(error, NotAllowed)
                self._status = [], str(error) or "the agent did not answer"
        return self._status

    def is_there(self, host: str) -> bool:
        """Whether the machine at the IP address ``host`` gives a sign of life within ``ANSWER_S``."""
        import asyncio

        from ha_agent.adapters.machine import SSH_PORT
        from ha_agent.adapters.reach import is_machine_up

        return asyncio.run(is_machine_up(host, SSH_PORT, ANSWER_S))

    def clock_rates(self) -> ClockRates:
        """How fast this node's clock and the peer's run, measured over ``RATES_S``."""
        peer = self._ask_peers_clock()
        raw, boot = _read_clocks()
        time.sleep(RATES_S)
        raw_2, boot_2 = _read_clocks()
        again = self._ask_peers_clock() if peer is not None else None
        turned = (boot_2 - boot) / (raw_2 - raw) - 1
        if peer is None or again is None:
            return ClockRates(turned, None, 0.0)
        return ClockRates(turned, *rate_of(peer, again))

    def _ask_peers_clock(self) -> tuple[float, float, float] | None:
        try:
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            at = float(Nodes(self.settings).ask_peer({"op": "history", "count": 1})["at"])
            return began, at, time.clock_gettime(time.CLOCK_BOOTTIME)
        except (PeerUnreachable, CommandFailed, NoDaemon, TimeoutError):
            return None

    def way_to(self, address: str) -> Way | None:
        """How this machine would reach ``address`` (ip-route(8)); None where it would not."""
        try:
            (found,) = json.loads(self.run("ip", "-j", "route", "get", address).output)
            return Way(str(found.get("dev", "")), str(found.get("gateway", "")))
        except (ValueError, AttributeError):
            return None

    def keeper_state(self) -> KeeperState:
        """How the keeper of the votes' deadline is. Raises ``KeeperFailed``."""
        import asyncio

        from ha_agent.adapters.keeper import KeeperClient

        async def ask() -> KeeperState:
            client = KeeperClient(self.settings.paths.run_dir)
            try:
                return await client.read_state()
            finally:
                client.close()

        return asyncio.run(ask())

    def try_witness(self) -> Tried:
        """Whether the witness answers this node, over a connection of its own."""
        import asyncio

        from ha_agent.cli.witness_try import try_witness

        return asyncio.run(try_witness(self.settings))

    def interfaces_of(self, address: str) -> list[str] | None:
        """On which interfaces of this machine ``address`` is; None where the kernel does not tell."""
        try:
            return sorted({socket.if_indextoname(one.interface) for one in find_address(address)})
        except OSError:
            return None

    @functools.cached_property
    def has_systemd(self) -> bool:
        """Whether systemd runs this machine."""
        return os.path.isdir("/run/systemd/system")


def _read_clocks() -> tuple[float, float]:
    """The clock as the hardware runs, and as it is turned, by which votes are counted (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_MONOTONIC_RAW), time.clock_gettime(time.CLOCK_BOOTTIME)


Check = Callable[[Context], Iterator[Finding]]


def ok(code: str, text: str) -> Finding:
    """Nothing is wrong there."""
    return Finding(code, Severity.OK, text)


def error(code: str, text: str, remedy: str) -> Finding:
    """It does not work, or not when it is needed."""
    return Finding(code, Severity.ERROR, text, remedy, alias=former_code(code, Face.DOCTOR) or "")


def warning(code: str, text: str, remedy: str) -> Finding:
    """It works, and will surprise."""
    return Finding(code, Severity.WARNING, text, remedy, alias=former_code(code, Face.DOCTOR) or "")


def unknown(code: str, text: str, remedy: str = "") -> Finding:
    """It could not be found out."""
    return Finding(code, Severity.UNKNOWN, text, remedy)


def run_checks(checks: Mapping[str, Check], context: Context) -> list[Finding]:
    """Every check's findings; a check that breaks is a finding itself."""
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += list(check(context))
        except Exception as problem:  # noqa: BLE001 one broken check must not keep the others back
            text = f"the check {name} could not be made: {type(problem).__name__}: {problem}"
            remedy = "this is a defect of ha-agent; please report it"
            found.append(Finding("check-broken", Severity.UNKNOWN, text, remedy, alias=f"{name}-failed"))
    return found
