"""``ha-agent``: calls the function of a command, and turns every failure into one clear line and an exit status."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.core.schema import SettingsError
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["lab"]:
        # The lab's own parser sees the words as they are: `exec NODE -- CMD` must keep its dashes.
        from ha_agent.lab.cli import main as lab_main

        return lab_main(words[1:])
    if words[:1] == ["daemon"] and not {"-h", "--help"} & set(words):
        # The daemon lives long: it carries nothing of the other commands.
        return _run_daemon(words[1:])
    from ha_agent.adapters.arguments import problem_of
    from ha_agent.cli.grammar import complete_words, misplaced_option
    from ha_agent.cli.nodes import PeerUnreachable
    from ha_agent.cli.parser import build_parser

    if not words:
        build_parser().print_help()
        return Exit.USAGE
    if problem := problem_of(words) or misplaced_option(words):
        _complain(problem)
        return Exit.USAGE
    options = build_parser(words[0]).parse_args(complete_words(words))
    try:
        return int(options.run(options))
    except SettingsError as error:
        from ha_agent.adapters.terminal import refuse_settings

        return refuse_settings("ha-agent", options.config, error)
    except NoDaemon as error:
        _complain(str(error))
        return Exit.NO_DAEMON
    except PeerUnreachable as error:
        _complain(str(error))
        return Exit.PEER_UNREACHABLE
    except NotAllowed as error:
        _complain(str(error))
        return Exit.REFUSED
    except CommandFailed as error:
        _complain(str(error))
        return Exit.FAILED
    except TimeoutError:
        _complain("the agent did not answer in time; see its log (journalctl -u ha-agent)")
        return Exit.TIMED_OUT
    except BrokenPipeError:
        return Exit.FAILED
    except OSError as error:
        if error.filename is not None and error.filename == getattr(options, "config", None):
            remedy = "name another with --config"
            if isinstance(error, FileNotFoundError):
                remedy = f"make one with: ha-agent config sample > {options.config}; or {remedy}"
            _complain(f"{error.filename}: {error.strerror}; {remedy}")
            return Exit.USAGE
        _complain(f"{error.filename or 'error'}: {error.strerror or error}")
        return Exit.FAILED
    except KeyboardInterrupt:
        # A second Ctrl-C, on the way out, has nothing more to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return 130
    except Exception as error:  # noqa: BLE001 the outermost border: a traceback goes to a file
        from ha_agent.adapters.defects import log_traceback

        _complain(f"{type(error).__name__}: {error}; this is a defect of ha-agent; {log_traceback('ha-agent', words)}")
        return Exit.FAILED


def _complain(text: str) -> None:
    print(f"ha-agent: {visible(text)}", file=sys.stderr)


def _run_daemon(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="ha-agent daemon")
    parser.add_argument("--config", default=DEFAULT_PATH)
    options = parser.parse_args(words)
    # The daemon speaks TLS with nobody but an etcd that asks for it, and hashes confs: OpenSSL would be 5 MiB of its memory.
    # asyncio and http.client do without ssl, and hashlib then has CPython's own SHA-256: 2.4 microseconds for a conf where
    # OpenSSL needs 0.9.
    for name in ("ssl", "_hashlib"):
        sys.modules[name] = None  # type: ignore[assignment]
    from ha_agent.daemon.main import run_daemon

    return run_daemon(options.config)
