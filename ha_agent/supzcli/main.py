"""``supzcli``: one command, or an interactive session."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ha_agent import __version__
from ha_agent.adapters.arguments import problem_of
from ha_agent.adapters.settings_paths import DEFAULT_PATH, read_places
from ha_agent.core.reasons import reason_of
from ha_agent.core.words import Exit

HELP = """\
supzcli -- supervisorctl for the pair: what it stops stays stopped on the other node, too

usage: supzcli [action [arguments]]

Without an action an interactive session begins. Actions are supervisorctl's: status, start, stop, restart, update, reread,
add, remove, signal, tail, maintail, clear, fg, pid, avail, open, version; and for programs in folders of their own: new,
register, deregister; push copies a folder's files to the other node. supzcli help ACTION tells more.

examples:
  supzcli status --pair
  supzcli stop billing          stopped, parked on both nodes: no failover starts it
  supzcli start billing         registered again on both nodes, started on this one

exit status: supervisorctl's, and 3 refused, 5 no agent, 6 timed out, 7 done here but not on the other node
"""

WITH_WORDS = {"push": "run_push", "register": "run_register", "deregister": "run_deregister", "new": "run_new"}
"""Actions whose arguments may hold blanks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one action, or a session; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]):
        sys.stdout.write(HELP)
        return Exit.DONE
    if words[:1] == ["--version"]:
        print(f"supzcli {__version__}")
        return Exit.DONE
    if problem := problem_of(words):
        return _complain(problem, Exit.USAGE)
    if words and words[0].startswith("-"):
        return _complain(
            f"there is no option {words[0]}: supzcli always speaks with this node's supervisord, through the agent",
            Exit.USAGE,
        )
    try:
        run_dir, socket = read_places(DEFAULT_PATH)
    except OSError as error:
        return _complain(f"{DEFAULT_PATH}: {error.strerror}; is this node one of a pair?", Exit.USAGE)
    except ValueError as error:
        return _complain(f"{DEFAULT_PATH}: {reason_of(error)}; ha-agent config check says more", Exit.USAGE)
    # After what needs none of it: supervisor's classes take most of the start.
    from ha_agent.supzcli.controller import GuardedController, Options

    controller = GuardedController(Options(run_dir, socket, interactive=not words))
    try:
        if not words:
            controller.exec_cmdloop([], controller.options)
            return Exit.DONE
        if words[0] in WITH_WORDS:
            work = getattr(controller.options.plugins[0], WITH_WORDS[words[0]])
            controller.guarded(lambda: work(words[1:]))
        else:
            controller.onecmd(" ".join(words))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nsupzcli: interrupted; what the agent has begun it finishes: supzcli status tells", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; nothing may be written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    return int(controller.exitstatus)


def _complain(text: str, status: int) -> int:
    print(f"supzcli: {text}", file=sys.stderr)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
