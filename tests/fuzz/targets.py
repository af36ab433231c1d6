"""What is fed with random inputs, and what must be so of each. A target makes its input from a given generator."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ha_agent.core.check_acts import MOST_MOVES, Move, merge_moves, moves_to_rows, read_moves
from ha_agent.core.conf_text import read_sections
from ha_agent.core.confs import Verdict, render_conf, select_confs, split_sections
from ha_agent.core.drift import find_drifts
from ha_agent.core.file_keys import read_files
from ha_agent.core.frames import FrameDecoder, FrameError, encode_frame
from ha_agent.core.lint import lint_conf, lint_together
from ha_agent.core.lint_verdict import lint_verdict
from ha_agent.core.manifest import EMPTY
from ha_agent.core.names import LONGEST_ACTIVE_NAME, active_name, path_problem
from ha_agent.core.payload import Kind, Mark, Named, Payload, ProgramPayload, UserMark, payload_message, read_payload
from ha_agent.core.payload_list import BadListing, Listing, decode_listing, judge_listing
from ha_agent.core.payload_plan import plan_payload
from ha_agent.core.payload_rules import PayloadRules
from ha_agent.core.payload_words import Part, find_candidates
from ha_agent.core.peer_summary import PeerSummary, WrongPeer, summary_message
from ha_agent.core.program_ini import LogRules, ProgramIniError, Registrant, render_program
from ha_agent.core.requests import Malformed
from ha_agent.core.supervisor_words import without_values
from ha_agent.core.surroundings import Surroundings
from ha_agent.core.targets import read_headers
from ha_agent.core.transaction import (
    BadTransaction,
    ReceiverView,
    Watermark,
    judge_transaction,
    parse_transaction,
)
from ha_agent.core.words import Role, VrrpState
from ha_agent.daemon.operations.table import OPERATIONS
from tests.fuzz.values import ODD_TEXTS, flip, make_value, spoil
from tests.fuzz.web import feed_web

LINES = (
    "[program:x]", "[program:y]", "[program: z]", "[fcgi-program:f]", "[group:g]", "[group:g] ]", "[eventlistener:e]",
    "[DEFAULT]",
    "[supervisord]", "[include]", " [program:i]", "[program:x ; y]", "[]", "[[a]]", "command=/bin/true",
    "command=/bin/sleep 1",
    "command", "command=", " command=/bin/true", "\tcommand=x", "programs=x,y", " programs=x", "programs:x", "numprocs=2",
    "numprocs=6000", "numprocs=%(ENV_N)s", "process_name=%(program_name)s_%(process_num)02d", "environment=A=1,B=\"2\"",
    "environment=PW=\"a%b\"", "environment=A", "user=nobody", "user=root", "user=nosuch", "priority=5", "priority=x",
    "files=/etc/*.conf", "stdout_logfile=/nowhere/x.log", "stdout_logfile=/tmp/x.log", "directory=%(here)s", "; remark",
    "# remark",
    "events=TICK_5", "result_handler=os:system", "autostart=false", "%(x)s", "a=%(program_name)99999s", "socket=unix:///x",
    "; ha-agent: files=/opt/x, /opt/y/", "; ha-agent: files=x,/,/../x",
    "; ha-agent: after=x, y, tcp://127.0.0.1:1", "#ha-agent:after=", "; ha-agent: wait_s=1e9", "; ha-agent: on_timeout=skip",
    "socket=tcp://1:2", "=", ":", "   ", "stopsignal=TERM", "exitcodes=0,2", "umask=022", "loglevel=x",
)  # fmt: skip
ENDS = ("\n", "\n", "\n", "\n", "\r\n", "\r", "\n\n", "\n ", "\x0b", "\x85", "\0", "")

SAMPLE_TXN = {
    "epoch": 4, "claimed_by": "a", "generation": 1, "base": EMPTY.hash, "result": EMPTY.hash,
    "puts": [["x.conf", 0o644, "0" * 64]], "deletes": ["y.conf"], "contents": {}, "staging": None, "intent": False,
}  # fmt: skip
MOVES = (Move(1000.5, "shop", "a", 3), Move(2000.5, "db", "b", 4, True))
SAMPLE_SUMMARY = summary_message("b", Role.STANDBY, VrrpState.BACKUP, Watermark(3, "a"), 7, "0" * 64, moves=MOVES)


def feed_frames(chance: random.Random) -> None:
    """Bytes as they come from a socket: only frames with objects in them come out, and of these no NaN."""
    body = json.dumps(make_value(chance)).encode("ascii", "replace")
    data = flip(chance, struct.pack(">I", len(body)) + body)
    decoder = FrameDecoder(max_bytes=64 * 1024)
    try:
        messages = decoder.feed(data)
    except FrameError:
        return
    assert decoder.pending_bytes <= len(data)
    for message in messages:
        assert FrameDecoder().feed(encode_frame(message)) == [message]


def feed_requests(chance: random.Random) -> None:
    """A request of any operation: read, or malformed."""
    operation = chance.choice(OPERATIONS)
    message = spoil(chance, {name: make_value(chance) for name in operation.request.__dataclass_fields__})
    try:
        operation.request.read(message)
    except Malformed as error:
        assert len(str(error)) < 300


def feed_transactions(chance: random.Random) -> None:
    """A transaction: refused, or one that is judged without an exception."""
    try:
        txn = parse_transaction(spoil(chance, SAMPLE_TXN))
    except BadTransaction:
        return
    judge_transaction(txn, ReceiverView(Role.STANDBY, Watermark(3, "a"), EMPTY, 0.5, 3))
    assert all(path_problem(e.path) is None and not e.mode & 0o002 for e in txn.puts)


SAMPLE_PAYLOAD: dict[str, Any] = {
    "rows": [
        ["/opt/app", "d", 0o755, "root", "root", "", 0, 0],
        ["/opt/app/x", "f", 0o644, "app", "#7", "0" * 64, 3, 10**18],
        ["/opt/app/l", "l", 0o777, "root", "root", "x", 0, 0],
    ],
    "left_out": ["/opt/app/y"],
    "scope": [["/opt/app"], ["*.log"]],
}


def feed_payload(chance: random.Random) -> None:
    """A list of payload: refused, or one that holds nothing outside of this node's rules and is planned."""
    rules = PayloadRules(("/opt/app",), ("*.log",))
    rows = []
    for row in SAMPLE_PAYLOAD["rows"]:
        named = {str(number): value for number, value in enumerate(row)}
        rows.append(list(spoil(chance, named).values()))
    raw = json.dumps(spoil(chance, {**SAMPLE_PAYLOAD, "rows": rows})).encode("ascii", "replace")
    text = base64.b64encode(zlib.compress(flip(chance, raw) if chance.random() < 0.2 else raw)).decode()
    try:
        listing = decode_listing(text)
    except BadListing:
        return
    if judge_listing(listing, rules) is None:
        assert all(rules.may_hold(entry.path) and ".." not in entry.path.split("/") for entry in listing)
        plan_payload(listing, Listing([]), ())


def feed_summaries(chance: random.Random) -> None:
    """Signs of life."""
    try:
        summary = PeerSummary.parse(spoil(chance, SAMPLE_SUMMARY), 0.0)
    except WrongPeer:
        return
    assert 0 <= summary.mark.epoch < 2**62 and 0 <= summary.generation < 2**62
    moves = merge_moves(MOVES, summary.moves or ())
    assert len(moves) <= MOST_MOVES and read_moves(moves_to_rows(moves)) == moves


def feed_names(chance: random.Random) -> None:
    """Two paths of a registry: short names in the active set, and different ones."""
    made = []
    for _ in range(2):
        words = chance.choices(["a", "%2E", "%-", "é", "\udcff", "/", ".", "x" * 60, " "], k=chance.randrange(1, 8))
        made.append("".join(words) + chance.choice([".conf", ".ini", ".ini.conf", "%2Eini.conf"]))
    if any(path_problem(path) for path in made):
        return
    names = [active_name(path) for path in made]
    assert (names[0] == names[1]) == (made[0] == made[1]), made
    for name in names:
        assert len(name) <= LONGEST_ACTIVE_NAME and name.endswith(".conf") and "/" not in name and name[0] != ".", name


GOOD = (
    "priority=5", "autostart=false", "environment=A=1,B=\"2\"", "user=root", "; remark", "stdout_logfile=/tmp/x.log",
    "umask=022", "directory=%(here)s", "numprocs=2\nprocess_name=%(process_num)d", "environment=\n  A=1,\n  B=2",
    "stopsignal=TERM", "",
    "command=/bin/echo a ; remark", "startsecs = 3", "exitcodes: 0,2",
)  # fmt: skip


def make_conf(chance: random.Random) -> str:
    """A conf of good lines, with a few odd lines and odd ends of lines among them; or of odd ones alone."""
    if chance.randrange(4):
        lines = ["[program:x]", "command=/bin/true", *chance.choices(GOOD, k=chance.randrange(4))]
        if chance.randrange(2):
            lines += ["[program:y]", "command=/bin/true", *chance.choices(GOOD, k=chance.randrange(3))]
        if not chance.randrange(3):
            members = chance.choice(["programs=x,y", "programs: x", "programs=\n x,z"])
            lines += [chance.choice(["[group:g]", "[group: g]"]), members]
        for _ in range(chance.randrange(3)):
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(LINES))
        end = chance.choice(["\n", "\r\n", "\r"])
        return "".join(line + (end if chance.randrange(20) else chance.choice(ENDS)) for line in lines)
    text = "".join(chance.choice(LINES) + chance.choice(ENDS) for _ in range(chance.randrange(1, 12)))
    if not chance.randrange(4):
        text = "[program:x]\ncommand=/bin/true\n" + text
    if not chance.randrange(12):
        text = text[: len(text) // 2] + chance.choice(ODD_TEXTS) + text[len(text) // 2 :]
    return text


ALICE = Registrant("alice", frozenset({"alice"}), is_root=False)


def feed_program_ini(chance: random.Random) -> None:
    """A program.ini of somebody who is not root: one section comes out of it, with that user and no file that root opens."""
    text = chance.choice(["[program]\n", "", "[program:x]\n"]) + make_conf(chance).replace("[program:x]\n", "")
    directory = chance.choice(["/srv/x", "/srv/x y", "/srv/\n", "x"])
    try:
        conf = render_program("x", directory, text, ALICE, LogRules("/var/log", "1MB", 2))
    except ProgramIniError as error:
        assert error.problems
        return
    assert [s for s, _ in split_sections(conf)] == [None, "program:x"]
    (section,) = read_sections(conf)
    assert section.value("user", "") == "alice"
    assert section.value("stdout_logfile", "").startswith("/var/log/") and section.find("serverurl") is None


PAYLOAD = Payload(
    {"x": ProgramPayload("c", (Named(Part.BINARY, "x", "/bin/x"), Named(Part.LISTED, "/l", "/l")), ("svc",))},
    {"/bin/x": Mark(Kind.FILE, "d", 1, 2, 3.0, 0o755, "root", (("/bin/x", "y", 1.0),)), "/l": Mark(Kind.DIRECTORY)},
    {"svc": UserMark(1, {"svc": 1})},
)


def feed_payloads(chance: random.Random) -> None:
    """What a peer says that it has of programs' files: refused, or compared without an error."""
    message = payload_message(PAYLOAD)
    for key in message:
        if isinstance(message[key], dict):
            message[key] = {name: spoil(chance, one) if isinstance(one, dict) else one for name, one in message[key].items()}
    try:
        theirs = read_payload(spoil(chance, message))
    except ValueError:
        return
    assert find_drifts(PAYLOAD, theirs, "a", "b") == find_drifts(theirs, PAYLOAD, "b", "a")
    assert theirs.hash == read_payload(payload_message(theirs)).hash


SHELL_WORDS = (
    "bash -c ", "sh ", "exec ", "/x/run.sh ", "cd /x && ", "'", '"', "\\", "; ", " | ", "& ", "> /x ", "$A ", "`",
    "sudo -u x ", "nginx ", "-c /x.conf ", "env ", "%(here)s/", "%% ", "trap ", "#!/bin/sh\n", "daemon off;\n", "done ",
    "pidproxy ", "\udcff", "php-fpm ", "python3 -m ", "{ ", "(", ")", "<<", "2>&1 ", "\0", "include ",
)  # fmt: skip


def feed_texts(chance: random.Random) -> None:
    """What reads a conf's text without the parser: lint, headers, rendering, supervisord's messages."""
    text = make_conf(chance)
    lint_conf("x.conf", text)
    lint_together({"x.conf": text, "y.conf": make_conf(chance)})
    command = "".join(chance.choices(SHELL_WORDS, k=chance.randrange(1, 9)))
    script = "".join(chance.choices(SHELL_WORDS, k=20))
    lint_conf("/r/x.conf", f"[program:x]\ncommand={command}\n", Surroundings(lambda path: script))
    for problem in (text[:500], f"{chance.choice(text.split() or [''])} in section 'program:x' (file: 'this file')"):
        for found in lint_verdict("x.conf", text, {"problem": problem}, "node"):
            assert found.line <= text.count("\n") + text.count("\r") + 1 or problem.startswith("line ")
    read_files(text, "/r")
    assert all(path.startswith("/") for one in find_candidates(command, "/x", ("/bin",)) for path in one.paths)
    read_headers("x.conf", text)
    render_conf(text, "/r", {"g": ("x",)})
    assert "secret" not in without_values(f"Format string 'a{text!r}secret' for 'environment' is badly formatted: x")


PURE: Mapping[str, Callable[[random.Random], None]] = {
    "frames": feed_frames,
    "requests": feed_requests,
    "transactions": feed_transactions,
    "summaries": feed_summaries,
    "payload": feed_payload,
    "names": feed_names,
    "program.ini": feed_program_ini,
    "payloads": feed_payloads,
    "texts": feed_texts,
    "web": feed_web,
}

# ---- confs, with supervisord's parser on both sides --------------------------------------------------------

INNOCENT = "[program:innocent]\ncommand=/bin/true\n"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What supervisord makes of a directory of confs: program names by group, or why it refuses all."""

    groups: Mapping[str, tuple[str, ...]]
    problem: str | None = None


def load_as_supervisord(directory: str) -> Loaded:
    """Reads all confs in ``directory`` with supervisord's own code, as it does itself."""
    from supervisor.options import ServerOptions

    options: Any = ServerOptions()
    options.here = directory
    main = os.path.join(directory, "main")
    pathlib.Path(main).write_text(f"[supervisord]\n[include]\nfiles={directory}/*.conf\n")
    try:
        with open(main, encoding="utf-8") as file:
            section = options.read_config(file)
    except Exception as error:  # noqa: BLE001 whatever it raises is a refusal
        return Loaded({}, f"{type(error).__name__}: {error}")
    return Loaded({g.name: tuple(c.name for c in g.process_configs) for g in section.process_group_configs})


def check_verdict(text: str, verdict: Verdict, directory: str) -> None:
    """What was judged loadable loads beside an innocent conf, makes the programs that were named, and changes no other."""
    assert verdict.problem is None or 0 < len(verdict.problem) <= 600, verdict.problem
    if verdict.problem is not None:
        return
    selection = select_confs({"a.conf": Verdict(), "x.conf": verdict})
    data = render_conf(text, "/etc/supervisor/conf.d", selection.groups).encode("utf-8", "surrogateescape")
    pathlib.Path(directory, "a.conf").write_text(INNOCENT)
    pathlib.Path(directory, "x.conf").write_bytes(data)
    loaded = load_as_supervisord(directory)
    assert loaded.problem is None, (loaded.problem, text)
    processes = {p for program in verdict.programs for p in program.processes}
    assert loaded.groups["innocent"] == ("innocent",), text
    assert {p for group, names in loaded.groups.items() if group != "innocent" for p in names} == processes, text
    assert set(loaded.groups) - {"innocent"} == set(selection.groups), text
