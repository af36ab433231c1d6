"""Which of supervisord's groups are not a registry's: local programs and listeners, by supervisord's configuration.

What else there is belongs to a registry, whatever notes say: notes can be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.core.listener_conf import GROUP as LISTENER
from ha_agent.daemon.programs.loaded_groups import LoadedGroups


class LocalGroups:
    """For all registries of this node. ``environment``: supervisord's, which its configuration may refer to."""

    def __init__(self, confs: LocalConfs, environment: Callable[[], Mapping[str, str]]) -> None:
        self._confs, self._environment = confs, environment
        self._registries: list[LoadedGroups] = []

    def join(self, loaded: LoadedGroups) -> None:
        """Has the groups of one registry be foreign to the others."""
        self._registries.append(loaded)

    def defined(self) -> frozenset[str]:
        """What nothing in a registry may be called: names defined outside it now, and the listener's. Reads a few files."""
        return self._confs.read_defined(self._environment()) | {LISTENER}

    def apart_from(self, loaded: LoadedGroups) -> frozenset[str]:
        """The groups that are not those of the registry ``loaded``. Reads a few files."""
        others = frozenset[str]().union(*(other.names for other in self._registries if other is not loaded))
        return (self._confs.read_groups(self._environment()) | others) - loaded.names
