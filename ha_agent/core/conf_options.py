"""The options that supervisord knows in a program and in a group, and the form of their values. Pure.

Names and forms are supervisor's (supervisord.org/configuration.html; ``supervisor/datatypes.py`` of 4.2 and 4.3): a value
is wrong here where supervisord would refuse it, and nowhere else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from ha_agent.core.conf_text import Option, Section

TRUE = frozenset({"yes", "true", "on", "1"})
FALSE = frozenset({"no", "false", "off", "0"})

# fmt: off
_SIGNALS = frozenset({
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS", "RTMIN", "RTMAX",
})
# fmt: on
_SIGNAL_NUMBERS = frozenset({*range(32), 34, 64})
"""Of Linux (signal(7)), as Python's module ``signal`` has them for supervisor; 0 is one for supervisor."""

_UNITS = ("kb", "mb", "gb")


def as_number(text: str, base: int = 10) -> int | None:
    """The number that supervisord reads in a text, with a sign and blanks around it; None where there is none."""
    try:
        return int(text, base)
    except ValueError:
        return None


def as_size(text: str) -> int | None:
    """The number before the unit of a size such as 50MB, None where there is none."""
    lower = text.lower()
    return as_number(lower[:-2] if lower.endswith(_UNITS) else lower)


def is_signal(text: str) -> bool:
    """Whether supervisord would take it for a signal of this machine."""
    number = as_number(text)
    if number is not None:
        return number in _SIGNAL_NUMBERS
    return text.strip().upper().removeprefix("SIG") in _SIGNALS


def _is_bool(text: str) -> bool:
    return text.lower() in TRUE | FALSE


def _are_exit_codes(text: str) -> bool:
    codes = [as_number(word) for word in text.split(",")] if text else []
    return all(code is not None and 0 <= code <= 255 for code in codes)


Type = tuple[Callable[[str], bool], str]
COUNT: Type = (lambda text: as_number(text) is not None, "a whole number")
BOOL: Type = (_is_bool, "true or false")
SIZE: Type = (lambda text: as_size(text) is not None, "a size such as 50MB")
TYPES: dict[str, Type] = {
    "numprocs": COUNT,
    "numprocs_start": COUNT,
    "priority": COUNT,
    "startsecs": COUNT,
    "startretries": COUNT,
    "stopwaitsecs": COUNT,
    "stdout_logfile_backups": COUNT,
    "stderr_logfile_backups": COUNT,
    "autostart": BOOL,
    "stopasgroup": BOOL,
    "killasgroup": BOOL,
    "redirect_stderr": BOOL,
    "stdout_events_enabled": BOOL,
    "stderr_events_enabled": BOOL,
    "stdout_syslog": BOOL,
    "stderr_syslog": BOOL,
    "autorestart": (lambda t: _is_bool(t) or t.lower() == "unexpected", "true, false or unexpected"),
    "exitcodes": (_are_exit_codes, "numbers from 0 to 255, separated by commas"),
    "umask": (lambda text: as_number(text, 8) is not None, "an octal number such as 022"),
    "stopsignal": (is_signal, "a signal such as TERM, INT or QUIT"),
    "stdout_logfile_maxbytes": SIZE,
    "stderr_logfile_maxbytes": SIZE,
    "stdout_capture_maxbytes": SIZE,
    "stderr_capture_maxbytes": SIZE,
}
"""Options of a program whose values have a form."""

PROGRAM_OPTIONS = frozenset(TYPES) | {
    "command",
    "process_name",
    "user",
    "directory",
    "environment",
    "serverurl",
    "stdout_logfile",
    "stderr_logfile",
    "socket",
    "socket_owner",
    "socket_mode",
    "socket_backlog",
}
GROUP_OPTIONS = frozenset({"programs", "priority"})

_MEANT = {
    "group": "remove it: the program has the groups of the user in user=",
    "logfile": "did you mean stdout_logfile?",
    "log_stdout": "remove it: it was an option of supervisor 2",
    "log_stderr": "remove it: redirect_stderr=true puts both into one log",
}
"""What to do about names that people write, and for which the nearest known one would be wrong."""


def is_wrong_type(option: Option) -> bool:
    """Whether supervisord would refuse the value; False where it depends on what ``%(...)s`` stands for."""
    return option.name in TYPES and "%(" not in option.value and not TYPES[option.name][0](option.value)


def advise_unknown(option: Option, known: frozenset[str]) -> str:
    """What to do about an option that is not ``known``. Never a name under which supervisord would refuse the value."""
    if option.name in _MEANT:
        return _MEANT[option.name]
    if re.fullmatch(r"[A-Z][A-Z0-9_]+", option.spelled):
        return f'write it into environment=, as {option.spelled}="..."; on a line of its own it sets nothing'
    for name in difflib.get_close_matches(option.name, known, 3):
        if name not in TYPES or "%(" in option.value or TYPES[name][0](option.value):
            return f"did you mean {name}?"
    return "remove it"


def is_true(section: Section, name: str, default: str = "false") -> bool:
    """Whether supervisord reads the option as true."""
    return section.value(name, default).lower() in TRUE


def is_false(section: Section, name: str, default: str = "true") -> bool:
    """Whether supervisord reads the option as false."""
    return section.value(name, default).lower() in FALSE
