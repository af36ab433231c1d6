"""Judges confs with supervisord's own parser. Runs as a process of its own, under supervisord's interpreter.

It is started by its path and imports nothing but the standard library and ``supervisor``, so it works with the
supervisor package of the distribution while the agent lives in a virtual environment. One JSON object a line on standard
input asks, one on standard output answers; end of input ends it.

    {"confs": {"redis.conf": "text"}, "directories": {"redis.conf": "/etc/supervisor/conf.d"},
     "sections": {"redis.conf": ["program:redis"]}, "environment": "A=1", "stranger": false, "elsewhere": false}
    {"verdicts": {"redis.conf": {"problem": null, "programs": [...], "groups": {...}}}}

Its arguments are supervisord's main conf, the directory in which supervisord runs, and those of its descriptors 1 and 2 that
are sockets. ``elsewhere``: the confs are for other machines than this one, whose users, directories, executables and
variables of the environment are not known.

Whoever wrote a conf is not trusted. This process reads no conf: for each request it forks a child that gives up every
privilege, has limits on memory and on processor time, and parses; a conf that ends the child is one with a problem, and
the next child goes on behind it. What the confs need of the machine (directories, executables) the child only names; this
process checks whether it is there. Nothing is written anywhere: a conf's bytes reach the parser through a file in memory.
"""

import gc
import importlib
import json
import os
import re
import resource
import select
import shlex
import signal
import stat
import sys
import tempfile
import types
from io import StringIO


class Later(types.ModuleType):
    """A module that is imported when something of it is used for the first time.

    Whoever looks through all modules (inspect, hypothesis) asks for what every module has, and uses nothing: Debian 13's
    Python need not have this module at all.
    """

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


# Supervisor 4.2 imports it for event listeners and RPC interfaces, which no conf of the registry may hold: it would be most
# of this process's start-up and a third of its memory.
sys.modules["pkg_resources"] = Later("pkg_resources")
try:
    import pwd
    from configparser import ParsingError

    from supervisor import datatypes, options
    from supervisor.options import ServerOptions, UnhosedConfigParser
except ImportError:
    sys.exit("%s has no package supervisor: install it there, or set supervisor.python" % sys.executable)

FOREIGN = ("supervisord", "supervisorctl", "unix_http_server", "inet_http_server", "include")
FOREIGN_PREFIXES = ("rpcinterface:", "ctlplugin:", "eventlistener:")
PROGRAM_PREFIXES = ("program:", "fcgi-program:")

MEMORY_BYTES = 384 * 1024 * 1024
CPU_S = 3.0
"""Processor time for one conf, not time on the clock: a busy machine makes no conf a bad one. One needs 3 to 20 ms."""

SILENT_S = 30.0
"""Seconds without a verdict after which a child counts as hung (a look-up of a user that does not come back)."""

MOST_PROCESSES = 1000
"""numprocs of one program."""

MOST_CHARACTERS = 8 * 1024 * 1024
"""Characters of a conf's sections, each times its numprocs: supervisord keeps all of that in its memory."""

MOST_RUNS = 20
"""Different commands of one program's processes that are told."""

MOST_VALUE = 64 * 1024
"""Characters of one value with everything put in. %(program_name)999999999s is one, too."""

NOBODYS_UID = 0x70000000
"""Given to nothing by systemd's table of user ids: no process that could signal or trace the parser, and no file."""

NOBODY_UID = 65534
"""Where the other is not mapped (a container with a user namespace)."""

MOST_LINKS = 40

OWN_OUTPUT = {"/dev/stdout": "1", "/dev/stderr": "2", "/dev/fd/1": "1", "/dev/fd/2": "2"}
"""Logs that are supervisord's own output. Where that is a socket, as under systemd, they cannot be opened (ENXIO)."""

ENV_ELSEWHERE = "1"
"""Stands for a variable of another machine's environment: a text that is a number, a truth and a path, too."""

READY = b"ready"
"""A child's first line. One that does not even say that has no fault of a conf."""


class Needs:
    """What a conf asks of the machine while it is parsed: directories of logs."""

    def __init__(self):
        self.log_dirs = []

    def existing_directory(self, value):
        """As supervisord's, but takes the directory for existing and notes it."""
        path = os.path.expanduser(value)
        self.log_dirs.append(("%s is not an existing directory" % value, path))
        return path

    def existing_dirpath(self, value):
        """As supervisord's, but takes the directory for existing and notes it."""
        path = os.path.expanduser(value)
        if os.path.dirname(path):
            text = "The directory named as part of the path %s does not exist" % value
            self.log_dirs.append((text, os.path.dirname(path)))
        return path


class Variables(dict):
    """What ``%(...)s`` stands for, where the variables of the environment are not known."""

    def __missing__(self, name):
        if name.startswith("ENV_"):
            return ENV_ELSEWHERE
        raise KeyError(name)


def expand(text, expansions, name):
    """As supervisord's, but no message repeats a value: it may hold a password."""
    try:
        value = text % expansions
    except KeyError as error:
        raise ValueError("%s: there is nothing that %%(%s)s could stand for" % (name, error.args[0])) from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 what % raises depends on the text
        raise ValueError("%s: %s; a percent sign is written %%%%" % (name, error)) from None
    if len(value) > MOST_VALUE:
        raise ValueError("%s has %d characters when everything is put in; %d are allowed" % (name, len(value), MOST_VALUE))
    return value


def read_pairs(text):
    """As supervisord's ``dict_of_key_value_pairs``, but no message repeats a value."""
    try:
        return datatypes.dict_of_key_value_pairs(text)
    except ValueError as error:
        why = str(error) if str(error) == "No closing quotation" else "a value needs quotes, or a comma is missing"
        raise ValueError('environment: not KEY="value",KEY="value": %s' % why) from None


def read_integer(text):
    """As supervisord's ``integer``, in words of its own: Python's are for programmers."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("%.40r is not a whole number" % text) from None


def install(needs, elsewhere):
    """Puts the functions above into supervisord's modules. ``elsewhere``: every user is there."""
    for module in (datatypes, options):
        module.existing_directory = needs.existing_directory
        module.existing_dirpath = needs.existing_dirpath
        module.integer = read_integer
        if elsewhere:
            module.name_to_uid = module.gid_for_uid = lambda name: 0
            module.colon_separated_user_group = lambda name: (0, 0)
    options.expand = expand
    if elsewhere:
        options.expand = lambda text, expansions, name: expand(text, Variables(expansions), name)
    options.dict_of_key_value_pairs = read_pairs


class Options(ServerOptions):
    """supervisord's own, which refuse programs that would be too much for supervisord's memory."""

    characters = 0

    def processes_from_section(self, parser, section, group_name, klass=None):
        """As supervisord's, after a look at how many there are and how long their section is."""
        raw = parser.get(section, "numprocs") if parser.has_option(section, "numprocs") else "1"
        words = {"here": self.here, "program_name": section.split(":", 1)[1], "group_name": group_name}
        words.update(self.environ_expansions, host_node_name="")
        count = datatypes.integer(options.expand(raw, words, "numprocs"))
        if count > MOST_PROCESSES:
            raise ValueError("numprocs=%d in section %r; %d are allowed" % (count, section, MOST_PROCESSES))
        self.characters += max(count, 1) * sum(len(key) + len(value) for key, value in parser.items(section))
        if self.characters > MOST_CHARACTERS:
            text = "the sections, each times its numprocs, have %d characters up to section %r; %d are allowed"
            raise ValueError(text % (self.characters, section, MOST_CHARACTERS))
        return ServerOptions.processes_from_section(self, parser, section, group_name, klass)


def make_options(main_conf):
    """Fresh options as supervisord has them when it reads ``main_conf``."""
    made = Options()
    made.here = os.path.dirname(os.path.abspath(main_conf))
    made.configfile = main_conf
    return made


class MemoryFile:
    """A file without a name, which ``path`` opens from its beginning."""

    def __init__(self):
        self._fd = os.memfd_create("conf")
        self.path = "/proc/self/fd/%d" % self._fd

    def write(self, data):
        """Replaces the content."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        while data:
            data = data[os.write(self._fd, data) :]


def as_lines(text):
    """The text as a file in text mode gives it: also a lone CR ends a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_sections(text, file):
    """supervisord's parser with ``text`` in it, read as supervisord reads it; raises what that raises."""
    file.write(text.encode("utf-8", "surrogateescape"))
    parser = UnhosedConfigParser()
    parser.read(file.path)
    return parser


def find_problem(parser, seen):
    """Why a conf may not be loaded whatever its values are, or None. ``seen``: the sections that the agent found in it."""
    sections = parser.sections()
    for section in sections:
        if section in FOREIGN or section.startswith(FOREIGN_PREFIXES):
            return "section [%.80s] does not belong in the registry" % section
    if parser.defaults() or "DEFAULT" in seen:
        return "section [DEFAULT] would change the programs of all other confs"
    odd = sorted(set(sections) ^ set(seen))
    if odd:
        return "section [%.80s] must stand alone on its line, from the line's beginning" % odd[0]
    names = [s.split(":", 1)[1] for s in sections if s.startswith(PROGRAM_PREFIXES)]
    for name in names:
        if name != name.strip():
            return "the name of program %.80r has blanks around it" % name.strip()
    if len(set(names)) < len(names):
        return "a program is defined as [program:] and as [fcgi-program:]"
    if not names and not any(s.startswith("group:") for s in sections):
        return "defines no program"
    return None


def without_groups(text):
    """The text without its [group:] sections, whose members may be in other files."""
    parts = re.split(r"(?m)^(?=\[)", text)
    return "".join(p for p in parts if not p.startswith("[group:"))


def main_section(environment):
    """A main conf with the real one's ``environment=`` alone, which supervisord puts into what the confs expand."""
    return "[supervisord]\nenvironment=%s\n" % environment.replace("\n", "\n ")


def parse_alone(text, main_conf, environment, file):
    """The process groups that supervisord would make of this conf alone."""
    file.write(text.encode("utf-8", "surrogateescape"))
    made = make_options(main_conf)
    section = made.read_config(StringIO(main_section(environment) + "[include]\nfiles=%s\n" % file.path))
    return section.process_group_configs


def read_groups(parser):
    """Members and priority of each [group:]."""
    members, priorities = {}, {}
    for section in parser.sections():
        if section.startswith("group:"):
            raw = parser.get(section, "programs") if parser.has_option(section, "programs") else ""
            name = datatypes.process_or_group_name(section.split(":", 1)[1])
            members[name] = [n.strip() for n in raw.split(",") if n.strip()]
            priorities[name] = int(parser.get(section, "priority")) if parser.has_option(section, "priority") else 999
    return members, priorities


def describe(error, file, text):
    """What an exception of the parser means, without any value of the conf that might be a secret."""
    if isinstance(error, MemoryError):
        return "needs too much memory"
    if isinstance(error, UnicodeEncodeError):
        return "holds characters that are not text"
    if isinstance(error, UnicodeDecodeError):
        return "byte 0x%02x at offset %d is not %s text" % (error.object[error.start], error.start, error.encoding)
    if isinstance(error, ParsingError):
        lines = [line for line, _ in getattr(error, "errors", ())] or [getattr(error, "lineno", 0)]
        return "line %d is neither a section nor an option (name=value)" % lines[0]
    words = " ".join(str(error).replace(file.path, "this file").split()) or type(error).__name__
    words = re.sub(r"://[^/@\s]*@", "://...@", words)
    for value in secrets_of(text):
        words = words.replace(value, "...")
    return words[:500]


def secrets_of(text):
    """Values that stand in environment= of any section, longest first."""
    found = set()
    for match in re.finditer(r"(?mi)^[ \t]*environment[ \t]*[=:](.*(?:\n[ \t].*)*)", text[:MOST_VALUE]):
        found.update(v for pair in re.findall(r"\"([^\"]*)\"|'([^']*)'|=([^,\s\"']+)", match[1]) for v in pair)
        found.add(match[1].strip())
    return sorted((v for v in found if len(v) > 2), key=len, reverse=True)


def judge(text, directory, seen, main_conf, environment, file, needs):
    """The verdict on one conf as a JSON-able object, with what the machine must have instead of what it lacks."""
    text = as_lines(text)
    needs.log_dirs.clear()
    if "\0" in text:
        return {"problem": "holds a NUL byte"}
    if text.startswith("\ufeff"):
        return {"problem": "begins with a byte order mark; save it without one"}
    try:
        parser = read_sections(text, file)
        problem = find_problem(parser, seen)
        if problem:
            return {"problem": problem}
        members, priorities = read_groups(parser)
        resolved = without_groups(text).replace("%(here)s", directory)
        if len(resolved) > MOST_CHARACTERS:
            text = "has %d characters with the directory in it; %d are allowed"
            return {"problem": text % (len(resolved), MOST_CHARACTERS)}
        groups = parse_alone(resolved, main_conf, environment, file) if "[" in resolved else []
        programs = [describe_group(group) for group in groups]
    except Exception as error:  # noqa: BLE001 supervisord's parser raises what it likes; all of it means "not loadable"
        return {"problem": describe(error, file, text)}
    priorities.update((group.name, group.priority) for group in groups)
    answer = {"problem": None, "programs": programs, "groups": members, "priorities": priorities}
    return {**answer, "log_dirs": sorted(set(needs.log_dirs))}


def describe_group(group):
    """One program: its processes, what each needs as (directory, executable, PATH, user id), its logs that are no files.

    ``runs`` is for the agent alone.
    """
    configs = group.process_configs
    logs = {getattr(c, "%s_logfile" % channel) for c in configs for channel in ("stdout", "stderr")}
    return {
        "name": group.name,
        "processes": [c.name for c in configs],
        "autostart": all(c.autostart for c in configs),
        "devices": sorted(log for log in logs if log in OWN_OUTPUT),
        "needs": sorted({(c.directory or "", first_word(c.command), tuple(c.get_path()), c.uid or 0) for c in configs}),
        "runs": find_runs(configs),
    }


def find_runs(configs):
    """What is run, each once: command, directory, PATH, and the user's id, None where it is supervisord's own user."""
    runs = dict.fromkeys((c.command, c.directory or "", tuple(c.get_path()), c.uid) for c in configs)
    return [list(run) for run in list(runs)[:MOST_RUNS]]


def first_word(command):
    """The executable that a command names; empty where supervisord could not tell either."""
    try:
        return shlex.split(command)[0]
    except (ValueError, IndexError):
        return ""


# ---- the child ----------------------------------------------------------------------------------------------


def give_up_privileges():
    """Leaves the child with an id that nothing else has, with limits, and as the first that a machine without memory ends.

    A process that changed its user id can be traced, and read in /proc, by root alone.
    """
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024 * 1024, 64 * 1024 * 1024))
    if os.geteuid() != 0:
        return
    for uid in (NOBODYS_UID, NOBODY_UID):
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            return
        except OSError:
            # A user namespace with nobody else in it: root there is nobody outside, and confs must be judged all the same.
            continue


def work(request, paths, main_conf, writer):
    """Judges ``paths`` one after the other and writes a line for each; the child's whole life."""
    needs = Needs()
    install(needs, bool(request.get("elsewhere")))
    give_up_privileges()
    environment = request.get("environment") or ""
    file = MemoryFile()
    try:
        if environment:
            make_options(main_conf).read_config(StringIO(main_section(environment)))
    except Exception:  # noqa: BLE001 supervisord says that itself, of its own main conf
        environment = ""
    with os.fdopen(writer, "wb") as out:
        out.write(READY + b"\n")
        out.flush()
        for path in paths:
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            directory, seen = request["directories"][path], request["sections"][path]
            verdict = judge(request["confs"][path], directory, seen, main_conf, environment, file, needs)
            out.write(json.dumps(verdict).encode("ascii") + b"\n")
            out.flush()


def start_child(request, paths, main_conf):
    """Forks a child that judges ``paths``; its process id and the descriptor on which it answers."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            # Neither the agent's pipes nor what it may say on them are the child's business.
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            work(request, paths, main_conf, writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    return pid, reader


def read_lines(reader, pid):
    """The child's lines as they come, until it ends. One that says nothing for ``SILENT_S`` is killed."""
    rest = b""
    while select.select([reader], [], [], SILENT_S)[0]:
        data = os.read(reader, 1 << 20)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    os.kill(pid, signal.SIGKILL)


def judge_request(request, main_conf, cwd, sockets):
    """The verdicts on all confs of a request, in as many children as it takes.

    ``cwd``: supervisord's directory; ``sockets``: which of its descriptors 1 and 2 are sockets.
    """
    verdicts, left = {}, list(request["confs"])
    while left:
        pid, reader = start_child(request, left, main_conf)
        done = 0
        try:
            lines = read_lines(reader, pid)
            if next(lines, b"") != READY:
                sys.exit("supervisord's parser cannot be started without privileges")
            for line in lines:
                verdicts[left[done]] = finish(json.loads(line), request, cwd, sockets)
                done += 1
        finally:
            os.close(reader)
            status = os.waitpid(pid, 0)[1]
        del left[:done]
        if left:
            verdicts[left.pop(0)] = {"problem": why_ended(status)}
    return verdicts


def why_ended(status):
    """What it means for a conf that the child ended while it judged it."""
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by == signal.SIGPROF:
        return "supervisord's parser needs more than %g s for it" % CPU_S
    if ended_by == signal.SIGKILL:
        return "supervisord's parser came to no end with it, or ran out of the machine's memory"
    return "supervisord's parser needs too much memory for it"


# ---- what the machine has -----------------------------------------------------------------------------------

CLOSED = object()
"""A directory on the way is closed to who looks."""


class Viewer:
    """With whose eyes is looked: root's, a user's, or (``uid`` None) those of somebody of whom nothing is known."""

    def __init__(self, uid):
        self.uid, self.groups = uid, frozenset()
        if uid:
            try:
                entry = pwd.getpwuid(uid)
                self.groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
            except KeyError:
                pass

    def may_execute(self, path, info):
        """Whether the mode lets the viewer enter a directory, or run a file. An access list counts as a yes."""
        if self.uid == 0:
            return stat.S_ISDIR(info.st_mode) or bool(info.st_mode & 0o111)
        bit = 0o001
        if self.uid == info.st_uid:
            bit = 0o100
        elif info.st_gid in self.groups:
            bit = 0o010
        return bool(info.st_mode & bit) or has_access_list(path)

    def find(self, path):
        """The stat of what ``path`` leads to, step by step; None where there is nothing, CLOSED where the way is closed."""
        todo, here, links = path.split("/")[::-1], "/", 0
        info = os.lstat("/")
        try:
            while todo:
                part = todo.pop()
                if part in ("", "."):
                    continue
                if not stat.S_ISDIR(info.st_mode):
                    return None
                if not self.may_execute(here, info):
                    return CLOSED
                there = os.path.dirname(here) if part == ".." else os.path.join(here, part)
                found = os.lstat(there)
                if not stat.S_ISLNK(found.st_mode):
                    here, info = there, found
                    continue
                links += 1
                if links > MOST_LINKS:
                    return None
                target = os.readlink(there)
                todo += target.split("/")[::-1]
                if target.startswith("/"):
                    here, info = "/", os.lstat("/")
        except (OSError, ValueError):
            return None
        return info


def has_access_list(path):
    """Whether a POSIX access list says more than the mode."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def finish(verdict, request, cwd, sockets):
    """A verdict of the child with what this machine lacks in it; without, where the confs are for machines ``elsewhere``.

    ``stranger``: it is asked for by somebody who may not know what is in closed directories. Nothing is said of these then.
    """
    if verdict["problem"] is not None:
        return verdict
    if request.get("elsewhere"):
        return without_needs(verdict)
    stranger = bool(request.get("stranger"))
    root = Viewer(None if stranger else 0)
    for text, directory in verdict.pop("log_dirs"):
        info = root.find(directory)
        if info is None or (info is not CLOSED and not stat.S_ISDIR(info.st_mode)):
            return {"problem": text}
    viewers = {}
    for program in verdict["programs"]:
        devices = program.pop("devices")
        missing = {
            "log %s is a socket of supervisord's, which cannot be opened" % d for d in devices if OWN_OUTPUT[d] in sockets
        }
        for directory, executable, search, uid in program.pop("needs"):
            viewer = viewers.setdefault(uid, root if stranger else Viewer(uid))
            missing.update(find_missing(directory, executable, search, viewer, cwd))
        program["missing"] = sorted(missing)
        if stranger:
            # %(ENV_x)s has been put in, which is not everybody's to know.
            program["runs"] = []
    return verdict


def without_needs(verdict):
    """A verdict that says nothing of the machine."""
    del verdict["log_dirs"]
    for program in verdict["programs"]:
        del program["needs"], program["devices"]
        program["missing"], program["runs"] = [], []
    return verdict


def find_missing(directory, executable, search, viewer, cwd):
    """What this node lacks to start one process: its executable or its working directory.

    supervisord looks for an executable with a relative path from its own directory, ``cwd``, and then starts it from the
    working directory (``supervisor/process.py``, ``get_execv_args`` and ``_spawn_as_child``): it must be in both places.
    """
    if directory:
        yield from complain("directory %s" % directory, directory, viewer, stat.S_ISDIR)
    if not executable:
        yield "command cannot be read"
    elif "/" in executable:
        if not executable.startswith("/") and viewer.find(os.path.join(cwd, executable)) is None:
            yield "executable %s is relative: supervisord looks for it from %s, where it is not" % (executable, cwd)
            return
        where = os.path.join(directory or cwd, executable)
        yield from complain("executable %s" % executable, where, viewer, stat.S_ISREG)
    else:
        yield from search_path(executable, search, viewer)


def search_path(executable, search, viewer):
    """Says that no directory of the PATH has the executable, if so."""
    is_closed = False
    for path in (os.path.join(directory, executable) for directory in search):
        info = viewer.find(path)
        is_closed = is_closed or info is CLOSED
        if info not in (None, CLOSED) and stat.S_ISREG(info.st_mode) and viewer.may_execute(path, info):
            return
    if viewer.uid is not None or not is_closed:
        yield "executable %s is not on the PATH" % executable


def complain(what, path, viewer, is_kind):
    """Says why the viewer could not use ``path``, if so."""
    info = viewer.find(path)
    if info is CLOSED:
        if viewer.uid is not None:
            yield "%s cannot be reached by %s" % (what, name_of(viewer.uid))
    elif info is None or not is_kind(info.st_mode):
        yield "%s is missing" % what
    elif not viewer.may_execute(path, info) and viewer.uid is not None:
        yield "%s cannot be used by %s" % (what, name_of(viewer.uid))


def name_of(uid):
    """The user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def main():
    """Answers until the input ends."""
    main_conf, cwd, sockets = sys.argv[1:] if len(sys.argv) == 4 else (sys.argv[1], "/", "")
    # supervisord's parser asks for it, and it is found by writing there.
    tempfile.tempdir = "/"
    # A child would copy all that its collector only looks at.
    gc.freeze()
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("0")
    except OSError:
        pass
    for line in sys.stdin:
        if not line.endswith("\n"):
            # The agent has ended in the middle of a question.
            return
        sys.stdout.write(json.dumps({"verdicts": judge_request(json.loads(line), main_conf, cwd, sockets)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # The agent is gone. What is still buffered must not fail a second time when this interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
