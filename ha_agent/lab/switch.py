"""The lab's switch: a process that holds the network namespace with the bridges, and the lab's end of life.

Nothing of a lab is pinned in the file system of the machine: the bridge and the cables vanish with this process, the nodes
with theirs. With an owner given, the lab is taken down when the owner is gone, however it went.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

from ha_agent.lab import cloud
from ha_agent.lab.network import LabNetwork, list_commands_of_switch
from ha_agent.lab.sandbox import merge_packages


def main() -> int:
    """Command line: ``python -m ha_agent.lab.switch LAB-DIRECTORY [OWNER-PID]``, in fresh network and mount namespaces."""
    directory = sys.argv[1]
    owner = int(sys.argv[2]) if len(sys.argv) > 2 else None
    owner_fd = os.pidfd_open(owner) if owner is not None else None
    merge_packages()
    for words in list_commands_of_switch(LabNetwork.load(directory)):
        subprocess.run(["ip", *words], check=True)
    cloud.start_where_wanted(directory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    sys.stdout.close()
    if owner_fd is None:
        signal.pause()
        return 0
    select.select([owner_fd], [], [])
    from ha_agent.lab.control import Lab

    Lab(directory).down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
