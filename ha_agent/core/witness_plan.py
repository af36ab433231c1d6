"""What ``ha-agent witness install`` makes of the files of a witness host. Pure: texts in, texts out, all shown first.

The host needs sshd and Python 3.7 alone: what answers there is one file, and no package is installed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ha_agent.core.setup_plan import FileChange, is_public_key

OLDEST_PYTHON = (3, 7)
"""What the one file runs on."""

FOLDER = "/usr/local/lib/ha-agent-witness"
PROGRAM = f"{FOLDER}/witness_entry.py"
"""Where the one file lies there. A package's own files are never there."""

RECORDS = "/var/lib/ha-agent-witness"
"""Where records lie, and the home of the user that is made."""


@dataclass(frozen=True, slots=True)
class HostFiles:
    """What a witness host has now. ``authorized``: the file that sshd asks for the user's keys; texts are None where there
    is none. ``python``: the interpreter's path there."""

    python: str
    authorized_path: str
    authorized: str | None
    program: str | None


class NotOurs(ValueError):
    """The record belongs to other keys than this pair's; the text says so."""


def command_of(python: str, record: str) -> str:
    """The forced command of a record's keys. Python without site packages and without a user's environment."""
    return f"{python} -I -S {PROGRAM} --record {record}"


def _end_of(record: str) -> str:
    """By what a line of this record is known, whatever program it names: that is the last thing of its command."""
    return f' --record {record}" '


def keys_of(text: str, record: str) -> list[str]:
    """The keys that may reach ``record``, each as "TYPE KEY COMMENT"."""
    end = _end_of(record)
    return [row.split(end, 1)[1].strip() for row in text.splitlines() if end in row]


def _bare(key: str) -> str:
    return " ".join(key.split()[:2])


def find_foreign(text: str | None, record: str, keys: Collection[str]) -> list[str]:
    """The keys that may reach ``record`` and are none of ``keys``."""
    own = {_bare(key) for key in keys}
    return [key for key in keys_of(text or "", record) if _bare(key) not in own]


def let_in(text: str | None, command: str, record: str, keys: Sequence[str], others: Collection[str] = ()) -> str:
    """``authorized_keys`` with ``keys`` under ``command``, in place of the record's lines, of which those with one of
    ``others`` stay as they are. The other lines stay, too.

    Raises ``ValueError`` for what is no public key: it becomes a line of a file that says who is let in.
    """
    wrong = next((key for key in keys if not is_public_key(key)), None)
    if wrong is not None:
        raise ValueError(f"this is not a public key: {wrong[:60]!r}")
    end, kept = _end_of(record), {_bare(key) for key in others}
    rows = [row for row in (text or "").splitlines() if end not in row or _bare(row.split(end, 1)[1]) in kept]
    made = [f'restrict,command="{command}" {key.strip()}' for key in keys if _bare(key) not in kept]
    return "".join(f"{row}\n" for row in [*rows, *made])


def shut_out(text: str | None, record: str) -> str:
    """``authorized_keys`` without the record's lines."""
    end = _end_of(record)
    return "".join(row for row in (text or "").splitlines(keepends=True) if end not in row)


def has_others(text: str) -> bool:
    """Whether a line of another pair names the program."""
    return any(PROGRAM in row for row in text.splitlines())


def plan_host(
    files: HostFiles, program: str, record: str, keys: Sequence[str], *, stays: Collection[str] = (), replace: bool = False
) -> list[FileChange]:
    """The files that the host needs for ``keys``, changed or not. ``stays``: the pair's keys that are let in as they are.

    Raises ``NotOurs`` where other keys reach the record and are not to be replaced: two pairs with one record would take
    each other's votes. Raises ``ValueError`` for what is no key.
    """
    foreign = find_foreign(files.authorized, record, [*keys, *stays])
    if foreign and not replace:
        named = ", ".join(" ".join(key.split()[2:]) or _bare(key)[-12:] for key in foreign)
        raise NotOurs(
            f"other keys reach the record {record} there ({named}): another pair with the same names of nodes needs "
            "witness.record set on both of its nodes; where they are former keys of this pair: --replace"
        )
    text = let_in(files.authorized, command_of(files.python, record), record, keys, stays)
    return [
        FileChange(PROGRAM, files.program, program, 0o644),
        FileChange(files.authorized_path, files.authorized, text, 0o644),
    ]


def plan_host_removal(files: HostFiles, record: str) -> list[FileChange]:
    """The way back: the record's lines go, and the program with the last line that names it."""
    text = shut_out(files.authorized, record)
    changes = []
    if files.authorized is not None:
        changes.append(FileChange(files.authorized_path, files.authorized, text or None, 0o644))
    if files.program is not None and not has_others(text):
        changes.append(FileChange(PROGRAM, files.program, None, 0o644))
    return changes
