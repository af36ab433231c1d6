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
PEER_S = 10.0


class AgentProxy:
    """Stands where supervisorctl has an ``xmlrpclib.ServerProxy``. Calls raise the same errors, and ``GuardRefused``."""

    def __init__(self, run_dir: str, *, at_peer: bool = False) -> None:
        """``at_peer``: supervisord's calls go to the peer's, through this node's agent and the link."""
        self._run_dir, self._is_at_peer = run_dir, at_peer
        self.supervisor = _Namespace(self._call)

    def at_peer(self) -> AgentProxy:
        """The same for the peer's supervisord."""
        return AgentProxy(self._run_dir, at_peer=True)

    def ask_peer(self, message: Message) -> Message:
        """One request to the peer's agent. Raises as ``ask``, and ``SupervisordSilent`` where the peer does not answer."""
        answer = self.ask({"op": "at-peer", "ask": message, "timeout_s": PEER_S}, PEER_S + 2.0)
        if answer["outcome"] != Outcome.ANSWERED:
            raise SupervisordSilent(f"the other node cannot be asked: {answer.get('reason') or 'no link'}")
        return dict(answer["answer"])

    def ask(self, message: Message, timeout_s: float = CALL_S) -> Message:
        """One request to the agent. Raises ``NoDaemon``, ``CommandFailed``, ``TimeoutError`` and ``GuardRefused``."""
        answer = ask_daemon(self._run_dir, message, timeout_s)
        if not _is_log(message):
            answer = dict(visible_data(answer))
        if answer.get("outcome") == Outcome.REFUSED:
            raise GuardRefused(str(answer["reason"]))
        return answer

    def _call(self, method: str, params: tuple[Any, ...]) -> Any:
        message: Message = {"op": "supervisor", "method": method, "params": list(params)}
        answer = self.ask_peer(message) if self._is_at_peer else self.ask(message)
        if answer["outcome"] == Outcome.FAULT:
            raise Fault(int(answer["code"]), str(answer["text"]))
        if answer["outcome"] == Outcome.DOWN:
            raise_down(str(answer["reason"]))
        return answer["result"]


def _is_log(message: Message) -> bool:
    message = message["ask"] if message["op"] == "at-peer" else message
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
