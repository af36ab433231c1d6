"""supervisord's main conf: read as supervisord reads it, and changed in the one place that the pair needs. Pure."""

from __future__ import annotations

import configparser
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ha_agent.core.host_profile import LOCAL_DIR
from ha_agent.core.ini_texts import ini_problem

LOCAL_CONFS = f"{LOCAL_DIR}/*.conf"


class UnusableConf(ValueError):
    """A file that cannot be changed or read safely; the text says why."""


def parse_main_conf(text: str) -> configparser.RawConfigParser:
    """The main conf's sections, with the comments and repetitions that supervisord allows. Raises ``UnusableConf``."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise UnusableConf(f"it is not a configuration of supervisord: {ini_problem(error)}") from None
    return parser


@dataclass(frozen=True, slots=True)
class Door:
    """How supervisord can be asked, as its main conf says; what it does not say is empty.

    ``socket`` is of ``[unix_http_server]``, with the user name and the password that it asks for; ``port`` of
    ``[inet_http_server]``. ``has_hash``: the password is kept as a digest alone, so nobody can send it.
    """

    socket: str = ""
    username: str = ""
    password: str = ""
    port: str = ""
    has_hash: bool = False


def read_door(conf: configparser.RawConfigParser, path: str) -> Door:
    """The door of the supervisord with the main conf ``conf``, which lies at ``path`` (absolute).

    ``%(here)s`` and ``%%`` are resolved, other expansions are left as they stand. A password may be written ``{SHA}``
    and the digest (supervisor's documentation, [unix_http_server]).
    """
    here = posixpath.dirname(path)

    def value(section: str, name: str) -> str:
        return (conf.get(section, name, fallback="") or "").replace("%(here)s", here).replace("%%", "%").strip()

    socket = value("unix_http_server", "file")
    password = value("unix_http_server", "password")
    return Door(
        posixpath.normpath(posixpath.join(here, socket)) if socket else "",
        value("unix_http_server", "username"),
        password,
        value("inet_http_server", "port"),
        password.startswith("{SHA}"),
    )


def included_patterns(conf: configparser.RawConfigParser, path: str) -> list[str]:
    """The patterns of ``[include] files``, absolute as supervisord resolves them. ``path``: of the main conf, absolute."""
    here = posixpath.dirname(path)
    words = (conf.get("include", "files", fallback="") or "").replace("%(here)s", here).split()
    return [posixpath.normpath(posixpath.join(here, word)) for word in words]


_GROUP = re.compile(r"^\[(?:program|fcgi-program|eventlistener|group):([^\]]+)\]", re.MULTILINE)


def groups_in(text: str) -> frozenset[str]:
    """What the sections of a conf may become groups of."""
    return frozenset(name.strip() for name in _GROUP.findall(text))


def has_own_programs(text: str) -> bool:
    """Whether the main conf itself defines programs: those run on this node whatever its role is."""
    return re.search(r"^\[(program|fcgi-program|group):", text, re.MULTILINE) is not None


def replace_include(text: str, active: str) -> str:
    """supervisord's main conf with an ``[include]`` of the active set and of the local programs, and of nothing else.

    Raises ``UnusableConf`` where the file has more than one such section.
    """
    return _set_include(text, f"{active} {LOCAL_CONFS}")


def add_includes(text: str, files: Sequence[str]) -> str:
    """supervisord's main conf that includes ``files`` besides what it does. Raises ``UnusableConf``."""
    present = (parse_main_conf(text).get("include", "files", fallback="") or "").split()
    return _set_include(text, " ".join([*present, *files])) if files else text


def _set_include(text: str, files: str) -> str:
    wanted = f"files = {files}\n"
    text = text if text.endswith("\n") else f"{text}\n"
    sections = [m.start() for m in re.finditer(r"^\[include\]", text, re.MULTILINE)]
    if len(sections) > 1:
        raise UnusableConf("it has more than one [include]")
    if not sections:
        return text.rstrip("\n") + f"\n\n[include]\n{wanted}"
    begin = text.index("\n", sections[0]) + 1
    rest = text[begin:]
    following = re.search(r"^\[", rest, re.MULTILINE)
    end = begin + (following.start() if following else len(rest))
    kept, skipping = [], False
    for line in text[begin:end].splitlines(keepends=True):
        skipping = bool(re.match(r"files\s*[=:]", line)) or (skipping and line[:1] in (" ", "\t"))
        if not skipping:
            kept.append(line)
    return text[:begin] + wanted + "".join(kept) + text[end:]
