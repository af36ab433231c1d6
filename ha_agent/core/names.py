"""Which names belong to the registry, and which relative paths are acceptable from a peer."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

SUFFIXES = (".conf", ".ini")
PARKED = ".parked"
MAX_PATH_BYTES = 1024
LONGEST_ACTIVE_NAME = 200
"""Bytes of a file name in the active set: well below the 255 that file systems take."""

_PLAIN = " ,=+@"
_CUT_AT = LONGEST_ACTIVE_NAME - len("%-") - 64 - len(".conf")


def is_loadable_name(path: str) -> bool:
    """Whether supervisord may be given this registry path (a conf that is not parked)."""
    return path.endswith(SUFFIXES)


def is_parked_name(path: str) -> bool:
    """Whether this registry path is a parked conf: replicated, never loaded."""
    return path.endswith(tuple(suffix + PARKED for suffix in SUFFIXES))


def path_problem(path: str) -> str | None:
    """Why ``path`` cannot be a path of the registry, or None where it can.

    Accepted is a plain relative path whose components are neither empty nor hidden and whose last one ends
    in ``.conf``, ``.ini`` or one of these followed by ``.parked``. Hidden names are what editors and this agent
    use for files in the making, and supervisord's own glob does not match them either.
    """
    if not path or "\0" in path:
        return "empty, or with a NUL byte"
    try:
        size = len(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "no text"
    if size > MAX_PATH_BYTES:
        return f"longer than {MAX_PATH_BYTES} bytes"
    if path.startswith("/"):
        return "absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "not a plain relative path"
        if part.startswith("."):
            return "hidden"
        if len(part.encode("utf-8", "surrogateescape")) > 255:
            return "a component is longer than 255 bytes"
    if not (is_loadable_name(path) or is_parked_name(path)):
        return "not a *.conf or *.ini (or one of these with .parked)"
    return None


def is_registry_path(path: str) -> bool:
    """Whether ``path`` (relative to the registry) is one that is replicated."""
    return path_problem(path) is None


def active_name(path: str) -> str:
    """The flat file name in the active set for a registry path; different paths have different names.

    supervisord's ``[include]`` does not descend into sub-directories and takes ``*.conf`` only, so slashes and unusual bytes
    are percent-encoded, and what ends in ``.ini`` gets ``%2Eini.conf``, which no other path has (percent-encoding leaves
    dots alone). A name that would be longer than ``LONGEST_ACTIVE_NAME`` bytes is cut, with the path's digest at its end.
    """
    raw = path.encode("utf-8", "surrogateescape")
    name = quote(raw, safe=_PLAIN)
    if not path.endswith(".conf"):
        stem, dot, suffix = name.rpartition(".")
        name = f"{stem}{'%2E' if dot else ''}{suffix}.conf"
    if len(name) <= LONGEST_ACTIVE_NAME:
        return name
    # "%-" begins no escape, so no shorter path has such a name.
    return f"{name[:_CUT_AT]}%-{hashlib.sha256(raw).hexdigest()}.conf"


def former_active_name(path: str) -> str:
    """The name that agents of version 0.1 gave the same path in the active set: unbounded, and not always its own."""
    name = quote(path.encode("utf-8", "surrogateescape"), safe=_PLAIN)
    return name if path.endswith(".conf") else name + ".conf"
