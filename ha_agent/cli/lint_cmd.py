"""``ha-agent lint``: would supervisord load these confs here and there, and would it do what is meant."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.adapters.peeks import Peeks, read_regular
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.conf_text import read_sections
from ha_agent.core.confs import Verdict
from ha_agent.core.faults import FAULTS
from ha_agent.core.findings import Finding, Severity, worst_first
from ha_agent.core.lint import lint_conf, lint_together
from ha_agent.core.lint_verdict import drop_doubts, lint_verdict
from ha_agent.core.names import PARKED, is_registry_path
from ha_agent.core.settings import SupervisorSettings
from ha_agent.core.surroundings import Surroundings, surroundings_of
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit

SCHEMA = 1
MAX_BYTES = 4 * 1024 * 1024
JUDGE_S = 120.0

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}

_ELSEWHERE = (
    "users, directories, executables, the programs' own confs and %(ENV_x)s were not looked at: there is no {config} here"
)


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "say of each conf whether supervisord would load it, and what would not be as it is meant"
    parser = commands.add("lint", summary, "ha-agent lint --registry --peer", run)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="confs to check; they need not be in the registry; without agent.toml, as confs for other machines",
    )
    parser.add_argument("--registry", action="store_true", help="every conf of the registry")
    parser.add_argument("--peer", action="store_true", help="also ask the peer whether it could load and start them")
    parser.add_argument(
        "--format", choices=("people", "json", "lines"), default="people", help="lines: file:line: form, for editors"
    )
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1, too")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns 0, or 1 where there are errors."""
    if bool(options.files) is options.registry:
        complain("lint: name files, or --registry for all of them")
        return Exit.USAGE
    if _is_no_node(options):
        return _lint_elsewhere(options)
    nodes = Nodes(settings_of(options))
    root = nodes.settings.registry.path
    registry = read_registry(root)
    if options.registry:
        texts = {os.path.join(root, path): text for path, text in registry.items()}
        beside = {}
    else:
        texts = {name: _read(name) for name in options.files}
        given = {os.path.realpath(name) for name in options.files}
        beside = {p: t for p, t in registry.items() if os.path.realpath(os.path.join(root, p)) not in given}
    findings, problem = lint_texts(nodes, texts, beside, peer=options.peer, cwd=os.getcwd())
    show_findings(findings, options.format, texts)
    if problem:
        complain(f"{nodes.peer_name} was not asked: {problem}")
        return Exit.REFUSED if isinstance(problem, NotAllowed) else Exit.PEER_UNREACHABLE
    return _status(findings, options)


def _status(findings: list[Finding], options: argparse.Namespace) -> Exit:
    bad = (Severity.ERROR, Severity.WARNING) if options.strict else (Severity.ERROR,)
    return Exit.FAILED if any(f.severity in bad for f in findings) else Exit.DONE


def _is_no_node(options: argparse.Namespace) -> bool:
    """Whether files are to be checked on a machine that is no node: a laptop, or one that tries a repository of confs."""
    needs_node = options.registry or options.peer or options.config != DEFAULT_PATH
    return not needs_node and not os.path.lexists(DEFAULT_PATH)


def _lint_elsewhere(options: argparse.Namespace) -> Exit:
    """Checks files as confs for other machines. Files below the current directory are looked at, and no others."""
    texts = {name: _read(name) for name in options.files}
    around = Surroundings(Peeks(below=os.getcwd()).read, is_registered=False, cwd=os.getcwd())
    found = _lint_text(texts, {}, lambda path: around)
    loadable = {path: text for path, text in texts.items() if not path.endswith(PARKED)}
    checker = ConfChecker(SupervisorSettings(python=sys.executable), elsewhere=True)
    directories = {path: os.path.dirname(os.path.abspath(path)) for path in loadable}
    answer = judge_directly(checker, loadable, directories)
    if answer["failure"]:
        problem = f"supervisord's parser could not be asked: {answer['failure']}"
        found.append(Finding("not-checked", Severity.WARNING, problem, "pip install supervisor, beside ha-agent"))
    else:
        found += _from_answer(answer, loadable, "supervisord", lambda path: False)
    text = _ELSEWHERE.format(config=DEFAULT_PATH)
    found = [*worst_first(found), Finding("no-node", Severity.UNKNOWN, text, "on a node: ha-agent lint FILE --peer")]
    show_findings(found, options.format, texts)
    return _status(found, options)


def _read(path: str) -> str:
    """The text of a file. Raises ``OSError``."""
    with open(path, "rb") as file:
        return file.read(MAX_BYTES).decode("utf-8", "surrogateescape")


def read_registry(root: str) -> dict[str, str]:
    """The registry's confs as they are on this node's disk, by path; what cannot be read is left out."""
    texts = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root)
            if is_registry_path(path):
                try:
                    texts[path] = read_regular(os.path.join(root, path), MAX_BYTES).decode("utf-8", "surrogateescape")
                except OSError as error:
                    complain(f"{os.path.join(root, path)}: {error.strerror}")
    return texts


def lint_texts(
    nodes: Nodes, texts: Mapping[str, str], beside: Mapping[str, str], *, peer: bool, cwd: str
) -> tuple[list[Finding], Exception | None]:
    """All findings on ``texts``, with the registry's other confs ``beside``; and why the peer was not asked, if so.

    Relative paths begin at ``cwd``. The machine's files are read with the rights of whoever runs this.
    """
    root = nodes.settings.registry.path
    inside = surroundings_of(nodes.settings, Peeks().read, cwd)
    outside = replace(inside, is_registered=False)

    below = os.path.realpath(root) + os.sep

    @functools.cache
    def is_registered(path: str) -> bool:
        return os.path.realpath(os.path.join(cwd, path)).startswith(below)

    loadable = {path: text for path, text in texts.items() if not path.endswith(PARKED)}
    with ThreadPoolExecutor(1) as beside_us:
        # supervisord's parser needs as long for them as the rules of lint.
        judging = beside_us.submit(nodes.ask_own, {"op": "judge", "confs": loadable}, JUDGE_S)
        found = _lint_text(texts, beside, lambda path: inside if is_registered(path) else outside)
        found += _from_answer(_await_verdicts(nodes, judging, loadable), loadable, nodes.own_name, is_registered)
    problem: Exception | None = None
    if peer:
        try:
            answer = nodes.ask_peer({"op": "judge", "confs": loadable}, JUDGE_S)
            found += _from_answer(answer, loadable, nodes.peer_name, is_registered)
            found += _lint_payload(nodes, {path: text for path, text in loadable.items() if is_registered(path)})
        except (PeerUnreachable, CommandFailed, NoDaemon) as error:
            problem = error
    return worst_first(drop_doubts(found)), problem


def _lint_payload(nodes: Nodes, texts: Mapping[str, str]) -> Iterator[Finding]:
    """In what the files that programs of these confs need differ on the nodes, as the agents have compared them last."""
    if not texts:
        return
    own = next((n for n in nodes.status() if n["reachable"] and n["name"] == nodes.own_name), None)
    payload = own.get("payload") if own is not None and own["reachable"] else None
    if not payload:
        return
    paths = {s.program: (path, s.line) for path, text in texts.items() for s in read_sections(text) if s.is_program}
    for drift in payload["drifts"]:
        for where, line in sorted({paths[program] for program in drift["programs"] if program in paths}):
            text = f"{payload['starter']} would not start it as {payload['other']} does: {drift['why']}"
            remedy = FAULTS["payload-differs"].remedy
            yield Finding("payload-differs", Severity.WARNING, text, remedy, where, line=line)


def _lint_text(texts: Mapping[str, str], beside: Mapping[str, str], around: Callable[[str], Surroundings]) -> list[Finding]:
    found = [finding for path, text in texts.items() for finding in lint_conf(path, text, around(path))]
    return found + [f for f in lint_together({**beside, **texts}) if f.where in texts]


def _await_verdicts(nodes: Nodes, judging: Future[Any], texts: Mapping[str, str]) -> Mapping[str, Any]:
    """What the daemon answers, or supervisord's parser itself where there is none."""
    try:
        answer: Mapping[str, Any] = judging.result()
        return answer
    except (NoDaemon, CommandFailed):
        pass
    root = nodes.settings.registry.path
    directories = {path: os.path.dirname(os.path.join(root, path)) for path in texts}
    return judge_directly(ConfChecker(nodes.settings.supervisor), texts, directories)


def judge_directly(checker: ConfChecker, texts: Mapping[str, str], directories: Mapping[str, str]) -> dict[str, Any]:
    """The answer of supervisord's parser, of the form that the daemon's has."""

    async def judge() -> dict[str, Verdict]:
        try:
            return await checker.judge(texts, directories)
        finally:
            await checker.close()

    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        verdicts = asyncio.run(judge())
    except CheckerFailed as error:
        return {"failure": str(error)}
    plain = {
        path: {"problem": v.problem, "programs": [{"name": p.name, "missing": list(p.missing)} for p in v.programs]}
        for path, v in verdicts.items()
    }
    return {"failure": None, "verdicts": plain}


def _from_answer(
    answer: Mapping[str, Any], texts: Mapping[str, str], node: str, is_registered: Callable[[str], bool]
) -> list[Finding]:
    if answer.get("failure"):
        text = f"supervisord's parser could not be asked on {node}: {answer['failure']}"
        return [Finding("not-checked", Severity.WARNING, text, "see ha-agent doctor", "")]
    return [
        finding
        for path, verdict in answer["verdicts"].items()
        for finding in lint_verdict(path, texts[path], verdict, node, is_registered=is_registered(path))
    ]


def show_findings(findings: list[Finding], form: str, texts: Mapping[str, str]) -> None:
    """Prints what was found in ``texts``, for people, as JSON or as lines for editors."""
    if form == "json":
        print(json.dumps({"schema": SCHEMA, "files": sorted(texts), "findings": [f.to_dict() for f in findings]}, indent=2))
        return
    if form == "lines":
        for finding in findings:
            _show_line(finding)
        return
    for finding in findings:
        label = paint(_label(finding), _COLOURS.get(finding.severity, "dim"))
        line = f", line {finding.line}" if finding.line else ""
        where = f"{visible(finding.where)}{line}: " if finding.where else ""
        print(f"{where}{label}: {visible(finding.text)}  [{finding.code}]")
        if finding.remedy:
            print(f"    -> {visible(finding.remedy)}")
    print(_summary(findings, texts))


def _label(finding: Finding) -> str:
    return "note" if finding.severity is Severity.OK else finding.severity.name.lower()


def _show_line(finding: Finding) -> None:
    """One line in the form that editors read; what is about no file goes to standard error."""
    fix = f" ({finding.remedy})" if finding.remedy else ""
    if finding.where:
        print(visible(f"{finding.where}:{finding.line}: {_label(finding)}: {finding.text}{fix} [{finding.code}]"))
    else:
        complain(f"{_label(finding)}: {finding.text}{fix} [{finding.code}]")


def _summary(findings: list[Finding], texts: Mapping[str, str]) -> str:
    """How many of each there are, and how many programs name no user."""
    found = Counter(finding.severity for finding in findings)
    counts = ((len(texts), "conf"), (found[Severity.ERROR], "error"), (found[Severity.WARNING], "warning"))
    line = ", ".join(count_text(count, word) for count, word in counts)
    line += f", {count_text(found[Severity.OK], 'note')}" if found[Severity.OK] else ""
    programs = [s for text in texts.values() for s in read_sections(text) if s.is_program]
    as_root = sum(1 for program in programs if program.find("user") is None)
    return f"{line}; {count_text(as_root, 'program')} of {len(programs)} without user=, run as root" if as_root else line
