"""Judges confs with supervisord's own parser. Runs as a process of its own, under supervisord's interpreter.

It is started by its path and imports nothing but the standard library and ``supervisor``, so it works with the
supervisor package of the distribution while the agent lives in a virtual environment. One JSON object a line on standard
input asks, one on standard output answers; end of input ends it.

    {"confs": {"redis.conf": "text"}, "directories": {"redis.conf": "/etc/supervisor/conf.d"}}
    {"verdicts": {"redis.conf": {"problem": null, "programs": [...], "groups": {...}}}}
"""

import importlib
import json
import os
import re
import shlex
import sys
import tempfile
import types
from io import StringIO


class Later(types.ModuleType):
    """A module that is imported when something of it is used for the first time."""

    def __getattr__(self, name):
        sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


# Supervisor 4.2 imports it for event listeners and RPC interfaces, which no conf of the registry may hold: it would be most
# of this process's start-up and a third of its memory.
sys.modules["pkg_resources"] = Later("pkg_resources")
try:
    from supervisor.options import ServerOptions, UnhosedConfigParser
except ImportError:
    sys.exit("%s has no package supervisor: install it there, or set supervisor.python" % sys.executable)

FOREIGN = ("supervisord", "supervisorctl", "unix_http_server", "inet_http_server", "include")
FOREIGN_PREFIXES = ("rpcinterface:", "ctlplugin:", "eventlistener:")
PROGRAM_PREFIXES = ("program:", "fcgi-program:")


def make_options(main_conf):
    """Fresh options as supervisord has them when it reads ``main_conf``."""
    options = ServerOptions()
    options.here = os.path.dirname(os.path.abspath(main_conf))
    options.configfile = main_conf
    return options


def read_sections(text):
    """The parser with ``text`` in it; raises what supervisord's parser raises."""
    parser = UnhosedConfigParser()
    parser.read_string(text)
    return parser


def find_problem(text, parser):
    """Why a conf may not be loaded whatever its values are, or None."""
    if "\0" in text:
        return "holds a NUL byte"
    sections = parser.sections()
    for section in sections:
        if section in FOREIGN or section.startswith(FOREIGN_PREFIXES):
            return "section [%s] does not belong in the registry" % section
    names = [s.split(":", 1)[1].strip() for s in sections if s.startswith(PROGRAM_PREFIXES)]
    groups = [s for s in sections if s.startswith("group:")]
    if not names and not groups:
        return "defines no program"
    return None


def without_groups(text):
    """The text without its [group:] sections, whose members may be in other files."""
    parts = re.split(r"(?m)^(?=\[)", text)
    return "".join(p for p in parts if not p.startswith("[group:"))


def parse_alone(text, main_conf, scratch):
    """The process groups that supervisord would make of this conf alone."""
    with open(scratch, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    options = make_options(main_conf)
    section = options.read_config(StringIO("[supervisord]\n[include]\nfiles=%s\n" % scratch))
    return section.process_group_configs


def find_missing(process):
    """What this node lacks to start one process: its executable or its working directory."""
    missing = []
    directory = process.directory
    if directory and not os.path.isdir(directory):
        missing.append("directory %s is missing" % directory)
    try:
        program = shlex.split(process.command)[0]
    except (ValueError, IndexError):
        return missing + ["command cannot be read"]
    if "/" in program:
        where = program if program.startswith("/") else os.path.join(directory or "/", program)
        if not os.access(where, os.X_OK):
            missing.append("executable %s is missing" % program)
    elif not any(os.access(os.path.join(p, program), os.X_OK) for p in process.get_path()):
        missing.append("executable %s is not on the PATH" % program)
    return missing


def judge(text, directory, main_conf, scratch):
    """The verdict on one conf as a JSON-able object."""
    try:
        parser = read_sections(text)
        problem = find_problem(text, parser)
        if problem:
            return {"problem": problem}
        members, priorities = {}, {}
        for section in parser.sections():
            if section.startswith("group:"):
                raw = parser.get(section, "programs") if parser.has_option(section, "programs") else ""
                name = section.split(":", 1)[1].strip()
                members[name] = [n.strip() for n in raw.split(",") if n.strip()]
                priorities[name] = int(parser.get(section, "priority")) if parser.has_option(section, "priority") else 999
        resolved = without_groups(text).replace("%(here)s", directory)
        groups = parse_alone(resolved, main_conf, scratch) if "[" in resolved else []
    except Exception as error:  # noqa: BLE001 supervisord's parser raises what it likes; all of it means "not loadable"
        return {"problem": " ".join(str(error).replace(scratch, "this file").split()) or type(error).__name__}
    programs = []
    priorities.update((group.name, group.priority) for group in groups)
    for group in groups:
        configs = group.process_configs
        missing = sorted({m for c in configs for m in find_missing(c)})
        programs.append(
            {
                "name": group.name,
                "processes": [c.name for c in configs],
                "autostart": all(c.autostart for c in configs),
                "missing": missing,
            }
        )
    return {"problem": None, "programs": programs, "groups": members, "priorities": priorities}


def main():
    """Answers until the input ends."""
    main_conf = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="ha-agent-check.") as directory:
        scratch = os.path.join(directory, "conf.conf")
        for line in sys.stdin:
            if not line.endswith("\n"):
                # The agent has ended in the middle of a question.
                return
            request = json.loads(line)
            verdicts = {
                path: judge(text, request["directories"][path], main_conf, scratch)
                for path, text in request["confs"].items()
            }
            sys.stdout.write(json.dumps({"verdicts": verdicts}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # The agent is gone. What is still buffered must not fail a second time when this interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
