"""Where the agent's files lie below its run directory and its state directory. Names only: its owner says what is in it.

The hook and ``ha-agent-fence`` are shell and repeat what they need; a test compares.
"""

from __future__ import annotations

import posixpath
from typing import NamedTuple

DEFAULT_RUN_DIR, DEFAULT_STATE_DIR = "/run/ha-agent", "/var/lib/ha-agent"

CONTROL_SOCKET = "control.sock"
READ_SOCKET = "read.sock"
"""For those who may look and not change anything."""

STAGING = "staging"
"""Also on the wire: what the peer's rsync may name of the state directory."""


class RunPlaces(NamedTuple):
    """Below ``paths.run_dir``, which is gone at reboot."""

    run_dir: str

    def _at(self, name: str) -> str:
        return posixpath.join(self.run_dir, name)

    @property
    def control_socket(self) -> str:
        """Where operators ask the agent."""
        return self._at(CONTROL_SOCKET)

    @property
    def read_socket(self) -> str:
        """Where those ask who may look and not change anything."""
        return self._at(READ_SOCKET)

    @property
    def peer_socket(self) -> str:
        """Where the forced command of the peer's key hands its session over."""
        return self._at("peer.sock")

    @property
    def keeper_socket(self) -> str:
        """Where the keeper of the deadline is fed."""
        return self._at("keeper.sock")

    @property
    def keeper_state(self) -> str:
        """The keeper's deadline, for one that is started again."""
        return self._at("keeper.state")

    @property
    def votes(self) -> str:
        """What an agent that is started again within this boot must know of the votes."""
        return self._at("votes.json")

    @property
    def lock(self) -> str:
        """What the one agent of this node holds locked."""
        return self._at("agent.lock")

    @property
    def ssh_dir(self) -> str:
        """The directory of the link's control socket."""
        return self._at("ssh")

    @property
    def spool(self) -> str:
        """The directory where keepalived's hook leaves one file a notify."""
        return self._at("notify")

    @property
    def track_file(self) -> str:
        """What tells keepalived that this node must not be MASTER."""
        return self._at("track")

    @property
    def active_set(self) -> str:
        """The directory that supervisord includes."""
        return self._at("active")

    @property
    def active_pattern(self) -> str:
        """``[include] files`` for the active set."""
        return posixpath.join(self.active_set, "*.conf")

    @property
    def role(self) -> str:
        """The role, for an agent that is started again within this boot."""
        return self._at("role.json")

    @property
    def groups(self) -> str:
        """The groups of the registry that supervisord has, one a line."""
        return self._at("groups")

    @property
    def epoch(self) -> str:
        """The number of the takeover, for programs."""
        return self._at("epoch")

    @property
    def partial_groups(self) -> str:
        """Groups that were loaded without all of their programs."""
        return self._at("partial-groups.json")

    @property
    def sessions(self) -> str:
        """Sessions of the supervisords of this boot, by which their descendants are found."""
        return self._at("supervisords")

    @property
    def adopt(self) -> str:
        """Written by setup: what runs here was here before the agent, and runs on until keepalived decides."""
        return self._at("adopt")

    @property
    def life(self) -> str:
        """A word of this boot: what was written before it is another life's."""
        return self._at("life")

    @property
    def hook(self) -> str:
        """Which process the hook under way is."""
        return self._at("hook")

    @property
    def drill(self) -> str:
        """The failover-test under way."""
        return self._at("drill.json")

    @property
    def drill_samples(self) -> str:
        """What was seen of programs and roles during it."""
        return self._at("drill-samples.jsonl")

    @property
    def role_files(self) -> tuple[str, ...]:
        """What an agent of this boot knows of its role. Without these it begins as a standby that runs nothing."""
        return self.role, self.groups, self.partial_groups


class StatePlaces(NamedTuple):
    """Below ``paths.state_dir``, which is kept."""

    state_dir: str

    def _at(self, name: str) -> str:
        return posixpath.join(self.state_dir, name)

    @property
    def state(self) -> str:
        """The epoch and the generation."""
        return self._at("state.json")

    @property
    def agreed(self) -> str:
        """The agreed manifest."""
        return self._at("agreed.json")

    @property
    def reserve(self) -> str:
        """Room for the one write that a takeover cannot do without."""
        return self._at("reserve")

    @property
    def journal(self) -> str:
        """The commit under way."""
        return self._at("journal")

    @property
    def staging(self) -> str:
        """The directory that the peer's rsync writes into."""
        return self._at(STAGING)

    @property
    def outgoing(self) -> str:
        """The directory of what is sent to the peer by rsync."""
        return self._at("outgoing")

    @property
    def kept(self) -> str:
        """The directory of kept copies, a directory a generation."""
        return self._at("kept")

    @property
    def payload(self) -> str:
        """The directory of what is known of the payload, with kept copies of its own (``StatePlaces`` of this directory)."""
        return self._at("payload")

    @property
    def history(self) -> str:
        """The history's newest events."""
        return self._at("history.jsonl")

    @property
    def older_history(self) -> str:
        """The history's events before these."""
        return self._at("history.jsonl.1")

    @property
    def registry_log(self) -> str:
        """What the registry was and when."""
        return self._at("registry.jsonl")

    @property
    def older_registry_log(self) -> str:
        """What it was before that."""
        return self._at("registry.jsonl.1")

    @property
    def alerts(self) -> str:
        """The book of alerts and the notifications that sinks lack."""
        return self._at("alerts.json")

    @property
    def maintenance(self) -> str:
        """The maintenance that is on."""
        return self._at("maintenance.json")

    @property
    def standby_order(self) -> str:
        """The order that this node takes over nothing."""
        return self._at("standby.json")

    @property
    def checks(self) -> str:
        """What was done for health checks."""
        return self._at("checks.json")

    @property
    def vip(self) -> str:
        """The VIP, for ``ha-agent-fence``, which knows no configuration."""
        return self._at("vip")

    @property
    def keepalived_stopped(self) -> str:
        """That keepalived was stopped because it did not give up MASTER, and is to be started again."""
        return self._at("keepalived-stopped")

    @property
    def hold_told(self) -> str:
        """That the history has said what "hold" means."""
        return self._at("hold-told")

    @property
    def reports(self) -> str:
        """The directory of the reports of failover-tests."""
        return self._at("drills")

    @property
    def setup_record(self) -> str:
        """What ``ha-agent setup`` has changed on this node, for its undo."""
        return self._at("setup.json")

    @property
    def undone(self) -> str:
        """The directory where an undo puts confs that setup had brought into the registry."""
        return self._at("undone")
