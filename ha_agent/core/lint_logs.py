"""What lint says of where a program's output goes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ha_agent.core.conf_options import as_number, as_size, is_true
from ha_agent.core.conf_text import Option, Section
from ha_agent.core.findings import Finding
from ha_agent.core.lint_command import is_relative
from ha_agent.core.remarks import warning

CHANNELS = ("stdout", "stderr")
_DEVICE = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_NO_FILE = frozenset({"none", "off", "auto", "syslog"})
"""Values of a log that name no file (``supervisor/datatypes.py``, ``logfile_name``)."""


def lint_logs(path: str, section: Section) -> Iterator[Finding]:
    """What can be said of a program's logs. ``path``: the conf's."""
    for channel in CHANNELS:
        log = _log_of(section, channel)
        if log is None:
            continue
        yield from _lint_file(path, section, channel, log)
    yield from _lint_both(path, section)
    yield from _lint_sharing(path, section)


def _log_of(section: Section, channel: str) -> Option | None:
    log = section.find(f"{channel}_logfile")
    return log if log is not None and log.value and log.value.lower() not in _NO_FILE else None


def _is_file(log: Option) -> bool:
    return log.value.startswith(("/", "%(")) and not log.value.startswith("/dev/") and not _DEVICE.fullmatch(log.value)


def _is_unlimited(section: Section, channel: str) -> bool:
    return as_size(section.value(f"{channel}_logfile_maxbytes", "50MB")) == 0


def _lint_file(path: str, section: Section, channel: str, log: Option) -> Iterator[Finding]:
    limit = section.find(f"{channel}_logfile_maxbytes")
    if _DEVICE.fullmatch(log.value):
        text = f"{log.value} is a socket under systemd, which cannot be opened as a log: the program does not start (FATAL)"
        fix = f"name a file, or {log.name}=NONE and {channel}_syslog=true; in a container it is right"
        yield warning("log-device", path, log.line, text, fix)
    elif is_relative(log.value):
        text = f"{log.name}={log.value} lies where supervisord was started"
        yield warning("relative-path", path, log.line, text, "write the whole path")
    elif _is_file(log) and limit is not None and _is_unlimited(section, channel):
        text = f"{channel}_logfile grows without limit"
        yield warning("log-unlimited", path, limit.line, text, "remove it (50MB is the default), or name a size")


def _lint_both(path: str, section: Section) -> Iterator[Finding]:
    """The two logs beside each other."""
    out, err = (_log_of(section, channel) for channel in CHANNELS)
    if err is None:
        return
    if is_true(section, "redirect_stderr"):
        text = "stderr_logfile is ignored beside redirect_stderr=true: everything goes to stdout_logfile"
        yield warning("ignored-log", path, err.line, text, "remove one of the two")
    elif out is not None and out.value == err.value and _is_file(out):
        if not all(_is_unlimited(section, channel) for channel in CHANNELS):
            text = "stdout_logfile and stderr_logfile are one file: each is rotated under the other, and lines are lost"
            yield warning("one-log-for-both", path, err.line, text, "redirect_stderr=true in place of stderr_logfile")


def _lint_sharing(path: str, section: Section) -> Iterator[Finding]:
    """Several processes that write one file."""
    count = as_number(section.value("numprocs", "1"))
    if count is None or count <= 1:
        return
    for channel in CHANNELS:
        log = _log_of(section, channel)
        if log is not None and log.value.startswith("/") and _is_file(log):
            if "%(process_num)" not in log.value and "%(process_name)" not in log.value:
                text = f"all {count} processes write and rotate the same {channel}_logfile"
                yield warning("shared-log", path, log.line, text, "put %(process_num)d into its name")
