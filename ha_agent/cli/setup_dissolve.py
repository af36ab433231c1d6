"""One node's part of dissolving a pair, beyond an undo: a clean node that stops, an address for the one that goes on."""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import subprocess
from collections.abc import Collection, Iterable, Sequence

from ha_agent.adapters.files import write_atomic
from ha_agent.core.host_profile import LOCAL_DIR
from ha_agent.core.main_conf import LOCAL_CONFS, add_includes, included_patterns, parse_main_conf
from ha_agent.core.names import is_loadable_name
from ha_agent.core.reasons import reason_of

IP_S = 10.0
FORMER = ".before-dissolve"
"""Ends the name of supervisord's main conf as the undo has left it."""


def put_registry_aside(registry: str, paths: Iterable[str], spared: Collection[str], aside: str) -> list[str]:
    """Moves confs out of the registry into ``aside``, under their paths; returns these. Raises ``OSError``.

    ``spared``: whole paths that stay, because they were there before the pair was. Cut off and done again it moves the rest.
    """
    moved = []
    for path in paths:
        source = os.path.join(registry, path)
        if source in spared:
            continue
        target = _free_name(os.path.join(aside, path))
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        shutil.move(source, target)
        moved.append(path)
    return moved


def _free_name(path: str) -> str:
    names = (path, *(f"{path}.{number}" for number in range(1, 1000)))
    return next(name for name in names if not os.path.lexists(name))


def find_left_out(registry: str, paths: Iterable[str], patterns: Collection[str]) -> list[str]:
    """The confs of the registry that a main conf with these include patterns does not name: they would not come back."""

    def is_included(path: str) -> bool:
        whole = os.path.join(registry, path)
        # A "*" of glob(3) does not go over a "/".
        return any(fnmatch.fnmatch(whole, one) and whole.count("/") == one.count("/") for one in patterns)

    return [path for path in paths if is_loadable_name(path) and not is_included(path)]


def include_left_out(main: str, left_out: Sequence[str]) -> list[str]:
    """Has the main conf ``main`` include ``left_out``, whole paths; returns what was added. The former one is kept.

    Confs of local programs, which ran on both nodes, are included as before. Raises ``OSError`` and ``UnusableConf``.
    """
    with open(main, encoding="utf-8", errors="surrogateescape") as file:
        text, mode = file.read(), stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    patterns = included_patterns(parse_main_conf(text), main)
    local = os.path.isdir(LOCAL_DIR) and any(name.endswith(".conf") for name in os.listdir(LOCAL_DIR))
    added = [*left_out, *([LOCAL_CONFS] if local and LOCAL_CONFS not in patterns else [])]
    if added:
        write_atomic(main + FORMER, text.encode("utf-8", "surrogateescape"), mode)
        write_atomic(main, add_includes(text, added).encode("utf-8", "surrogateescape"), mode)
    return added


def keep_address(address: str, interface: str) -> str | None:
    """Puts ``address``, with its prefix length, on ``interface``; why that was not possible, or None."""
    words = ["ip", "addr", "replace", address, "dev", interface]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=IP_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason_of(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"status {done.returncode}")
