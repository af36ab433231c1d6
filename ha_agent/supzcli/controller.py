"""supervisorctl's own controller, speaking with the agent instead of with supervisord.

Reads no configuration of supervisorctl, so that neither plugins nor another address can come in by one.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any
from xmlrpc.client import Fault

from supervisor.supervisorctl import Controller

from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.core.nearest import did_you_mean
from ha_agent.core.reasons import reason_of
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit
from ha_agent.supzcli.errors import BadUsage, GuardRefused, SupervisordSilent
from ha_agent.supzcli.plugin import GuardedPlugin
from ha_agent.supzcli.proxy import AgentProxy

PROMPT = "New_supervisor"
HISTORY = "~/.supzcli_history"
NO_ANSWER = 4
"""supervisorctl's exit status for a supervisord that cannot be asked."""


class Options:
    """What supervisorctl's classes want of ``supervisor.options.ClientOptions``."""

    prompt = PROMPT
    username = password = ""

    def __init__(self, run_dir: str, socket: str, *, interactive: bool) -> None:
        self.interactive = interactive
        self.serverurl = f"unix://{socket}"
        self.history_file = os.path.expanduser(HISTORY) if interactive else None
        self.plugin_factories: list[tuple[str, Any, dict[str, Any]]] = [("default", GuardedPlugin, {})]
        self.plugins: list[Any] = []
        self.agent = AgentProxy(run_dir)
        self.is_at_peer = False
        """Whether the command under way looks at the other node's supervisord."""

    def getServerProxy(self) -> AgentProxy:
        """The interface that commands call."""
        return self.agent.at_peer() if self.is_at_peer else self.agent


class GuardedController(Controller):  # type: ignore[misc]
    """One session. ``exitstatus`` is that of the last command that failed, as supervisorctl has it."""

    def __init__(self, options: Options) -> None:
        # cmd.Cmd reads from where Python's own input() does; completion needs that.
        super().__init__(options)
        self.show_role()

    def show_role(self) -> None:
        """Puts the node and its role into the prompt; without an agent the prompt says so."""
        if not self.options.interactive:
            return
        try:
            me = self.options.agent.ask({"op": "whoami"}, 5.0)
            where = f"{me['node']} {me['role']}" + (", read only" if me["access"] == "read" else "")
        except (NoDaemon, CommandFailed, TimeoutError, OSError):
            where = "no agent"
        self.prompt = f"{PROMPT} [{where}]> "

    def postcmd(self, stop: bool | None, line: str) -> bool | None:
        """Called by ``cmd.Cmd`` after each command."""
        if not stop:
            self.show_role()
        return stop

    def precmd(self, line: str) -> str:
        """Called by ``cmd.Cmd`` before each command: blanks around it do not matter."""
        return line.strip() if line != "EOF" else line

    def onecmd(self, line: str) -> bool | None:
        """Runs one command; what went wrong becomes one line and the exit status. True ends the session."""
        command, argument, line = self.parseline(line)
        if not line:
            return None
        self._complete_info = None
        self.lastcmd = line
        function = self._get_do_func(command) if command else None
        if function is None:
            self.default(line)
            return None
        return self.guarded(lambda: function(argument))

    def default(self, line: str) -> None:
        """Called for an action that there is not."""
        word = visible(line.split()[0])
        known = {name.removeprefix("do_") for name in dir(GuardedPlugin) if name.startswith("do_")}
        self.fail(f"no action {word!r}; {did_you_mean(word, known, 'supzcli help lists all')}", Exit.USAGE)

    def do_EOF(self, arg: str) -> bool:
        """Ends the session."""
        super().do_EOF(arg)
        if self.options.interactive:
            self.output("GoodBye")
        return True

    def guarded(self, work: Any) -> bool | None:
        """Calls ``work``; returns what it does, None where it failed."""
        try:
            return bool(work()) or None
        except GuardRefused as error:
            self.fail(str(error), Exit.REFUSED)
        except NotAllowed as error:
            self.fail(str(error), Exit.REFUSED)
        except BadUsage as error:
            self.fail(str(error), Exit.USAGE)
        except NoDaemon as error:
            self.fail(f"{error}; supervisorctl still shows what supervisord itself runs", Exit.NO_DAEMON)
        except SupervisordSilent as error:
            self.fail(str(error), NO_ANSWER)
        except TimeoutError:
            self.fail("the agent did not answer in time; whether it was done is not known, status tells", Exit.TIMED_OUT)
        except Fault as error:
            self.fail(error.faultString, Exit.FAILED)
        except CommandFailed as error:
            self.fail(str(error), Exit.FAILED)
        except BrokenPipeError:
            raise
        except OSError as error:
            text = "no such file" if error.errno == errno.ENOENT else "refused connection"
            self.fail(f"{self.options.serverurl} {text}" if error.filename is None else reason_of(error), NO_ANSWER)
        except Exception as error:  # noqa: BLE001 the outermost border: a traceback goes to a file
            from ha_agent.adapters.defects import log_traceback

            where = log_traceback("supzcli", [self.lastcmd])
            self.fail(f"{type(error).__name__}: {error}; this is a defect of ha-agent; {where}", Exit.FAILED)
        return None

    def fail(self, text: str, status: int) -> None:
        """One line on standard error, and the exit status."""
        sys.stdout.flush()
        print(f"supzcli: {visible(text)}", file=sys.stderr, flush=True)
        self.exitstatus = int(status)

    def warn(self, text: str) -> None:
        """One line of warning on standard error."""
        sys.stdout.flush()
        print(f"warning: {visible(text)}", file=sys.stderr, flush=True)

    def _complete_processes(self, text: str) -> list[str]:
        """Names for completion, those of parked programs with them."""
        found = list(super()._complete_processes(text))
        try:
            parked = self.options.agent.ask({"op": "programs"}, 5.0).get("parked", [])
        except (NoDaemon, CommandFailed, TimeoutError, OSError, GuardRefused):
            parked = []
        return sorted({*found, *(f"{row['name']} " for row in parked if row["name"].startswith(text))})
