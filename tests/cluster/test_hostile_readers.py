"""Somebody who may only look asks a node for as much as he can, as long as he can: nobody else notices it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from ha_agent.core.budgets import READER
from tests.hostile_reader import HISTORY, fill_history, reading
from tests.lab_support import Pair, sleepers, stays, wait_for

THREE = {"p0", "p1", "p2"}
UNDISTURBED_S = 15.0
"""What a release with its takeover, or one command, may take beside a reader on a machine that has other labs to run."""

READER_MIB = 32
"""By how much one reader may have an agent grow, whatever he asks for."""


def up(pair: Pair) -> None:
    """A settled pair whose histories are full."""
    pair.up(sleepers(3))
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)
    pair.await_in_sync("node-a")
    for node in ("node-a", "node-b"):
        fill_history(pair.lab.paths.disk(node, "state"), node)


@contextlib.contextmanager
def bob(pair: Pair, node: str, message: dict[str, Any], *options: str) -> Iterator[dict[str, int]]:
    """bob, of group ha-agent-read, at ``node``."""
    with reading(pair.words_as(node, "bob"), message, *options) as found:
        yield found


def rss_mib(pair: Pair, node: str, what: str = "VmRSS") -> float:
    """Memory of the agent."""
    text = pair.shell(node, f"grep {what} /proc/{pair.agent_pid(node)}/status")
    return int(text.split()[1]) / 1024


def test_a_reader_holds_up_no_release_and_no_takeover(pair: Pair) -> None:
    """The rule of `reader-runs-both`: what is read is worked on apart from what decides.

    Fault: a reader asks both nodes for 10,000 events of a full history (8 MiB) over and over, on 4 connections; then
    keepalived is stopped on the active node.
    Answer: the release and the takeover go on as without him; no program is on both nodes.
    Bound: 15 s for both under test; `make bench BENCH=hostile` has the times with and without him.
    """
    up(pair)
    with bob(pair, "node-a", HISTORY) as at_a, bob(pair, "node-b", HISTORY) as at_b:
        # As many as he may have at once are answered and paid for: from now on he gets what he gets in the long run.
        time.sleep(5.0)
        began = time.monotonic()
        pair.lab.unit("node-a", "stop", "keepalived")
        pair.await_runs("node-b", THREE, UNDISTURBED_S)
        pair.await_role("node-a", "standby", UNDISTURBED_S)
        pair.await_role("node-b", "active", UNDISTURBED_S)
        assert time.monotonic() - began < UNDISTURBED_S
        assert pair.runs("node-a") == set()
    assert at_a["answers"] > 0 and at_b["answers"] > 0, "he was served all the time"
    (released,) = [e for e in pair.history("node-a") if e.get("to") == "standby" and e["at"] > 1.0][-1:]
    assert released["from"] == "releasing"
    assert not pair.history("node-b", "interlock-timeout")


def test_a_reader_at_the_standby_holds_up_no_acknowledgement(pair: Pair) -> None:
    """The rule of `reader-blocks-replication`: a look takes no lock that a commit needs.

    Fault: a reader asks the standby for its kept copies, 2,000 times on each of 4 connections; root stops and starts a
    program on the active node meanwhile.
    Answer: each command is acknowledged by both nodes.
    Bound: none beyond that of the command itself.
    """
    up(pair)
    with bob(pair, "node-b", {"op": "kept-list"}, "--requests", "2000") as found:
        for verb in ("stop", "start") * 3:
            done = pair.sup("node-a", verb, "p0", user="root")
            assert done.returncode == 0, f"{verb}: {done.returncode}: {done.stdout}{done.stderr}"
    assert 0 < found["answers"] < 8000, "he was served, and had more to ask"


def test_a_readers_frames_keep_no_agent_from_its_work(pair: Pair) -> None:
    """The rule of `reader-kills-agent`: a frame is refused for its length before it is read.

    Fault: a reader sends frames of 16 MiB of JSON lists on 8 connections, and then such of the length that he may send.
    Answer: what is longer is refused and its connection closed; the agent is the same afterwards, and answers all the time.
    Bound: an answer within 5 s (the watchdog of its unit ends an agent that hangs for 10 s).
    """
    up(pair)
    before = pair.agent_pid("node-a")

    def answers() -> bool:
        began = time.monotonic()
        return bool(pair.lab.status("node-a")) and time.monotonic() - began < 5.0

    for size, is_refused in ((16 << 20) - 100, True), (READER.frame_bytes - 100, False):
        words = ("--connections", "8", "--frame-bytes", str(size))
        with bob(pair, "node-a", {"op": "whoami"}, *words) as found:
            stays("the agent answers", answers, 15.0)
        assert (found["closed"] > 20, found["answers"] == 0) == (is_refused, is_refused), found
    assert pair.agent_pid("node-a") == before and pair.is_running("node-a", THREE)


def test_a_reader_who_reads_no_answer_fills_no_memory(pair: Pair) -> None:
    """The rule of `reader-memory`: who has not read his answers is not asked for his next question.

    Fault: a reader sends 1,000 requests for 10,000 events on each of 8 connections, and reads nothing.
    Answer: a few are answered, the others wait in his own sockets; the agent serves everybody else.
    Bound: 32 MiB more than before.
    """
    up(pair)
    for _ in range(3):
        assert pair.ha("node-a", "status").returncode == 0
    before = rss_mib(pair, "node-a")
    with bob(pair, "node-a", HISTORY, "--connections", "8", "--requests", "1000", "--unread"):
        seen = [before]

        def is_small() -> bool:
            seen.append(rss_mib(pair, "node-a"))
            return seen[-1] - before < READER_MIB

        stays(f"{before:.0f} MiB before, {READER_MIB} more at most", is_small, 30.0)
        assert pair.sup("node-a", "restart", "p0", user="root").returncode == 0
    print(f"{before:.0f} MiB before, at most {max(seen):.0f} while he asked")


def test_a_reader_fills_no_log(pair: Pair) -> None:
    """The rule of `reader-fills-log`: what somebody else can have written is counted, not repeated.

    Fault: a reader sends requests that are none, and frames that are too long, for 5 s each.
    Answer: both are answered or refused; the agent's log tells of them in a few lines.
    Bound: 16 KiB more.
    """
    up(pair)
    log = pair.lab.paths.log("node-a", "ha-agent")
    before = os.path.getsize(log)
    for message, more in (({"op": "x" * 20}, ()), ({"op": "history", "count": []}, ()), ({}, ("--frame-bytes", "100000"))):
        with bob(pair, "node-a", message, *more) as found:
            time.sleep(5.0)
        assert found["answers"] + found["closed"] > 20, found
    assert os.path.getsize(log) - before < 16 * 1024
    assert pair.is_running("node-a", THREE)


def test_a_reader_with_as_many_connections_as_he_likes_cuts_nobody_off(pair: Pair) -> None:
    """The rule of `reader-evicts-operators`: whoever has too many connections loses his own.

    Fault: a reader opens connections as quickly as he can, and a new one for each that is closed, up to 200 at once; root
    restarts a program three times.
    Answer: the restarts come to their ends.
    Bound: 15 s each under test.
    """
    up(pair)
    words = ("--connections", "200", "--pause-s", "0")
    with bob(pair, "node-a", {"op": "whoami"}, *words) as found:
        for _ in range(3):
            began = time.monotonic()
            done = pair.sup("node-a", "restart", "p0", user="root")
            assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
            assert time.monotonic() - began < UNDISTURBED_S
        wait_for("the program", lambda: pair.is_running("node-a", THREE))
    assert found["closed"] > 64, found
