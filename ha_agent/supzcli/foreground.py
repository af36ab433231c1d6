"""``fg``: a program's output on the terminal, and the terminal's input to the program, through the agent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from xmlrpc.client import Fault

from supervisor.states import ProcessStates
from supervisor.xmlrpc import Faults

PAUSE_S = 0.2

Reader = Callable[[int | None], tuple[str, int]]


def run_foreground(
    supervisor: Any, name: str, readers: Sequence[Reader], say: Callable[[str], None], write: Callable[[str], None]
) -> bool:
    """Connects the terminal with ``name`` until Ctrl-C, the end of the input, or the program's end.

    ``readers`` follow its logs. Says whether it could be connected at all.
    """
    try:
        info = supervisor.getProcessInfo(name)
    except Fault as error:
        say("ERROR: bad process name supplied" if error.faultCode == Faults.BAD_NAME else f"ERROR: {error.faultString}")
        return False
    if info["state"] != ProcessStates.RUNNING:
        say("ERROR: process not running")
        return False
    say("==> Press Ctrl-C to exit <==")
    ended = threading.Event()
    for read_on in readers:
        threading.Thread(target=_copy, args=(read_on, write, ended), daemon=True).start()
    try:
        while True:
            supervisor.sendProcessStdin(name, input() + "\n")
            if supervisor.getProcessInfo(name)["state"] != ProcessStates.RUNNING:
                say("Process got killed")
                break
    except (KeyboardInterrupt, EOFError):
        pass
    except Fault as error:
        say("Process got killed" if error.faultCode == Faults.NOT_RUNNING else f"ERROR: {error.faultString}")
    finally:
        # What came last is shown before the threads end: supervisord writes it into the log first.
        ended.wait(2.5 * PAUSE_S)
        ended.set()
    say("Exiting foreground")
    return True


def _copy(read_on: Reader, write: Callable[[str], None], ended: threading.Event) -> None:
    offset: int | None = None
    while not ended.wait(0 if offset is None else PAUSE_S):
        try:
            text, offset = read_on(offset)
        except (Fault, OSError):
            # No such log (stderr may go into stdout), or no agent: the other one, and the input, say more.
            return
        if text:
            write(text)
