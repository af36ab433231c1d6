"""``ha-agent lint``: would supervisord load these confs here and there, and would it do what is meant."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.conf_checker import CheckerFailed, ConfChecker
from ha_agent.adapters.control import CommandFailed, NoDaemon, NotAllowed
from ha_agent.adapters.terminal import complain, paint
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.findings import Finding, Severity, worst_first
from ha_agent.core.lint import lint_conf, lint_together, lint_verdict
from ha_agent.core.names import PARKED, is_registry_path
from ha_agent.core.visible import visible
from ha_agent.core.width import count_text
from ha_agent.core.words import Exit

SCHEMA = 1
MAX_BYTES = 4 * 1024 * 1024
JUDGE_S = 120.0


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "say of each conf whether supervisord would load it, and what would not be as it is meant"
    parser = commands.add("lint", summary, "ha-agent lint --registry --peer", run)
    parser.add_argument("files", nargs="*", metavar="FILE", help="confs to check; they need not be in the registry")
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
    findings, problem = lint_texts(nodes, texts, beside, peer=options.peer)
    show_findings(findings, options.format, texts)
    if problem:
        complain(f"{nodes.peer_name} was not asked: {problem}")
        return Exit.REFUSED if isinstance(problem, NotAllowed) else Exit.PEER_UNREACHABLE
    bad = (Severity.ERROR, Severity.WARNING) if options.strict else (Severity.ERROR,)
    return Exit.FAILED if any(f.severity in bad for f in findings) else Exit.DONE


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
                    texts[path] = _read(os.path.join(root, path))
                except OSError as error:
                    complain(f"{os.path.join(root, path)}: {error.strerror}")
    return texts


def lint_texts(
    nodes: Nodes, texts: Mapping[str, str], beside: Mapping[str, str], *, peer: bool
) -> tuple[list[Finding], Exception | None]:
    """All findings on ``texts``, with the registry's other confs ``beside``; and why the peer was not asked, if so."""
    found: list[Finding] = []
    for path, text in texts.items():
        found += lint_conf(path, text)
    found += [f for f in lint_together({**beside, **texts}) if f.where in texts]
    loadable = {path: text for path, text in texts.items() if not path.endswith(PARKED)}
    found += _judge_here(nodes, loadable)
    problem: Exception | None = None
    if peer:
        try:
            answer = nodes.ask_peer({"op": "judge", "confs": loadable}, JUDGE_S)
            found += _from_answer(answer, loadable, nodes.peer_name)
        except (PeerUnreachable, CommandFailed, NoDaemon) as error:
            problem = error
    return worst_first(found), problem


def _judge_here(nodes: Nodes, texts: Mapping[str, str]) -> list[Finding]:
    """Asks the daemon, or supervisord's parser itself where there is none."""
    try:
        return _from_answer(nodes.ask_own({"op": "judge", "confs": dict(texts)}, JUDGE_S), texts, nodes.own_name)
    except (NoDaemon, CommandFailed):
        pass
    if sys.version_info < (3, 12):
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    try:
        verdicts = asyncio.run(_judge_directly(nodes, texts))
    except CheckerFailed as error:
        return _from_answer({"failure": str(error)}, texts, nodes.own_name)
    return _from_answer({"failure": None, "verdicts": verdicts}, texts, nodes.own_name)


async def _judge_directly(nodes: Nodes, texts: Mapping[str, str]) -> dict[str, Any]:
    checker = ConfChecker(nodes.settings.supervisor)
    root = nodes.settings.registry.path
    try:
        verdicts = await checker.judge(texts, {path: os.path.dirname(os.path.join(root, path)) for path in texts})
    finally:
        await checker.close()
    return {
        path: {"problem": v.problem, "programs": [{"name": p.name, "missing": list(p.missing)} for p in v.programs]}
        for path, v in verdicts.items()
    }


def _from_answer(answer: Mapping[str, Any], texts: Mapping[str, str], node: str) -> list[Finding]:
    if answer.get("failure"):
        text = f"supervisord's parser could not be asked on {node}: {answer['failure']}"
        return [Finding("not-checked", Severity.WARNING, text, "see ha-agent doctor", "")]
    found = []
    for path, verdict in answer["verdicts"].items():
        for finding in lint_verdict(path, texts[path], verdict, node):
            found.append(finding)
    return found


def show_findings(findings: list[Finding], form: str, texts: Mapping[str, str]) -> None:
    """Prints what was found in ``texts``, for people, as JSON or as lines for editors."""
    if form == "json":
        print(json.dumps({"schema": SCHEMA, "files": sorted(texts), "findings": [f.to_dict() for f in findings]}, indent=2))
        return
    if form == "lines":
        for finding in findings:
            fix = f" ({finding.remedy})" if finding.remedy else ""
            line = f"{finding.where}:{finding.line}: {finding.severity.name.lower()}: {finding.text}{fix} [{finding.code}]"
            print(visible(line))
        return
    colours = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
    for finding in findings:
        label = paint(finding.severity.name.lower(), colours.get(finding.severity, "dim"))
        line = f", line {finding.line}" if finding.line else ""
        print(f"{visible(finding.where)}{line}: {label}: {visible(finding.text)}  [{finding.code}]")
        if finding.remedy:
            print(f"    -> {visible(finding.remedy)}")
    errors = sum(1 for f in findings if f.severity is Severity.ERROR)
    counts = ((len(texts), "conf"), (errors, "error"), (len(findings) - errors, "warning"))
    print(", ".join(count_text(count, word) for count, word in counts))
