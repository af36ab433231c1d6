"""The command line's grammar, and the commands that are too small for a module of their own."""

from __future__ import annotations

import argparse
import importlib
import sys

from ha_agent import __version__
from ha_agent.cli.grammar import Parser
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.words import Exit

MODULES = {
    "status": "status_cmd",
    "check": "check_cmd",
    "checks": "checks_cmd",
    "history": "history_cmd",
    "is-active": "is_active_cmd",
    "switchover": "switchover_cmd",
    "takeover": "takeover_cmd",
    "standby": "standby_cmd",
    "unstandby": "standby_cmd",
    "failover-test": "drill_cmd",
    "lint": "lint_cmd",
    "doctor": "doctor_cmd",
    "maintenance": "maintenance_cmd",
    "alert": "alert_cmd",
    "config": "config_cmd",
    "sync": "registry_cmd",
    "diff": "registry_cmd",
    "kept": "kept_cmd",
    "payload": "payload_cmd",
    "restore": "restore_cmd",
    "setup": "setup_cmd",
    "pair": "pair_cmd",
    "setup-node": "setup_cmd",
    "install-units": "units_cmd",
    "bundle": "bundle_cmd",
    "edit": "edit_cmd",
    "explain": "explain_cmd",
    "logs": "logs_cmd",
    "witness": "witness_cmd",
    "pause": "maintenance_cmd",
    "resume": "maintenance_cmd",
    "names": "names_cmd",
}
"""Which module of this package adds which command."""

OTHER_NAMES = {"list": ("status", "show both nodes: the same as status", "ha-agent list")}
"""Commands under the name that hands know from elsewhere (patronictl list): of which, with what summary and example."""

GROUPS = {
    "daily": (
        "status",
        "list",
        "check",
        "checks",
        "is-active",
        "history",
        "lint",
        "edit",
        "sync",
        "diff",
        "kept",
        "restore",
        "payload",
    ),
    "when something is wrong": ("doctor", "logs", "explain", "bundle"),
    "failover": (
        "switchover",
        "takeover",
        "failover-test",
        "maintenance",
        "pause",
        "resume",
        "standby",
        "unstandby",
        "witness",
    ),
    "alerts": ("alert",),
    "set-up": ("setup", "pair", "config", "keepalived", "listener", "install-units"),
    "internal": ("daemon", "setup-node", "names", "lab"),
}
"""How ``--help`` orders the commands."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The command line's grammar: that of ``command`` alone where it is one of ``MODULES``, so that no other is imported."""
    parser = Parser(
        prog="ha-agent",
        description="Makes supervisord's programs follow keepalived's virtual address on a pair of machines.",
        epilog="exit status: 0 done, 1 failed, 2 usage, 3 refused, 4 peer unreachable, 5 no daemon, 6 timed out, "
        "7 incomplete",
    )
    parser.add_argument("--version", action="version", version=f"ha-agent {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands = Commands(subparsers)
    parser.groups = GROUPS
    if command in OTHER_NAMES:
        _add_other_name(commands, command)
        return parser
    if command in MODULES:
        _add(commands, MODULES[command])
        return parser
    for name in dict.fromkeys(MODULES.values()):
        _add(commands, name)
    for name in OTHER_NAMES:
        _add_other_name(commands, name)

    parts = commands.add_group("keepalived", "make keepalived's side", "ha-agent keepalived write", "render|write")
    render = parts.add("render", "print keepalived.conf of this node", "ha-agent keepalived render", _run_keepalived_render)
    render.add_argument("--hook", default=None, metavar="PATH", help="path of the notify hook on this node")
    summary = "put the pair's VRRP instance into keepalived.conf, and keep what else stands there"
    write = parts.add("write", summary, "ha-agent keepalived write", _run_keepalived_write)
    write.add_argument("--hook", default=None, metavar="PATH", help="path of the notify hook on this node")

    parts = commands.add_group(
        "listener",
        "make supervisord's side of the alerts",
        "ha-agent listener render > /etc/supervisor/local.d/ha-agent-listener.conf",
        "render",
    )
    listener = parts.add("render", "print the listener's conf for local.d", "ha-agent listener render", _run_listener_render)
    listener.add_argument("--program", default=None, metavar="PATH", help="path of ha-agent-listener on this node")

    # These two are run by main() itself; here they are for --help.
    commands.add("daemon", "run the agent of this node (systemd does)", "systemctl start ha-agent")
    subparsers.add_parser("lab", add_help=False, help="a pair in namespaces on this machine (ha-agent lab --help)")
    return parser


def _add(commands: Commands, module: str) -> None:
    importlib.import_module(f"ha_agent.cli.{module}").add_parser(commands)


def _add_other_name(commands: Commands, name: str) -> None:
    known_as, summary, example = OTHER_NAMES[name]
    _add(commands.under_other_names({known_as: (name, summary, example)}), MODULES[known_as])


def _run_listener_render(options: argparse.Namespace) -> int:
    from ha_agent.core.listener_conf import render_listener

    sys.stdout.write(render_listener(options.program) if options.program else render_listener())
    return Exit.DONE


def _run_keepalived_write(options: argparse.Namespace) -> int:
    from ha_agent.cli.keepalived_cmd import write_conf

    return write_conf(settings_of(options), options.hook)


def _run_keepalived_render(options: argparse.Namespace) -> int:
    from ha_agent.adapters.keepalived_conf import HOOK_PATH, render_keepalived

    sys.stdout.write(render_keepalived(settings_of(options), options.hook or HOOK_PATH))
    return Exit.DONE
