"""The commands: supervisorctl's own, and replacements of those that could act behind the pair's back."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterable
from typing import Any

from supervisor.supervisorctl import DefaultControllerPlugin, LSBInitExitStatuses, LSBStatusExitStatuses
from supervisor.xmlrpc import Faults

from ha_agent.core import program_texts as texts
from ha_agent.core.frames import Message
from ha_agent.core.nearest import find_nearest
from ha_agent.core.supervisor_words import PARKED_STATE, full_name
from ha_agent.core.words import Exit, Outcome
from ha_agent.supzcli.errors import BadUsage, GuardRefused
from ha_agent.supzcli.proxy import raise_down

COMMAND_S = 3600.0
"""The agent bounds its own steps; a program may have any stopwaitsecs."""

FOLLOW_S = 0.5
FIRST_BYTES = 1024
BLOCK_BYTES = 65536

INSTEAD = {
    "shutdown": "it would end every program, and supervisord with them; supzcli stop NAME stops one, ha-agent switchover "
    "moves all of them to the other node",
    "reload": "it would restart supervisord and every program; supzcli update loads what changed, supzcli restart NAME "
    "restarts one",
}


def take_flags(argument: str, known: Iterable[str]) -> tuple[list[str], set[str]]:
    """The names and the options of a command line. Raises ``BadUsage`` for an option that the command does not have."""
    names, flags = [], set()
    for word in argument.split():
        if not word.startswith("-"):
            names.append(word)
        elif word in known:
            flags.add(word)
        else:
            raise BadUsage(f"no option {word} here; there is {', '.join(known) or 'none'}")
    return names, flags


class GuardedPlugin(DefaultControllerPlugin):  # type: ignore[misc]
    """All commands of one session."""

    def _ask(self, message: Message, timeout_s: float = COMMAND_S) -> Message:
        return dict(self.ctl.options.agent.ask(message, timeout_s))

    def _finish(self, answer: Message, verb: str, consequence: str) -> bool:
        """Says what failed, and what the peer lacks; returns whether the command was done at all."""
        if answer["outcome"] != Outcome.DONE:
            self.ctl.fail(f"{verb}: {answer['reason']}", Exit.FAILED)
        missing = texts.missing_on_peer(answer, consequence)
        if missing is not None:
            self.ctl.warn(missing)
            if answer["outcome"] == Outcome.DONE:
                self.ctl.exitstatus = int(Exit.INCOMPLETE)
        return bool(answer["outcome"] == Outcome.DONE)

    # ---- status -------------------------------------------------------------------------------------------

    def do_status(self, arg: str) -> None:
        """What runs, what is parked, and what a failover would start though it is stopped."""
        words, flags = take_flags(arg, ["--pair", "--json"])
        if "--json" in flags:
            self._json_status(words, both="--pair" in flags)
            return
        if "--pair" in flags:
            self._pair_status(words)
            return
        answer = self._ask({"op": "programs"}, 30.0)
        if answer["outcome"] == Outcome.DOWN:
            self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN
            raise_down(answer["reason"])
        elsewhere = self._elsewhere(answer, words)
        here = [word for word in words if word not in elsewhere]
        if here or not words:
            self._show_rows(answer, here, "")
        if elsewhere:
            self._show_there(elsewhere)
        if answer["role"] != "active" and not words:
            self.ctl.warn("this node is not active: nothing of the registry is loaded here; status --pair shows both nodes")
        for path, problem in answer["problems"].items():
            self.ctl.warn(f"{path} cannot be loaded: {problem}")

    def _show_rows(self, answer: Message, words: list[str], indent: str) -> None:
        rows, complaints = texts.select_rows(texts.status_rows(answer), words)
        for line in complaints:
            self.ctl.output(indent + line)
            self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN
        for line in texts.format_rows(rows):
            self.ctl.output(indent + line)
        if any(row.counts or (words and row.state == PARKED_STATE) for row in rows):
            self.ctl.exitstatus = LSBStatusExitStatuses.NOT_RUNNING

    def _elsewhere(self, answer: Message, words: list[str]) -> list[str]:
        """Which of ``words`` mean nothing on a node that is not active. ``answer``: its own to ``programs``."""
        if answer["role"] == "active" or "processes" not in answer:
            return []
        rows = texts.status_rows(answer)
        return [word for word in words if texts.select_rows(rows, [word])[1]]

    def _show_there(self, words: list[str]) -> None:
        me = self._ask({"op": "whoami"}, 10.0)
        there = self.ctl.options.agent.ask_peer({"op": "programs"})
        if there["outcome"] != Outcome.UP:
            self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN
            raise_down(there["reason"])
        self.ctl.output(f"at {me['peer']}, which is {there['role']}:")
        self._show_rows(there, words, "  ")

    def _pair_status(self, words: list[str]) -> None:
        me = self._ask({"op": "whoami"}, 10.0)
        own = self._ask({"op": "programs"}, 30.0)
        peer = self._ask({"op": "at-peer", "ask": {"op": "programs"}, "timeout_s": 5.0}, 10.0)
        for name, answer in ((me["node"], own), (me["peer"], peer.get("answer", peer))):
            if answer["outcome"] in (Outcome.UP, Outcome.DOWN):
                self.ctl.output(f"{name}  {answer['role']}")
            if answer["outcome"] == Outcome.UP:
                present = texts.select_rows(texts.status_rows(answer), words)[0]
                for line in texts.format_rows(present) or ["nothing of the registry is loaded"]:
                    self.ctl.output("  " + line)
                if answer["role"] == "active" and any(row.counts for row in present):
                    self.ctl.exitstatus = LSBStatusExitStatuses.NOT_RUNNING
            elif answer["outcome"] == Outcome.DOWN:
                self.ctl.output(f"  supervisord does not answer: {answer['reason']}")
                self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN
            else:
                self.ctl.output(f"{name}  cannot be reached: {answer.get('reason') or 'no link'}")
                self.ctl.exitstatus = int(Exit.PEER_UNREACHABLE)

    def _json_status(self, words: list[str], *, both: bool) -> None:
        """The same as a document (docs/json.md), with the same exit statuses."""
        me = self._ask({"op": "whoami"}, 10.0)
        answers = [(me["node"], self._ask({"op": "programs"}, 30.0))]
        if both:
            peer = self._ask({"op": "at-peer", "ask": {"op": "programs"}, "timeout_s": 5.0}, 10.0)
            answers.append((me["peer"], peer.get("answer", peer)))
        rows = []
        for name, answer in answers:
            row, unknown = texts.status_document(name, answer, words)
            rows.append(row)
            if answer["outcome"] not in (Outcome.UP, Outcome.DOWN):
                self.ctl.exitstatus = int(Exit.PEER_UNREACHABLE)
            elif answer["outcome"] == Outcome.DOWN or (unknown and not both):
                self.ctl.exitstatus = LSBStatusExitStatuses.UNKNOWN
            elif any(p["counts"] for p in row["programs"]) and (row["role"] == "active" or not both):
                self.ctl.exitstatus = LSBStatusExitStatuses.NOT_RUNNING
        self.ctl.output(json.dumps({"schema": texts.SCHEMA, "nodes": rows}, indent=2))

    def help_status(self) -> None:
        """What ``help status`` says."""
        super().help_status()
        self.ctl.output("status --pair\t\tGet status of both nodes")
        self.ctl.output("status --json\t\tGet status as JSON (docs/json.md)")
        self.ctl.output("On the standby, status <name> shows what runs on the active node.")
        self.ctl.output("PARKED programs are registered on both nodes and started by nobody but: start <name>")

    # ---- stop, start, restart -----------------------------------------------------------------------------

    def do_stop(self, arg: str) -> None:
        """Stops programs and parks their confs on both nodes."""
        names, flags = take_flags(arg, ["--keep", "--file", "--yes"])
        if not names:
            self._lack("stop", LSBInitExitStatuses.GENERIC)
            return
        keep = "--keep" in flags
        if "all" in names and "--yes" not in flags and not self._is_sure(keep):
            return
        message = {"op": "program-stop", "names": names, "keep": keep, "file": "--file" in flags}
        answer = {"programs": [], "processes": [], "parked_before": [], **self._ask(message)}
        for line in texts.stop_lines(answer, keep=keep):
            self.ctl.output(line)
        parked = texts.names_text(row["name"] for row in answer["programs"]) or "what was parked"
        done = self._finish(answer, "stop", f"it starts {parked}")
        if answer.get("left"):
            self.ctl.fail(f"still running: {', '.join(answer['left'])}", Exit.FAILED)
        elif done and keep and (answer["programs"] or answer["processes"]):
            names_again = " ".join(row["name"] for row in answer["programs"]) or "the whole program"
            self.ctl.warn(f"this does not last: {texts.NEXT_FAILOVER}; without --keep, stop {names_again} parks it")
        if not done and answer.get("park"):
            self.ctl.warn(f"parked nevertheless: {', '.join(answer['park'])}")
        for name in answer.get("unknown", ()):
            # Not of the registry: a local program, or no program at all. supervisorctl's own command knows what to say.
            super().do_stop(name)
        self._hint(answer.get("unknown", ()))

    def _is_sure(self, keep: bool) -> bool:
        from ha_agent.adapters.terminal import is_yes

        what = "Stop all programs of the registry?" if keep else "Stop and park all programs of the registry?"
        if is_yes(what):
            return True
        self.ctl.fail("nothing was stopped; stop --yes all does it without asking", Exit.REFUSED)
        return False

    def _hint(self, names: Iterable[str]) -> None:
        """Says what names may have been meant to be that no program has."""
        if not names:
            return
        answer = self._ask({"op": "programs"}, 30.0)
        rows = texts.status_rows(answer) if "processes" in answer else []
        known = {row.name for row in rows} | {row.name.partition(":")[0] for row in rows}
        for name in names:
            near = find_nearest(name, known) if name not in known else None
            if near is not None:
                self.ctl.warn(f"there is no {name}; did you mean {near}?")

    def _lack(self, verb: str, status: int) -> None:
        self.ctl.output(f"Error: {verb} requires a process name")
        self.ctl.exitstatus = status
        getattr(self, f"help_{verb}")()

    def help_stop(self) -> None:
        """What ``help stop`` says."""
        self.ctl.output("stop <name>\t\tStop a process and park its conf: no failover starts it again")
        self.ctl.output("stop <gname>:*\t\tStop and park all processes in a group")
        self.ctl.output("stop <name> <name>\tStop and park multiple processes or groups")
        self.ctl.output("stop all\t\tStop and park all processes of the registry (asks; --yes does not)")
        self.ctl.output("stop --keep <name>\tStop without parking: the next failover starts it again")
        self.ctl.output("stop --file <name>\tStop and park everything that is in the same conf")

    def do_start(self, arg: str) -> None:
        """Registers what is parked, and starts it."""
        names, flags = take_flags(arg, ["--file", "--regroup"])
        if not names:
            self._lack("start", LSBInitExitStatuses.INVALID_ARGS)
            return
        message = {"op": "program-start", "names": names, "file": "--file" in flags, "regroup": "--regroup" in flags}
        answer = self._ask(message)
        unparked = answer.get("unparked") or []
        self._show_results(answer, f", registered on {texts.places(answer)}" if unparked else "")
        for warning in answer.get("warnings", ()):
            self.ctl.warn(warning)
        self._finish(answer, "start", f"it does not start {texts.names_text(names)}")
        failed = [r for r in answer.get("results", ()) if r["status"] not in (Faults.SUCCESS, Faults.ALREADY_STARTED)]
        if unparked and failed:
            self.ctl.warn(f"{', '.join(unparked)} is registered nevertheless; stop {failed[0]['name']} parks it again")
        if "all" in names:
            self._tell_parked()
        for name in answer.get("unknown", ()):
            super().do_start(name)
        self._hint(answer.get("unknown", ()))

    def _show_results(self, answer: Message, more: str = "") -> None:
        for result in answer.get("results", ()):
            if result["status"] == Faults.FAILED:
                self.ctl.output(f"{full_name(result['group'], result['name'])}: ERROR (not RUNNING in time)")
            else:
                added = more if result["status"] == Faults.SUCCESS else ""
                self.ctl.output(self._startresult(result) + added)
            self.ctl.set_exitstatus_from_xmlrpc_fault(result["status"], Faults.ALREADY_STARTED)

    def _tell_parked(self) -> None:
        parked = sorted({row["name"] for row in self._ask({"op": "programs"}, 30.0).get("parked", ())})
        if parked:
            self.ctl.warn(f"parked programs stay parked; start them by name: {' '.join(parked)}")

    def help_start(self) -> None:
        """What ``help start`` says."""
        super().help_start()
        self.ctl.output("A parked program is registered again on both nodes; both are asked whether they could run it.")
        self.ctl.output("start --file <name>\tRegister and start everything that is in the same parked conf")
        self.ctl.output("start --regroup <name>\tRestart the program's group if only that can add it")

    def do_restart(self, arg: str) -> None:
        """Stops and starts programs; the registry stays as it is."""
        names, _ = take_flags(arg, [])
        if not names:
            self._lack("restart", LSBInitExitStatuses.GENERIC)
            return
        answer = self._ask({"op": "program-restart", "names": names})
        for name in answer.get("stopped", ()):
            group, _, process = name.partition(":")
            self.ctl.output(f"{full_name(group, process)}: stopped")
        self._show_results(answer)
        self._finish(answer, "restart", "")
        for name in answer.get("unknown", ()):
            super().do_stop(name)
            super().do_start(name)

    # ---- confs --------------------------------------------------------------------------------------------

    def do_update(self, arg: str) -> None:
        """Checks the confs and loads what changed."""
        names, _ = take_flags(arg, [])
        answer = self._ask({"op": "program-update", "names": names})
        for line in answer.get("lines", ()):
            self.ctl.output(line)
        for name in answer.get("unknown", ()):
            self.ctl.output(f"ERROR: no such group: {name}")
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC
        self._finish(answer, "update", "it runs what it has")
        for path, problem in answer.get("problems", {}).items():
            self.ctl.fail(f"{path} cannot be loaded: {problem}; if it was loaded before, that version stays", Exit.FAILED)

    def do_avail(self, arg: str) -> None:
        """All configured processes, the parked ones with them."""
        super().do_avail(arg)
        if not arg:
            for row in self._ask({"op": "programs"}, 30.0).get("parked", ()):
                self.ctl.output(f"{full_name(row['group'], row['name']):<32} {'parked':<9} {row['path']}")

    def do_remove(self, arg: str) -> None:
        """Unloads a group, and says that it is still registered."""
        super().do_remove(arg)
        registered = self._ask({"op": "programs"}, 30.0).get("groups", {})
        for name in arg.split():
            if name in registered:
                self.ctl.warn(f"{name} is still registered: {texts.NEXT_FAILOVER}; stop {name} parks it")

    def do_shutdown(self, arg: str) -> None:
        """Refused."""
        self._refuse("shutdown")

    def do_reload(self, arg: str) -> None:
        """Refused."""
        self._refuse("reload")

    def _refuse(self, verb: str) -> None:
        raise GuardRefused(f"{verb} is refused: {INSTEAD[verb]}")

    def help_shutdown(self) -> None:
        """What ``help shutdown`` says."""
        self.ctl.output(f"shutdown\t\tRefused: {INSTEAD['shutdown']}")

    def help_reload(self) -> None:
        """What ``help reload`` says."""
        self.ctl.output(f"reload\t\t\tRefused: {INSTEAD['reload']}")

    def do_open(self, arg: str) -> None:
        """Shows the status, where the address is this node's own."""
        own = self.ctl.options.serverurl
        if os.path.realpath(arg.strip().removeprefix("unix://")) != os.path.realpath(own.removeprefix("unix://")):
            raise GuardRefused(f"open is refused: this session is for {own}; the other node is shown by: status --pair")
        status = self.ctl.exitstatus
        self.do_status("")
        self.ctl.exitstatus = status

    def help_open(self) -> None:
        """What ``help open`` says."""
        self.ctl.output(f"open <url>\tShow the status; the only address is {self.ctl.options.serverurl}")

    # ---- logs ---------------------------------------------------------------------------------------------

    def do_tail(self, arg: str) -> None:
        """The end of a program's log, from the node on which supervisord has the program."""
        names = [word for word in arg.split() if not word.startswith("-")][:1]
        if names and self._elsewhere(self._ask({"op": "programs"}, 30.0), names):
            self.ctl.options.is_at_peer = True
        try:
            super().do_tail(arg)
        finally:
            self.ctl.options.is_at_peer = False

    def help_tail(self) -> None:
        """What ``help tail`` says."""
        super().help_tail()
        self.ctl.output("On the standby, tail shows the log on the active node.")

    def _tailf(self, path: str) -> None:
        """Follows a log until Ctrl-C; supervisorctl's own way needs supervisord's socket."""
        self.ctl.output("==> Press Ctrl-C to exit <==")
        words = path.strip("/").split("/")
        supervisor = self.ctl.get_supervisor()
        try:
            if words[0] == "mainlogtail":
                self._follow_main(supervisor)
            else:
                self._follow(self._log_reader(supervisor, words[1], words[2]))
        except KeyboardInterrupt:
            self.ctl.output("")

    def _log_reader(self, supervisor: Any, name: str, channel: str) -> Callable[[int | None], tuple[str, int]]:
        """A function that returns what a log holds from an offset on (None: its end), and the offset after that."""
        kind = channel.capitalize()
        read, tail = (getattr(supervisor, f"{verb}Process{kind}Log") for verb in ("read", "tail"))

        def read_on(offset: int | None) -> tuple[str, int]:
            if offset is None:
                text, size, _ = tail(name, 0, FIRST_BYTES)
                return str(text), int(size)
            size = int(tail(name, offset, 0)[1])
            if size < offset:
                # It was turned over.
                offset = 0
            if size == offset:
                return "", offset
            length = min(size - offset, BLOCK_BYTES)
            return str(read(name, offset, length)), offset + length

        return read_on

    def _follow(self, read_on: Callable[[int | None], tuple[str, int]]) -> None:
        offset: int | None = None
        while True:
            text, offset = read_on(offset)
            if text:
                self._write(text)
            else:
                time.sleep(FOLLOW_S)

    def _follow_main(self, supervisor: Any) -> None:
        shown = ""
        while True:
            seen = supervisor.readLog(-(BLOCK_BYTES if shown else FIRST_BYTES), 0)
            self._write(texts.appended(shown, seen))
            shown = seen
            time.sleep(FOLLOW_S)

    def _write(self, text: str) -> None:
        self.ctl.stdout.write(text)
        self.ctl.stdout.flush()

    def do_fg(self, arg: str) -> None:
        """Connects the terminal with one program."""
        names = arg.split()
        if len(names) != 1:
            self.ctl.output("ERROR: " + ("too many process names supplied" if names else "no process name supplied"))
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC
            return
        from ha_agent.supzcli.foreground import run_foreground

        supervisor = self.ctl.get_supervisor()
        readers = [self._log_reader(supervisor, names[0], channel) for channel in ("stdout", "stderr")]
        if not run_foreground(supervisor, names[0], readers, self.ctl.output, self._write):
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC

    # ---- folders ------------------------------------------------------------------------------------------

    def do_register(self, arg: str) -> None:
        """Registers and starts the program of a folder."""
        self.run_register(shlex.split(arg))

    def run_register(self, words: list[str]) -> None:
        """``register [--update] [--no-start] [--user NAME] DIR``."""
        from ha_agent.supzcli.folders import parse_register, register_lines, registration

        message = registration(parse_register(words))
        answer = self._ask(message)
        if answer["outcome"] == Outcome.DONE:
            for line in register_lines(message["name"], answer):
                self.ctl.output(line)
        runs = [r for r in answer.get("results", ()) if r["status"] == Faults.ALREADY_STARTED]
        for result in runs:
            self.ctl.output(f"{full_name(result['group'], result['name'])}: runs already")
        self._show_results({"results": [r for r in answer.get("results", ()) if r not in runs]})
        for warning in answer.get("warnings", ()):
            self.ctl.warn(warning)
        self._finish(answer, "register", f"it does not run {message['name']} as it is now")

    def help_register(self) -> None:
        """What ``help register`` says."""
        self.ctl.output("register <dir>\t\tRegister and start the program of a folder, by its program.ini")
        self.ctl.output("register --no-start <dir>\tRegister it parked")
        self.ctl.output("register --user <name> <dir>\tRoot: whoever wrote it, it is right and runs as that user")
        self.ctl.output("register --update <dir>\tRead its program.ini again; restart it only if that changed something")

    def do_deregister(self, arg: str) -> None:
        """Stops a program and removes its conf on both nodes."""
        self.run_deregister(shlex.split(arg))

    def run_deregister(self, words: list[str]) -> None:
        """``deregister [--file] NAME``."""
        names, flags = take_flags(" ".join(words), ["--file"])
        if len(names) != 1:
            raise BadUsage("deregister takes the name of one program")
        answer = self._ask({"op": "program-deregister", "name": names[0], "file": "--file" in flags})
        if answer["outcome"] == Outcome.DONE:
            where = texts.places(answer)
            self.ctl.output(f"{names[0]}: stopped, {answer['path']} removed on {where} (a copy is kept: ha-agent kept list)")
        self._finish(answer, "deregister", f"it starts {names[0]}")

    def help_deregister(self) -> None:
        """What ``help deregister`` says."""
        self.ctl.output("deregister <name>\tStop a program and remove its conf on both nodes; the conf is kept")

    def do_new(self, arg: str) -> None:
        """Writes the two files of a new program."""
        self.run_new(shlex.split(arg))

    def run_new(self, words: list[str]) -> None:
        """``new DIR [--command C] [--user U] [--numprocs N] [--workdir D]``."""
        from ha_agent.supzcli.folders import run_new

        for line in run_new(words):
            self.ctl.output(line)

    def help_new(self) -> None:
        """What ``help new`` says."""
        self.ctl.output("new <dir> [--command C] [--user U] [--numprocs N] [--workdir D]")
        self.ctl.output("\t\t\tWrite program.ini and sup_run.sh for a new program; asks for what is not said")

    def do_push(self, arg: str) -> None:
        """Copies the payload to the other node now."""
        self.run_push(shlex.split(arg))

    def run_push(self, words: list[str]) -> None:
        """``push DIR``."""
        if len(words) != 1 or words[0].startswith("-"):
            raise BadUsage("push takes one directory or file: supzcli push DIR")
        path = os.path.abspath(words[0])
        answer = self._ask({"op": "payload-sync", "below": path})
        me = self._ask({"op": "whoami"}, 10.0)
        if answer["outcome"] == Outcome.IN_SYNC:
            self.ctl.output(f"{path}: {me['peer']} has it, as all of the payload")
        else:
            exits = {Outcome.REFUSED: Exit.REFUSED, Outcome.HELD: Exit.REFUSED, Outcome.TIMED_OUT: Exit.TIMED_OUT}
            self.ctl.fail(f"push: {answer['reason']}", exits.get(Outcome(answer["outcome"]), Exit.INCOMPLETE))

    def help_push(self) -> None:
        """What ``help push`` says."""
        self.ctl.output("push <dir>\t\tCopy the files of [payload] to the other node now; <dir> must be part of them")
