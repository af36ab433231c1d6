"""Which of supervisord's groups are not the registry's, read from its configuration: what it runs in any role."""

from __future__ import annotations

import configparser
import functools
import glob
import os
import re
import socket
from collections.abc import Collection, Mapping

from ha_agent.core.main_conf import UnusableConf, groups_in, included_patterns, parse_main_conf


class LocalConfs:
    """The main conf and what it includes, without the active set.

    ``config``: of supervisord. ``apart``: the directories whose confs do not count, the active set's and the registry's.
    """

    def __init__(self, config: str, apart: Collection[str]) -> None:
        self._config, self._apart = config, apart
        self._seen: frozenset[str] = frozenset()

    def read_groups(self, environment: Mapping[str, str]) -> frozenset[str]:
        """The groups of local programs and listeners: those defined now, and those that this object has seen before.

        A program may run for a while after its conf was removed. ``environment``: supervisord's, for the patterns.
        """
        self._seen |= self.read_defined(environment)
        return self._seen

    def read_defined(self, environment: Mapping[str, str]) -> frozenset[str]:
        """The names of local programs, listeners and groups that are defined now. What cannot be read defines none."""
        text = _read_text(self._config)
        patterns = _patterns_in(expand_words(text, environment), os.path.abspath(self._config))
        found = groups_in(text)
        apart = _Apart(self._apart)
        for pattern in patterns:
            folder = os.path.dirname(pattern)
            # The active set has a file for each conf of the registry, and at every change it would be listed.
            if not glob.has_magic(folder) and folder in apart:
                continue
            for path in glob.glob(pattern):
                if os.path.dirname(path) not in apart:
                    found |= groups_in(_read_text(path))
        return found


class _Apart:
    """Whether a directory is one of ``directories`` or below one, by the names that the kernel resolves; each asked once."""

    def __init__(self, directories: Collection[str]) -> None:
        self._directories = {os.path.realpath(path) for path in directories}
        self._known: dict[str, bool] = {}

    def __contains__(self, folder: str) -> bool:
        if folder not in self._known:
            real = os.path.realpath(folder)
            self._known[folder] = any(real == other or real.startswith(other + "/") for other in self._directories)
        return self._known[folder]


@functools.lru_cache(maxsize=4)
def _patterns_in(text: str, path: str) -> tuple[str, ...]:
    """As ``included_patterns``, none where ``text`` is no configuration. Parsing takes longer than the rest."""
    try:
        return tuple(included_patterns(parse_main_conf(text), path))
    except (UnusableConf, configparser.Error):
        return ()


def expand_words(text: str, environment: Mapping[str, str]) -> str:
    """A text of a main conf with ``%(ENV_x)s`` and ``%(host_node_name)s`` as supervisord with ``environment`` reads it."""
    words = {f"ENV_{name}": value for name, value in environment.items()} | {"host_node_name": socket.gethostname()}
    return re.sub(r"%\((\w+)\)s", lambda match: words.get(match[1], match[0]), text)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
