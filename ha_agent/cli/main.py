"""``ha-agent``: reads the command line and calls one function a command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ha_agent import __version__
from ha_agent.adapters.control import CommandFailed, NoDaemon, ask_daemon
from ha_agent.adapters.settings_file import DEFAULT_PATH, load_settings
from ha_agent.core.settings import Settings, SettingsError, sample_toml, settings_as_dict, toml_value
from ha_agent.core.words import Exit


def build_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="ha-agent",
        description="Makes supervisord's programs follow keepalived's virtual address on a pair of machines.",
    )
    parser.add_argument("--version", action="version", version=f"ha-agent {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", default=DEFAULT_PATH, metavar="FILE", help=f"configuration (default {DEFAULT_PATH})")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    daemon = commands.add_parser("daemon", parents=[common], help="run the agent of this node (systemd does)")
    daemon.set_defaults(run=_run_daemon)

    status = commands.add_parser(
        "status", parents=[common], help="show both nodes", epilog="example: ha-agent status --json | jq '.nodes[].role'"
    )
    status.add_argument("--json", action="store_true", help="as JSON (docs/status.md)")
    status.set_defaults(run=_run_status)

    sync = commands.add_parser(
        "sync",
        parents=[common],
        help="compare everything with the peer and push; on the active node",
        epilog="example: ha-agent sync --accept-deletes",
    )
    sync.add_argument("--accept-deletes", action="store_true", help="the deletions that are held are meant")
    sync.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds to wait (default 30)")
    sync.set_defaults(run=_run_sync)

    config = commands.add_parser("config", help="check, show or sample the configuration")
    parts = config.add_subparsers(dest="part", required=True, metavar="check|show|sample")
    parts.add_parser("check", parents=[common], help="report all problems of the file").set_defaults(run=_run_config_check)
    show = parts.add_parser("show", parents=[common], help="every value in force")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=_run_config_show)
    parts.add_parser("sample", help="a commented file with every key").set_defaults(run=_run_config_sample)

    keepalived = commands.add_parser("keepalived", help="keepalived's side")
    parts = keepalived.add_subparsers(dest="part", required=True, metavar="render")
    render = parts.add_parser("render", parents=[common], help="print keepalived.conf of this node")
    render.add_argument("--hook", default=None, metavar="PATH", help="path of the notify hook on this node")
    render.set_defaults(run=_run_keepalived_render)

    lab = commands.add_parser("lab", add_help=False, help="a pair in namespaces on this machine (ha-agent lab --help)")
    lab.add_argument("rest", nargs=argparse.REMAINDER)
    lab.set_defaults(run=_run_lab)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives back its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["lab"]:
        # The lab's own parser sees the words as they are: `exec NODE -- CMD` must keep its dashes.
        from ha_agent.lab.cli import main as lab_main

        return lab_main(words[1:])
    options = build_parser().parse_args(words)
    try:
        return int(options.run(options))
    except SettingsError as error:
        for problem in error.problems:
            _complain(f"{options.config}: {problem}")
        return Exit.USAGE
    except NoDaemon as error:
        _complain(str(error))
        return Exit.NO_DAEMON
    except CommandFailed as error:
        _complain(str(error))
        return Exit.FAILED
    except TimeoutError:
        _complain("the agent did not answer in time; see its log (journalctl -u ha-agent)")
        return Exit.TIMED_OUT
    except BrokenPipeError:
        return Exit.FAILED
    except OSError as error:
        _complain(f"{error.filename or 'error'}: {error.strerror or error}")
        return Exit.FAILED
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> None:
    print(f"ha-agent: {text}", file=sys.stderr)


def _settings(options: argparse.Namespace) -> Settings:
    return load_settings(options.config)


def _run_daemon(options: argparse.Namespace) -> int:
    # asyncio and http.client import ssl if they can. The daemon speaks TLS with nobody, and it costs more than 1 MiB.
    sys.modules["ssl"] = None  # type: ignore[assignment]
    from ha_agent.daemon.main import run_daemon

    return run_daemon(options.config)


def _run_lab(options: argparse.Namespace) -> int:
    from ha_agent.lab.cli import main as lab_main

    return lab_main(options.rest)


def _run_status(options: argparse.Namespace) -> int:
    answer = ask_daemon(_settings(options).paths.run_dir, {"op": "status"}, 10.0)
    nodes = answer["nodes"]
    if options.json:
        print(json.dumps({"schema": 1, "nodes": nodes}, indent=2))
    else:
        from ha_agent.cli.status_text import render_status

        print(render_status(nodes))
    return Exit.DONE if all(n.get("reachable") for n in nodes) else Exit.PEER_UNREACHABLE


SYNC_EXITS = {
    "in-sync": Exit.DONE,
    "refused": Exit.REFUSED,
    "unreachable": Exit.PEER_UNREACHABLE,
    "held": Exit.REFUSED,
    "refused-by-peer": Exit.INCOMPLETE,
    "timeout": Exit.TIMED_OUT,
}


def _run_sync(options: argparse.Namespace) -> int:
    message = {"op": "sync", "accept_deletes": options.accept_deletes, "timeout_s": options.timeout}
    answer = ask_daemon(_settings(options).paths.run_dir, message, options.timeout + 10.0)
    outcome = str(answer["outcome"])
    if outcome == "in-sync":
        print(f"in sync: {answer['confs']} confs on both nodes")
    else:
        _complain(f"not in sync ({outcome}): {answer.get('reason', '')}")
    return SYNC_EXITS.get(outcome, Exit.FAILED)


def _run_config_check(options: argparse.Namespace) -> int:
    _settings(options)
    print(f"{options.config}: good")
    return Exit.DONE


def _run_config_show(options: argparse.Namespace) -> int:
    values = settings_as_dict(_settings(options))
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        for section, keys in values.items():
            print(f"[{section}]")
            for name, value in keys.items():
                print(f"{name} = {toml_value(value)}")
            print()
    return Exit.DONE


def _run_config_sample(_options: argparse.Namespace) -> int:
    sys.stdout.write(sample_toml())
    return Exit.DONE


def _run_keepalived_render(options: argparse.Namespace) -> int:
    from ha_agent.cli.keepalived import HOOK_PATH, render_keepalived

    sys.stdout.write(render_keepalived(_settings(options), options.hook or HOOK_PATH))
    return Exit.DONE
