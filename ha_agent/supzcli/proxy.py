"""supervisord's XML-RPC interface as supervisorctl's classes use it, through the agent.

The agent looks at each call (``core/guard.py``); a user of its socket needs no access to supervisord's own. What it answers
was written by others and is made visible (``core/visible``); logs alone are shown as they are, as tail does.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any
from xmlrpc.client import Fault

from ha_agent.adapters.control import ask_daemon
from ha_agent.core.frames import Message
from ha_agent.core.visible import visible_data
from ha_agent.core.words import Outcome
from ha_agent.supzcli.errors import GuardRefused, SupervisordSilent

CALL_S = 30.0


class AgentProxy:
    """Stands where supervisorctl has an ``xmlrpclib.ServerProxy``. Calls raise the same errors, and ``GuardRefused``."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self.supervisor = _Namespace(self._call)

    def ask(self, message: Message, timeout_s: float = CALL_S) -> Message:
        """One request to the agent. Raises ``NoDaemon``, ``CommandFailed``, ``TimeoutError`` and ``GuardRefused``."""
        answer = ask_daemon(self._run_dir, message, timeout_s)
        if not _is_log(message):
            answer = dict(visible_data(answer))
        if answer.get("outcome") == Outcome.REFUSED:
            raise GuardRefused(str(answer["reason"]))
        return answer

    def _call(self, method: str, params: tuple[Any, ...]) -> Any:
        answer = self.ask({"op": "supervisor", "method": method, "params": list(params)})
        if answer["outcome"] == Outcome.FAULT:
            raise Fault(int(answer["code"]), str(answer["text"]))
        if answer["outcome"] == Outcome.DOWN:
            raise_down(str(answer["reason"]))
        return answer["result"]


def _is_log(message: Message) -> bool:
    return message["op"] == "supervisor" and "Log" in str(message["method"])


def raise_down(reason: str) -> None:
    """Raises what supervisorctl knows for a supervisord that is not there, or ``SupervisordSilent``."""
    for code, text in ((errno.ENOENT, "No such file"), (errno.ECONNREFUSED, "refused")):
        if text in reason:
            raise OSError(code, reason)
    raise SupervisordSilent(f"supervisord does not answer ({reason})")


class _Namespace:
    def __init__(self, call: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *params: self._call(method, params)
