"""``ha-agent-web``: serves the dashboard, and manages who may use it."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import tomllib
from collections.abc import Sequence

from ha_agent import __version__
from ha_agent.adapters.arguments import problem_of
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.adapters.terminal import refuse_settings
from ha_agent.core.guard import Access
from ha_agent.core.places import DEFAULT_RUN_DIR
from ha_agent.core.reasons import reason_of
from ha_agent.core.schema import SettingsError
from ha_agent.core.visible import visible
from ha_agent.core.web_settings import Dashboard, check_dashboard, is_loopback, sample_web_toml
from ha_agent.core.words import Exit
from ha_agent.web.users import UserFile, UsersDamaged

CONFIG = "/etc/ha-agent/web.toml"
GROUP = "the packages of the dashboard are missing (Debian: ha-agent-web; pip: ha-agent[web])"


class Unusable(Exception):
    """It cannot be done; the text says what, where and what to do."""


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="ha-agent-web",
        description="The dashboard of one or several pairs: a process of its own, which asks the agent and never decides.",
        epilog="exit status: 0 done, 1 failed, 2 usage",
    )
    parser.add_argument("--version", action="version", version=f"ha-agent-web {__version__}")
    parser.add_argument("--config", default=CONFIG, help="configuration (default %(default)s; may be missing)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("serve", help="serve the dashboard (systemd does)").set_defaults(run=_serve)
    config = commands.add_parser("config", help="check or sample the configuration")
    parts = config.add_subparsers(dest="part", required=True, metavar="check|sample")
    parts.add_parser("check", help="report all problems of the file").set_defaults(run=_check)
    parts.add_parser("sample", help="print a commented file with every key").set_defaults(run=_sample)
    for what, text in (("user", "who may log in"), ("token", "what scripts and other dashboards come with")):
        group = commands.add_parser(what, help=text)
        actions = group.add_subparsers(dest="part", required=True, metavar="add|remove|list")
        add = actions.add_parser(
            "add", help=f"add a {what}" + (", or change it" if what == "user" else ", and print it once")
        )
        add.add_argument("name", metavar="NAME")
        add.add_argument("--operator", action="store_true", help="may start, stop and switch over; else only look")
        if what == "user":
            add.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
        add.set_defaults(run=_add_user if what == "user" else _add_token)
        remove = actions.add_parser("remove", help=f"remove a {what}; what it has open ends with it")
        remove.add_argument("name", metavar="NAME")
        remove.set_defaults(run=_remove)
        actions.add_parser("list", help=f"show every {what}").set_defaults(run=_list)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    if problem := problem_of(sys.argv[1:] if argv is None else argv):
        _complain(problem)
        return Exit.USAGE
    options = build_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SettingsError as error:
        return refuse_settings("ha-agent-web", options.config, error)
    except (Unusable, UsersDamaged, ValueError) as error:
        _complain(str(error))
        return Exit.USAGE
    except OSError as error:
        _complain(reason_of(error))
        return Exit.FAILED
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> None:
    print(f"ha-agent-web: {visible(text)}", file=sys.stderr)


def load_dashboard(path: str) -> Dashboard:
    """The configuration at ``path``, or the defaults. Raises ``SettingsError``, ``Unusable`` and ``OSError``."""
    try:
        run_dir = read_places(DEFAULT_PATH)[0]
    except (OSError, ValueError):
        run_dir = DEFAULT_RUN_DIR
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except FileNotFoundError:
        if path != CONFIG:
            raise
        raw = {}
    except tomllib.TOMLDecodeError as error:
        raise Unusable(f"{path} is not TOML: {error}") from None
    return check_dashboard(raw, run_dir)


def _serve(options: argparse.Namespace) -> int:
    dashboard = load_dashboard(options.config)
    users = UserFile(dashboard.web.users_file)
    users.load()
    if users.is_empty and not is_loopback(dashboard.web.listen):
        raise Unusable(
            f"refuses to listen on {dashboard.web.listen} without users: ha-agent-web user add NAME --operator, and again"
        )
    for path in (dashboard.web.tls_certificate, dashboard.web.tls_key, *(p.token_file for p in dashboard.pairs.values())):
        if path and not os.access(path, os.R_OK):
            raise Unusable(f"{path} cannot be read by this user ({getpass.getuser()})")
    try:
        from ha_agent.adapters.heap import limit_heap
        from ha_agent.web.render import compile_templates

        limit_heap()
        # Before the server is imported, which then takes the memory that the compiler has needed: 1.8 MiB less at the peak.
        compile_templates()
        from ha_agent.web.server import run_server
    except ImportError as error:
        raise Unusable(f"{GROUP}: {error}") from None
    return run_server(dashboard)


def _check(options: argparse.Namespace) -> int:
    load_dashboard(options.config)
    print(f"{options.config}: good" if os.path.exists(options.config) else f"{options.config} is missing: all defaults")
    return Exit.DONE


def _sample(_options: argparse.Namespace) -> int:
    sys.stdout.write(sample_web_toml())
    return Exit.DONE


def _users(options: argparse.Namespace) -> UserFile:
    users = UserFile(load_dashboard(options.config).web.users_file)
    users.load()
    return users


def _access(options: argparse.Namespace) -> Access:
    return Access.OPERATE if options.operator else Access.READ


def _add_user(options: argparse.Namespace) -> int:
    users = _users(options)
    if options.password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise Unusable("the two passwords differ; nothing was changed")
    else:
        raise Unusable("there is no terminal to ask for the password; give it with --password-stdin")
    users.set_user(options.name, password, _access(options))
    print(f"{options.name} may {'operate' if options.operator else 'look'}")
    return Exit.DONE


def _add_token(options: argparse.Namespace) -> int:
    print(_users(options).add_token(options.name, _access(options)))
    return Exit.DONE


def _remove(options: argparse.Namespace) -> int:
    if not _users(options).remove(options.name, token=options.command == "token"):
        raise Unusable(f"there is no {options.command} {options.name}")
    print(f"{options.command} {options.name} is removed")
    return Exit.DONE


def _list(options: argparse.Namespace) -> int:
    users = _users(options)
    for name, access in (users.tokens() if options.command == "token" else users.users()).items():
        print(f"{name:<30} {'operator' if access is Access.OPERATE else 'reader'}")
    return Exit.DONE
