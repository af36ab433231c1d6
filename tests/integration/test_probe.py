"""The judge of all cluster tests is judged: it sees a program on two nodes and a second copy, and nothing else."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ha_agent.lab.probe import Probe
from tests.lab_support import wait_for


@contextmanager
def node(commands: str) -> Iterator[int]:
    """A process namespace that stands for a node and runs ``commands``; gives the id of its process 1 on this machine."""
    words = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c", f"{commands}\nwait"]
    with subprocess.Popen(words) as process:
        try:
            path = f"/proc/{process.pid}/task/{process.pid}/children"
            yield int(wait_for("process 1", lambda: pathlib.Path(path).read_text(encoding="ascii").split())[0])
        finally:
            # unshare ignores SIGTERM while it waits for its child.
            process.kill()


PAUSED = "sleep 98.7654321"
"""A command line that no other test has."""


def program(name: str, what: str = "sleep 100") -> str:
    """A shell command that starts ``what`` with supervisord's marks."""
    return f"SUPERVISOR_PROCESS_NAME={name} {what} &"


@contextmanager
def watched(**nodes: str) -> Iterator[Probe]:
    """A probe on nodes that run these commands."""
    probe = Probe()
    with ExitStack() as stack:
        for name, commands in nodes.items():
            probe.watch_node(name, stack.enter_context(node(commands)))
        probe.start()
        try:
            yield probe
        finally:
            probe.stop()


def test_a_program_without_marks_is_seen_by_the_tag_that_it_gives_itself() -> None:
    escaped = "env -i setsid -f bash -c 'exec -a probe:escaped sleep 100'\nsleep 100 &"
    with watched(a=escaped, b=escaped) as probe:
        wait_for("it", lambda: probe.running == {"a": {"escaped"}, "b": {"escaped"}})
        wait_for("the overlap", lambda: [s for s in probe.stretches() if s[0] == "escaped"])
    assert {o.program for o in probe.overlaps} == {"escaped"}


def test_the_number_of_a_node_that_has_ended_is_given_to_no_other_namespace_while_it_is_watched() -> None:
    """The kernel gives the lowest free number to the next one: another lab's programs would be taken for the node's."""

    def number_of(pid: int) -> int:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino

    probe = Probe()
    with node("sleep 100 &") as pid:
        number = number_of(pid)
        probe.watch_node("a", pid)
    others = set()
    with ExitStack() as stack:
        # It takes the kernel a second or two to have the number free.
        for _ in range(20):
            others.add(number_of(stack.enter_context(node("sleep 100 &"))))
            time.sleep(0.15)
    assert number not in others
    probe.start()
    probe.stop()


def test_a_program_on_both_nodes_is_an_overlap() -> None:
    with watched(a=program("p") + program("q"), b=program("p")) as probe:
        wait_for("both", lambda: "p" in probe.running.get("a", ()) and "p" in probe.running.get("b", ()))
        time.sleep(0.2)
    assert {o.program for o in probe.overlaps} == {"p"}
    assert probe.overlaps[0].took_s > 0.1
    assert not probe.doubles


def test_two_copies_on_one_node_are_seen_and_the_children_of_one_are_none() -> None:
    with watched(a=program("p") * 2, b=program("q", "sh -c 'sleep 100 & sleep 100'")) as probe:
        wait_for("the copies", lambda: probe.doubles)
        time.sleep(0.2)
    assert set(probe.doubles) == {("p", "a")}


def test_a_process_that_is_stopped_does_not_run() -> None:
    with watched(a=program("p", PAUSED)) as probe:
        wait_for("it runs", lambda: "p" in probe.running.get("a", ()))
        pid = int(subprocess.run(["pgrep", "-fx", PAUSED], capture_output=True, text=True, check=True).stdout)
        os.kill(pid, signal.SIGSTOP)
        wait_for("it does not", lambda: "p" not in probe.running["a"], 2)
        os.kill(pid, signal.SIGCONT)
        wait_for("it does again", lambda: "p" in probe.running["a"], 2)


def test_what_carries_no_mark_is_nobodys_program() -> None:
    with watched(a="sleep 100 &") as probe:
        time.sleep(0.3)
    assert probe.running == {"a": frozenset()} and not probe.stretches()
