"""Which of supervisord's calls pass through the agent."""

from __future__ import annotations

import inspect
from typing import Any

from supervisor.rpcinterface import SupervisorNamespaceRPCInterface

from ha_agent.core.guard import LOADING, LOCAL_ONLY, OPERATING, READING, Access, refusal_of


def refusal(
    method: str,
    *params: object,
    access: Access = Access.OPERATE,
    registry: bool = True,
    active: bool = True,
    root: bool = False,
    listener: bool = False,
    own: bool = True,
) -> str | None:
    return refusal_of(
        method,
        params,
        access,
        is_root=root,
        is_registry=registry,
        is_active=active,
        is_listener=listener,
        is_own=own,
    )


def passes(method: str, *params: object, **circumstances: Any) -> bool:
    return refusal(method, *params, **circumstances) is None


def test_every_call_of_supervisord_is_decided_on_and_what_ends_everything_is_refused() -> None:
    known = {n for n, _ in inspect.getmembers(SupervisorNamespaceRPCInterface, inspect.isfunction) if not n.startswith("_")}
    refused = known - READING - OPERATING - LOCAL_ONLY - LOADING
    assert refused == {
        "shutdown",
        "restart",
        "startAllProcesses",
        "stopAllProcesses",
        "clearLog",
        "sendRemoteCommEvent",
    }
    for method in (*refused, "system.multicall", "__class__", "", "nonesuch"):
        assert not passes(method)
    text = refusal("shutdown", registry=False)
    assert text is not None and "supzcli stop" in text and "switchover" in text


def test_programs_of_the_registry_are_started_and_stopped_by_the_pair_alone() -> None:
    for method in LOCAL_ONLY:
        assert not passes(method, "x") and passes(method, "x", registry=False)
        assert passes(method, "x", registry=False, active=False)
    assert passes("addProcessGroup", "x") and not passes("addProcessGroup", "x", active=False)


def test_those_who_may_look_change_nothing() -> None:
    for method in OPERATING | LOCAL_ONLY | LOADING:
        assert not passes(method, "x", access=Access.READ, registry=False)
    for method in READING:
        assert passes(method, "x", access=Access.READ)


def test_the_alert_listener_is_roots_because_its_word_counts_as_supervisords() -> None:
    for method in OPERATING | LOCAL_ONLY | LOADING:
        assert not passes(method, "ha-agent-listener", registry=False, listener=True)
        assert passes(method, "ha-agent-listener", registry=False, listener=True, root=True)
    assert not passes("signalAllProcesses", "STOP") and passes("signalAllProcesses", "USR1", root=True)


def test_what_a_program_reads_is_written_by_root_and_by_its_own_user() -> None:
    assert not passes("sendProcessStdin", "x", "text", own=False)
    assert passes("sendProcessStdin", "x", "text") and passes("sendProcessStdin", "x", "text", own=False, root=True)


def test_nobody_reads_a_whole_log_into_memory() -> None:
    assert passes("readProcessStdoutLog", "x", -1600, 0) and passes("readLog", -1600, 0)
    assert passes("readProcessStdoutLog", "x", 10**9, 4096) and passes("tailProcessStdoutLog", "x", 10**9, 4096)
    for params in (("x", -(10**8), 0), ("x", 0, 0), ("x", 5, 10**8)):
        assert not passes("readProcessStdoutLog", *params)
    assert not passes("tailProcessStdoutLog", "x", 0, 10**8)
