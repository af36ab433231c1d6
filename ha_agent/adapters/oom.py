"""Which process the kernel ends first when the machine has no memory left.

The agent's unit says OOMScoreAdjust=-900: it must live to see to the programs. What it starts inherits that, and shall not.
"""

from __future__ import annotations

import contextlib


def make_ordinary(pid: int) -> None:
    """Gives the child process ``pid`` the score of any other process (proc(5), oom_score_adj).

    What it started before that keeps the agent's. Nothing is said where the process has ended, or where it may not be done.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("0")
