"""The notify hook: whole or nothing, in keepalived's environment, and in the order of the forks."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from ha_agent.adapters.spool import forget_older, read_pid_max, read_spool
from ha_agent.core.words import VrrpState

HOOK = str(pathlib.Path(__file__).parents[2] / "keepalived" / "ha-agent-notify")


@pytest.fixture
def spool(tmp_path: os.PathLike[str]) -> str:
    return os.path.join(tmp_path, "run", "notify")


def call(spool: str, state: str, kind: str = "INSTANCE") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [HOOK, kind, "VI 1", state, "100"],
        env={"HA_AGENT_SPOOL": spool},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        umask=0o177,
        cwd="/",
    )


def test_an_event_is_there_under_keepalives_umask_and_without_the_directory(spool: str) -> None:
    """Hazards 8 and 38: umask 0177, /dev/null, no daemon, not even a spool.

    Fault: the hook runs as keepalived runs it, and there is no agent.
    Answer: the event is a file in the spool, which the hook makes if it must.
    Bound: about 1 ms.
    """
    assert call(spool, "MASTER").wait() == 0
    events = read_spool(spool, read_pid_max())
    assert [e.state for e in events] == [VrrpState.MASTER]
    with open(os.path.join(spool, events[0].name), encoding="ascii") as file:
        assert file.read() == "INSTANCE VI 1 MASTER 100\n"
    assert os.stat(spool).st_mode & 0o777 == 0o755


def test_the_last_of_many_hooks_that_run_at_once_is_the_state(spool: str) -> None:
    """Hazards 2 and 3: hooks run concurrently, finish in any order, and may be killed.

    Fault: sixty hooks run at once.
    Answer: one file an event, named by the start of its hook: the order of the starts counts, and half an event cannot
    be.
    Bound: none needed.
    """
    os.makedirs(spool)
    states = ["BACKUP", "MASTER", "FAULT"] * 20 + ["BACKUP"]
    running = [call(spool, state) for state in states]
    assert [process.wait() for process in running] == [0] * len(states)
    events = read_spool(spool, read_pid_max())
    assert [e.state.value for e in events] == states
    forget_older(spool, events)
    assert [e.state.value for e in read_spool(spool, read_pid_max())] == ["BACKUP"]


def test_group_events_and_unknown_states_are_left_out(spool: str) -> None:
    """Hazard 12: GROUP events come with priority 0.

    Fault: the hook is called for a group, or with a state that it does not know.
    Answer: it leaves nothing.
    Bound: none needed.
    """
    for state, kind in (("MASTER", "GROUP"), ("MASTER_RX_LOWER_PRI", "INSTANCE"), ("", "INSTANCE")):
        assert call(spool, state, kind).wait() == 0
    assert read_spool(spool, read_pid_max()) == []
