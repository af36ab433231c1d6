"""``ha-agent bundle``: everything that somebody needs who is to find out what is wrong, in one file, without secrets."""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

from ha_agent import __version__
from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.keepalived_conf import HOOK_PATH, read_conf
from ha_agent.adapters.program_path import SAFE_PATH
from ha_agent.adapters.status_screen import render_status
from ha_agent.adapters.terminal import complain
from ha_agent.cli.history_cmd import event_line, read_all
from ha_agent.cli.lint_cmd import read_registry
from ha_agent.cli.logs_cmd import JournalUnread, line_text, read_journal
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.blanking import Blanker
from ha_agent.core.host_profile import DEBIAN
from ha_agent.core.journal_lines import UNITS, merge_lines
from ha_agent.core.main_conf import UnusableConf, included_patterns, parse_main_conf
from ha_agent.core.places import RunPlaces, StatePlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings import Settings
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit

EVENTS = 5000
LINES = 2000
DOCTOR_S = 120.0
PROGRAM_S = 10.0
KEEPALIVED = "/etc/keepalived/keepalived.conf"

VERSIONS = (
    ("keepalived", "--version"),
    ("supervisord", "--version"),
    ("rsync", "--version"),
    ("ssh", "-V"),
    ("systemctl", "--version"),
    ("uname", "-a"),
)
MACHINE = (("ip", "-o", "address"), ("ip", "route"), ("ip", "-s", "link"), ("df", "-h"), ("df", "-i"), ("uptime",))

EXPECTED = (PeerUnreachable, CommandFailed, NoDaemon, JournalUnread, ValueError, subprocess.TimeoutExpired)
"""What can keep a part from being had where something is wrong, besides ``OSError``: the others are made all the same."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "put status, doctor, history, logs and configuration of the pair into one file, without secrets (root)"
    parser = commands.add("bundle", summary, "ha-agent bundle -o /root/pair.tar.gz", run)
    parser.add_argument("-o", "--output", metavar="FILE", help="where to (default: ha-agent-NODE-TIME.tar.gz here)")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 7 where something is missing in the file."""
    if os.geteuid() != 0:
        complain("bundle: only root may read what goes into it; run this as root")
        return Exit.REFUSED
    began = time.time()
    settings, problem = _read_settings(options)
    name = settings.node.name if settings is not None else os.uname().nodename.split(".")[0]
    title = f"ha-agent-{name}-{time.strftime('%Y%m%dT%H%M%S', time.localtime(began))}"
    path = options.output or f"{title}.tar.gz"
    # Nobody else may read it, from its first byte on, and nothing that is there is overwritten.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            bundle = Bundle(options.config, settings, problem)
            bundle.collect()
            bundle.write(file, title, began)
    except BaseException:
        os.unlink(path)
        raise
    print(f"{path}: {count_text(len(bundle.files), 'file')}, {os.path.getsize(path) >> 10} KiB")
    print("secrets are blanked as far as they can be told; look through it before you pass it on")
    for part, why in bundle.missing.items():
        complain(f"missing: {part}: {why}")
    return Exit.INCOMPLETE if bundle.missing else Exit.DONE


def _read_settings(options: argparse.Namespace) -> tuple[Settings | None, str]:
    try:
        return settings_of(options), ""
    except SettingsError:
        return None, f"{options.config} cannot be used: see ha-agent config check"
    except OSError as error:
        return None, f"{options.config}: {error.strerror}"


class Bundle:
    """Collects the parts. ``files``: text by name; ``missing``: by part why it is not there."""

    def __init__(self, config: str, settings: Settings | None, problem: str) -> None:
        self._config, self._settings, self._problem = config, settings, problem
        self._blanker = Blanker()
        self.files: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def collect(self) -> None:
        """Makes every part that can be had. Configurations come first: what is secret in them is taken out of all others."""
        self._part("config", self._add_configurations)
        self._part("registry", self._add_registry)
        self._part("versions.txt", self._add_versions)
        self._part("machine.txt", lambda: self._add_programs("machine.txt", MACHINE))
        self._part("state", self._add_state)
        if self._settings is None:
            self.missing["what the agent knows"] = self._problem
            return
        nodes = Nodes(self._settings)
        self._part("status", lambda: self._add_status(nodes))
        self._part("history", lambda: self._add_history(nodes))
        self._part("doctor", self._add_doctor)
        for operation in ("alert-list", "kept-list", "manifest"):
            for node in (nodes.own_name, nodes.peer_name):
                self._part(f"{operation}-{node}.json", self._asking(nodes, node, operation))
        for unit in UNITS:
            for node in (nodes.own_name, nodes.peer_name):
                self._part(f"logs/{node}-{unit}.txt", self._reading(nodes, node, unit))

    def _part(self, name: str, make: Callable[[], None]) -> None:
        try:
            make()
        except OSError as error:
            self.missing[name] = f"{error.filename or name}: {error.strerror or error or 'no answer in time'}"
        except EXPECTED as error:
            self.missing[name] = str(error)

    def _put(self, name: str, text: str) -> None:
        # Colours are for the terminal that this may run on.
        self.files[name] = re.sub(r"\x1b\[[0-9;]*m", "", text)

    # ---- configurations -----------------------------------------------------------------------------------

    def _add_configurations(self) -> None:
        blanker = self._blanker
        main_conf = self._settings.supervisor.config if self._settings is not None else DEBIAN.main_conf
        for path, blank in (
            (self._config, lambda text: blanker.blank_toml(tomllib.loads(text))),
            *((one, blanker.blank_keepalived) for one in _keepalived_files()),
            (main_conf, blanker.blank_ini),
            *((one, blanker.blank_ini) for one in self._local_confs(main_conf)),
        ):
            self._part(f"config{path}", lambda path=path, blank=blank: self._put(f"config{path}", blank(_read(path))))  # type: ignore[misc]
        self._part("config/hook", lambda: self._put("config/hook", _read(HOOK_PATH)))

    def _local_confs(self, main_conf: str) -> Iterator[str]:
        """What supervisord includes besides the registry."""
        try:
            patterns = included_patterns(parse_main_conf(_read(main_conf)), main_conf)
        except (OSError, UnusableConf):
            return
        run_dir = self._settings.paths.run_dir if self._settings is not None else "/run/ha-agent"
        for pattern in patterns:
            if not pattern.startswith(run_dir):
                yield from sorted(glob.glob(pattern))

    def _add_registry(self) -> None:
        root = self._settings.registry.path if self._settings is not None else DEBIAN.registry
        for path, text in sorted(read_registry(root).items()):
            self._put(f"registry/{path}", self._blanker.blank_ini(text))

    # ---- this machine -------------------------------------------------------------------------------------

    def _add_versions(self) -> None:
        system = _read("/etc/os-release") if os.path.exists("/etc/os-release") else ""
        head = f"ha-agent {__version__}\npython {sys.version.split()[0]}\n{system}\n"
        self._add_programs("versions.txt", VERSIONS, head)

    def _add_programs(self, name: str, commands: tuple[tuple[str, ...], ...], head: str = "") -> None:
        self._put(name, head + "\n".join(f"$ {' '.join(words)}\n{_run(*words)}" for words in commands))

    def _add_state(self) -> None:
        run_dir = self._settings.paths.run_dir if self._settings is not None else "/run/ha-agent"
        state_dir = self._settings.paths.state_dir if self._settings is not None else "/var/lib/ha-agent"
        self._put("state/listing.txt", _run("ls", "-lanR", "--time-style=full-iso", run_dir, state_dir))
        run, state = RunPlaces(run_dir), StatePlaces(state_dir)
        for path in (run.role, run.groups, run.partial_groups, run.track_file, run.drill, state.state, state.maintenance):
            if os.path.isfile(path):
                self._put(f"state{path}", _read(path))

    # ---- what the agents know -----------------------------------------------------------------------------

    def _add_status(self, nodes: Nodes) -> None:
        seen = nodes.status()
        self._put("status.json", json.dumps({"nodes": seen}, indent=2))
        self._put("status.txt", render_status(seen))
        versions = "\n".join(f"{node['name']}: ha-agent {node.get('version', 'not known: no answer')}" for node in seen)
        self._put("versions-of-both.txt", versions)
        for node in seen:
            if not node["reachable"]:
                self.missing[f"what {node['name']} says of itself"] = str(node.get("problem") or "no answer")

    def _add_history(self, nodes: Nodes) -> None:
        reading = read_all(nodes, EVENTS, 0.0)
        self._put("history.jsonl", "".join(json.dumps(event) + "\n" for event in reading.events))
        self._put("history.txt", "".join(event_line(event) + "\n" for event in reading.events))
        if reading.own_problem or reading.problem:
            self.missing[f"history of {nodes.peer_name}"] = str(reading.own_problem or reading.problem)

    def _add_doctor(self) -> None:
        words = [sys.executable, "-m", "ha_agent", "doctor", "--peer", "--json", "--config", self._config]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOCTOR_S)
        self._put("doctor.json", done.stdout or done.stderr)

    def _asking(self, nodes: Nodes, node: str, operation: str) -> Callable[[], None]:
        return lambda: self._put(f"{operation}-{node}.json", json.dumps(nodes.ask(node, {"op": operation}, 30.0), indent=2))

    def _reading(self, nodes: Nodes, node: str, unit: str) -> Callable[[], None]:
        def read() -> None:
            rows = merge_lines({node: read_journal(nodes, node, unit, LINES, 0.0)})
            self._put(f"logs/{node}-{unit}.txt", "".join(line_text(row) + "\n" for row in rows))

        return read

    # ---- the file -----------------------------------------------------------------------------------------

    def write(self, file: Any, title: str, at: float) -> None:
        """Writes the archive, with everything that is a secret taken out of every text. Raises ``OSError``."""
        lines = [f"{part}: {why}" for part, why in self.missing.items()] or ["nothing is missing"]
        self._put("MISSING.txt", "\n".join(lines) + "\n")
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in sorted(self.files.items()):
                data = self._blanker.scrub(text).encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"{title}/{visible(name)}")
                entry.size, entry.mtime, entry.mode = len(data), int(at), 0o600
                archive.addfile(entry, io.BytesIO(data))


def _keepalived_files() -> list[str]:
    """keepalived.conf and what it includes."""
    with contextlib.suppress(OSError, ValueError):
        return sorted({KEEPALIVED, *read_conf(KEEPALIVED)[1]})
    return [KEEPALIVED]


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(4 << 20).decode("utf-8", "replace")


def _run(*words: str) -> str:
    env = {"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_S, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{reason_of(error)}\n"
    return done.stdout.decode("utf-8", "replace")
