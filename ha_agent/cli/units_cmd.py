"""``ha-agent install-units``: what the Debian package puts outside Python's own folders, for a virtual environment."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from ha_agent.adapters.files import write_atomic
from ha_agent.adapters.resources import find_resource
from ha_agent.adapters.terminal import complain
from ha_agent.cli.options import Commands
from ha_agent.core.words import Exit

PACKAGE = "/usr/share/doc/ha-agent"
COMMANDS = (
    "ha-agent",
    "ha-agent-peer",
    "ha-agent-witness",
    "ha-agent-keeper",
    "ha-agent-listener",
    "ha-agent-web",
    "supzcli",
)
OWN_DIR = "usr/lib/ha-agent"
"""The one folder among them that is nobody else's."""

FILES = (
    ("keepalived/ha-agent-notify", "/usr/lib/ha-agent/ha-agent-notify", 0o755),
    ("systemd/ha-agent-fence", "/usr/lib/ha-agent/ha-agent-fence", 0o755),
    ("systemd/ha-agent.service", "/etc/systemd/system/ha-agent.service", 0o644),
    ("systemd/ha-agent-fence.service", "/etc/systemd/system/ha-agent-fence.service", 0o644),
    ("systemd/ha-agent-keeper.service", "/etc/systemd/system/ha-agent-keeper.service", 0o644),
    ("systemd/ha-agent.tmpfiles.conf", "/etc/tmpfiles.d/ha-agent.conf", 0o644),
    ("systemd/ha-agent.sysusers.conf", "/etc/sysusers.d/ha-agent.conf", 0o644),
    ("systemd/ha-agent-web.service", "/etc/systemd/system/ha-agent-web.service", 0o644),
    ("systemd/ha-agent-web.sysusers.conf", "/etc/sysusers.d/ha-agent-web.conf", 0o644),
)


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "put units, hook and commands in their places, after an installation with pip"
    parser = commands.add("install-units", summary, "/opt/ha-agent/bin/ha-agent install-units", run)
    parser.add_argument("--root", default="/", metavar="DIR", help="below this directory instead of /, and start nothing")
    parser.add_argument("--remove", action="store_true", help="take them away again")


def _wanted() -> Iterator[tuple[str, bytes, int]]:
    for name, target, mode in FILES:
        with open(find_resource(name), "rb") as file:
            yield target, file.read(), mode


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    root, bin_dir = os.path.abspath(options.root), os.path.join(sys.prefix, "bin")
    if root == "/" and os.geteuid() != 0:
        complain("install-units must run as root")
        return Exit.USAGE
    if root == "/" and os.path.isdir(PACKAGE):
        complain("the Debian package is installed: it has all of this already")
        return Exit.REFUSED
    links = {f"/usr/bin/{name}": os.path.join(bin_dir, name) for name in COMMANDS}
    for target in links:
        path = os.path.join(root, target.lstrip("/"))
        if os.path.lexists(path) and not os.path.islink(path):
            complain(f"{path} is in the way and is not a link of this command's: move it away")
            return Exit.REFUSED
    for target, content, mode in _wanted():
        path = os.path.join(root, target.lstrip("/"))
        if options.remove:
            _remove(path)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_atomic(path, content, mode)
        print(path)
    for target, source in links.items():
        path = os.path.join(root, target.lstrip("/"))
        _remove(path)
        if not options.remove:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.symlink(source, path)
        print(path)
    if options.remove:
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(root, OWN_DIR))
    if root == "/":
        steps = [["systemctl", "daemon-reload"]]
        if not options.remove:
            steps += [["systemd-sysusers", "ha-agent.conf", "ha-agent-web.conf"]]
            steps += [["systemd-tmpfiles", "--create", "ha-agent.conf"]]
        for words in steps:
            subprocess.run(words, check=True)
    return Exit.DONE


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
