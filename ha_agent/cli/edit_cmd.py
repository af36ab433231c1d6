"""``ha-agent edit``: a conf of the registry in an editor, checked on both nodes, applied in one step, and loaded.

Until the new text is applied nothing of the pair has changed. From then on a process of its own, which no end of the
terminal or of the command reaches, takes it back unless it is told to keep it.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.files import write_atomic
from ha_agent.adapters.terminal import complain, is_yes, paint
from ha_agent.cli.lint_cmd import lint_texts, read_registry, show_findings
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, duration, settings_of
from ha_agent.core.findings import Severity
from ha_agent.core.names import PARKED, SUFFIXES
from ha_agent.core.nearest import did_you_mean
from ha_agent.core.reasons import reason_of
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit, Outcome, Refused, Role

LOAD_S = 3600.0
"""The agent bounds its own steps; a program may have any stopwaitsecs."""

SYNC_S = 30.0
KEPT, TAKEN_BACK, LOST = 0, 10, 11
"""How a guard ends."""

EDITORS = ("editor", "vi", "nano")
_SECTION = re.compile(r"^\[(program|fcgi-program|eventlistener|group):([^\]\s]+)\]", re.MULTILINE)
_MEMBERS = re.compile(r"^\[group:([^\]\s]+)\][^\[]*?^programs\s*[=:]\s*([^\n]*(?:\n[ \t]+[^\n]+)*)", re.MULTILINE)


class NothingDone(Exception):
    """The edit ends without a change; the text says why, ``status`` is that of the command."""

    def __init__(self, text: str, status: Exit) -> None:
        super().__init__(text)
        self.status = status


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "edit a conf: check it on both nodes, apply it in one step, load it, and wait for the peer (root, active node)"
    parser = commands.add("edit", summary, "ha-agent edit billing --confirm 60s", run)
    parser.add_argument("name", metavar="NAME", help="a program, or a conf of the registry")
    parser.add_argument(
        "--confirm", type=duration, metavar="TIME", help="take it back after TIME, unless you say at the prompt to keep it"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before it is applied")


@dataclass(slots=True)
class Edit:
    """One conf: where it is, what it was, and what it shall be."""

    root: str
    path: str
    mode: int
    old: bytes
    new: bytes = b""

    @property
    def file(self) -> str:
        """The conf's file."""
        return os.path.join(self.root, self.path)

    @property
    def is_parked(self) -> bool:
        """Whether nothing of it is loaded."""
        return self.path.endswith(PARKED)

    def write(self, content: bytes) -> None:
        """Puts ``content`` in the conf's place, in one step. Raises ``OSError``; the old one stays then."""
        write_atomic(self.file, content, self.mode)

    def is_as_it_was(self) -> bool:
        """Whether nobody has changed the conf since it was read."""
        return _read_plain(self.file)[0] == self.old


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    if os.geteuid() != 0:
        complain(
            "edit: only root may write a conf, because what it says runs as any user; a program of your own is changed in "
            "its program.ini, and read again with: supzcli register --update DIR"
        )
        return Exit.REFUSED
    if options.confirm is not None and not (1 <= options.confirm <= 3600 and sys.stdin.isatty()):
        complain("edit: --confirm takes a terminal to ask on, and between 1s and 1h")
        return Exit.USAGE
    nodes = Nodes(settings_of(options))
    try:
        edit = begin_edit(nodes, options.name)
        _change(nodes, edit, yes=options.yes)
    except NothingDone as end:
        (print if end.status == Exit.DONE else complain)(str(end))
        return end.status
    return apply(nodes, edit, options.confirm)


def apply(nodes: Nodes, edit: Edit, confirm_s: float | None) -> int:
    """Puts the new text in place, has it loaded, and asks where that was wanted; returns the exit status.

    Whatever ends this half way, the guard takes the edit back.
    """
    guard = Guard(nodes, edit)
    try:
        edit.write(edit.new)
        code = load(nodes, edit, [edit.old, edit.new])
        if confirm_s is not None and not _ask(guard, confirm_s):
            return Exit.REFUSED if guard.take_back() else Exit.FAILED
    except KeyboardInterrupt:
        guard.take_back()
        return 130
    except (CommandFailed, NoDaemon, TimeoutError, OSError) as error:
        complain(f"{edit.path} was not loaded: {error or 'the agent did not answer in time'}")
        guard.take_back()
        return Exit.FAILED
    if not guard.keep():
        complain(f"{edit.path} was taken back before the answer came")
        return Exit.FAILED
    return code


def begin_edit(nodes: Nodes, name: str) -> Edit:
    """The conf that ``name`` means, as it is now. Raises ``NothingDone``, and what asking the agent raises."""
    me = nodes.ask_own({"op": "whoami"})
    if me["role"] != Role.ACTIVE:
        where = f"{nodes.peer_name} is active: run this there" if me["peer_role"] == Role.ACTIVE else "no node is active"
        raise NothingDone(f"{nodes.own_name} is {me['role']}; {where}", Exit.REFUSED)
    root = nodes.settings.registry.path
    path = find_conf(read_registry(root), name)
    try:
        old, mode = _read_plain(os.path.join(root, path))
    except OSError as error:
        raise NothingDone(f"{os.path.join(root, path)}: {error.strerror}; a link is not edited", Exit.FAILED) from None
    return Edit(root, path, mode, old)


def find_conf(registry: Mapping[str, str], name: str) -> str:
    """The path of the conf that ``name`` means: a path, one without its ending, or a program. Raises ``NothingDone``."""
    for suffix in ("", *SUFFIXES, *(s + PARKED for s in SUFFIXES)):
        if name + suffix in registry:
            return name + suffix
    programs: dict[str, list[str]] = {}
    for path, text in registry.items():
        for section in _SECTION.finditer(text):
            programs.setdefault(section[2], []).append(path)
    found = programs.get(name.partition(":")[0], [])
    if len(found) == 1:
        return found[0]
    if found:
        raise NothingDone(f"{name} is in {' and '.join(sorted(found))}: name the conf", Exit.USAGE)
    known = {*registry, *programs}
    hint = did_you_mean(name, known, "a new one is made with: supzcli new DIR, or a new file in the registry")
    raise NothingDone(f"there is no conf or program {name!r}; {hint}", Exit.USAGE)


def _read_plain(path: str) -> tuple[bytes, int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(), os.fstat(fd).st_mode & 0o777


def _change(nodes: Nodes, edit: Edit, *, yes: bool) -> None:
    """Has the conf edited, checked and agreed to. Raises ``NothingDone`` where it shall not be applied."""
    folder = tempfile.mkdtemp(prefix="ha-agent-edit-")
    copy = os.path.join(folder, os.path.basename(edit.path))
    try:
        write_atomic(copy, edit.old, 0o600, durable=False)
        while True:
            run_editor(copy)
            edit.new = _read_plain(copy)[0]
            if edit.new == edit.old:
                raise NothingDone("nothing was changed", Exit.DONE)
            if _check(nodes, edit):
                break
            if not is_yes("Edit it again? (else nothing is changed)"):
                raise NothingDone("nothing was changed: the conf has errors", Exit.FAILED)
        _show_difference(edit)
        what = "Apply it on both nodes" + ("?" if edit.is_parked else ", and load it?")
        if not yes and not is_yes(what):
            raise NothingDone("nothing was changed", Exit.REFUSED)
        if not edit.is_as_it_was():
            kept = keep_copy(copy, edit)
            raise NothingDone(
                f"{edit.path} was changed by somebody else meanwhile; nothing was applied; your text is {kept}", Exit.REFUSED
            )
    except KeyboardInterrupt:
        raise NothingDone("interrupted: nothing was changed", Exit.FAILED) from None
    finally:
        # A conf may hold passwords.
        shutil.rmtree(folder, ignore_errors=True)


def keep_copy(copy: str, edit: Edit) -> str:
    """Keeps what was edited where root alone finds it again; says where."""
    fd, path = tempfile.mkstemp(prefix=f"{os.path.basename(edit.path)}.", suffix=".edited", dir=os.path.expanduser("~"))
    with os.fdopen(fd, "wb") as file:
        file.write(_read_plain(copy)[0])
    return path


def run_editor(path: str) -> None:
    """Runs the editor that the user has chosen. Raises ``NothingDone`` where that fails."""
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR") or next((e for e in EDITORS if shutil.which(e)), "vi")
    try:
        words = [*shlex.split(chosen), path]
        done = subprocess.run(words)
    except (OSError, ValueError) as error:
        raise NothingDone(
            f"the editor {chosen!r} cannot be run ({reason_of(error)}); set EDITOR. Nothing was changed", Exit.FAILED
        ) from None
    if done.returncode != 0:
        raise NothingDone(f"the editor ended with {done.returncode}: nothing was changed", Exit.FAILED)


def _check(nodes: Nodes, edit: Edit) -> bool:
    """Checks the new text on both nodes and shows what was found; says whether it may be applied."""
    text = edit.new.decode("utf-8", "surrogateescape")
    beside = {path: other for path, other in read_registry(edit.root).items() if path != edit.path}
    findings, problem = lint_texts(nodes, {edit.path: text}, beside, peer=True, cwd=edit.root)
    show_findings(findings, "people", {edit.path: text})
    if problem is not None:
        complain(f"{nodes.peer_name} was not asked: {problem}")
    return not any(finding.severity is Severity.ERROR for finding in findings)


def _show_difference(edit: Edit) -> None:
    old, new = (content.decode("utf-8", "replace").splitlines() for content in (edit.old, edit.new))
    for line in difflib.unified_diff(old, new, f"{edit.path} (now)", f"{edit.path} (edited)", lineterm=""):
        colour = {"+": "green", "-": "red", "@": "dim"}.get(line[:1])
        print(paint(visible(line, "\t"), colour) if colour else visible(line, "\t"))


def groups_of(texts: Sequence[bytes], registry: Mapping[str, str]) -> list[str]:
    """The groups of supervisord that what ``texts`` define belongs to, by all confs of the registry."""
    names = {found[2] for text in texts for found in _SECTION.finditer(text.decode("utf-8", "replace"))}
    for text in (*registry.values(), *(text.decode("utf-8", "replace") for text in texts)):
        for group, members in _MEMBERS.findall(text):
            if names & {member.strip() for member in re.split(r"[,\n]", members)}:
                names.add(group)
    return sorted(names)


def load(nodes: Nodes, edit: Edit, texts: Sequence[bytes], *, is_quiet: bool = False) -> Exit:
    """Has supervisord load what changed, and waits for the peer; says how it went. Raises what asking the agent raises."""
    if edit.is_parked:
        answer = nodes.ask_own({"op": "sync", "timeout_s": SYNC_S}, SYNC_S + 40.0)
        on_peer, reason = answer["outcome"] == Outcome.IN_SYNC, answer.get("reason")
    else:
        names = groups_of(texts, read_registry(edit.root))
        answer = nodes.ask_own({"op": "program-update", "names": names}, LOAD_S)
        for line in () if is_quiet else answer.get("lines", ()):
            print(line)
        if answer["outcome"] != Outcome.DONE:
            raise CommandFailed(str(answer.get("reason", answer["outcome"])))
        if edit.path in answer.get("problems", {}):
            raise CommandFailed(str(answer["problems"][edit.path]))
        ack: Mapping[str, Any] = answer.get("ack") or {"on_peer": True}
        on_peer, reason = bool(ack["on_peer"]), ack.get("reason")
    if on_peer:
        if not is_quiet:
            print(f"{edit.path}: applied on {nodes.own_name} and {nodes.peer_name}")
        return Exit.DONE
    complain(f"{edit.path} is applied on {nodes.own_name} only: {reason}")
    return Exit.INCOMPLETE


def take_back(nodes: Nodes, edit: Edit) -> None:
    """Puts the old text back and loads it, where nobody has changed the conf since.

    Raises ``OSError``, ``Refused``, and what asking the agent raises; then the old text is there, and was not loaded.
    """
    if _read_plain(edit.file)[0] not in (edit.new, edit.old):
        raise Refused(f"{edit.path} was changed by somebody else meanwhile: it is left as it is")
    edit.write(edit.old)
    load(nodes, edit, [edit.old, edit.new], is_quiet=True)


def _ask(guard: Guard, for_s: float) -> bool:
    """Asks whether to keep the edit; no word in time, or a terminal that is gone, is no."""
    guard.begin_countdown(for_s)
    print(f"Enter or y keeps it; n takes it back now, and no word does in {for_s:g} s: ", end="", flush=True)
    ready, _, _ = select.select([sys.stdin], [], [], for_s)
    if not ready:
        print()
        return False
    line = sys.stdin.readline()
    return bool(line) and line.strip().lower() in ("", "y", "yes")


class Guard:
    """A process of its own that takes the edit back, unless it is told to keep it: it outlives this one and its terminal."""

    def __init__(self, nodes: Nodes, edit: Edit) -> None:
        read_end, self._wire = os.pipe()
        sys.stdout.flush()
        # What ends the command must not reach the guard before it looks away from it.
        ending = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ending)
        try:
            self._pid = os.fork()
            if not self._pid:
                os.close(self._wire)
                _guard(nodes, edit, read_end, ending)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
        os.close(read_end)

    def begin_countdown(self, for_s: float) -> None:
        """Has it taken back after ``for_s``, also where this process hangs. A moment more: the last answer counts, too."""
        os.write(self._wire, b"%f\n" % (for_s + 2.0))

    def keep(self) -> bool:
        """Has the edit kept; says whether it is."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._wire, b"keep\n")
        return self._end() == KEPT

    def take_back(self) -> bool:
        """Has it taken back now, and waits for that; says whether it was. The guard has said how it went."""
        return self._end() == TAKEN_BACK

    def _end(self) -> int:
        os.close(self._wire)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)


def _guard(nodes: Nodes, edit: Edit, read_end: int, ending: set[signal.Signals]) -> NoReturn:
    """The life of the guard."""
    code = LOST
    try:
        os.setsid()
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        code = KEPT if _is_kept(read_end) else _take_back_and_say(nodes, edit)
    finally:
        # Nothing of the command's own end is for this process.
        os._exit(code)


def _is_kept(read_end: int) -> bool:
    """Waits for the word to keep the edit. A pipe that is closed, and a countdown that is over, are none."""
    until, said = math.inf, b""
    while True:
        left = until - time.monotonic()
        ready, _, _ = select.select([read_end], [], [], None if left == math.inf else max(0.0, left))
        more = os.read(read_end, 64) if ready else b""
        if not more:
            return False
        said += more
        if b"keep\n" in said:
            return True
        if said.endswith(b"\n"):
            until = time.monotonic() + float(said)


def _take_back_and_say(nodes: Nodes, edit: Edit) -> int:
    try:
        take_back(nodes, edit)
    except (CommandFailed, NoDaemon, TimeoutError, OSError, Refused) as error:
        _say(f"{edit.path}: taking it back failed: {error or 'no answer in time'}")
        return LOST
    _say(f"{edit.path}: taken back; the pair has what it had before")
    return TAKEN_BACK


def _say(text: str) -> None:
    """Says it on the terminal, which may be gone."""
    try:
        print(f"ha-agent: {visible(text)}", file=sys.stderr, flush=True)
    except OSError:
        return
