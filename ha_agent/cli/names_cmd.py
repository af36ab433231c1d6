"""``ha-agent names``: what may stand in a place of the command line, one a line, for the completion of shells.

It never complains: where the agent does not run, or does not let this user look, there is nothing to offer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.cli.nodes import Nodes, PeerUnreachable
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.alert_codes import CODES
from ha_agent.core.glossary import all_explanations
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.schema import SettingsError
from ha_agent.core.words import Exit

ANSWER_S = 2.0
"""Seconds within which each node must answer: somebody has pressed a key and waits."""


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "print what may stand in a place of the command line, for the completion of shells"
    parser = commands.add("names", summary, "ha-agent names programs", run)
    parser.add_argument("kind", choices=tuple(KINDS), help="what is asked for")


def run(options: argparse.Namespace) -> int:
    """Runs the command; its exit status is 0."""
    for name in sorted(set(KINDS[options.kind](options))):
        if name.isprintable():
            print(name)
    return Exit.DONE


def programs_of(answer: Mapping[str, Any]) -> set[str]:
    """The names of programs that an answer to ``programs`` has: registered, parked, or loaded and not this node's own."""
    parked = {str(row["name"]) for row in answer.get("parked", ())}
    loaded = {str(row["group"]) for row in answer.get("processes", ())} - set(answer.get("local", ()))
    return {*map(str, answer.get("autostart", ())), *parked, *loaded}


def _programs(options: argparse.Namespace) -> Iterable[str]:
    return programs_of(_ask(_nodes(options), "own", {"op": "programs"}))


def _kept(options: argparse.Namespace) -> Iterable[str]:
    from ha_agent.cli.kept_cmd import name_copies

    nodes = _nodes(options)
    if nodes is None:
        return ()
    rows = [
        {"node": name, **row}
        for which, name in (("own", nodes.own_name), ("peer", nodes.peer_name))
        for row in _ask(nodes, which, {"op": "kept-list"}).get("kept", ())
    ]
    name_copies(rows)
    return [str(row["name"]) for row in rows]


def _node_names(options: argparse.Namespace) -> Iterable[str]:
    nodes = _nodes(options)
    return () if nodes is None else (nodes.own_name, nodes.peer_name)


def _sinks(options: argparse.Namespace) -> Iterable[str]:
    nodes = _nodes(options)
    return () if nodes is None else nodes.settings.sinks


def _words(_: argparse.Namespace) -> Iterable[str]:
    return (one.word for one in all_explanations())


def _codes(_: argparse.Namespace) -> Iterable[str]:
    return {*CODES, *EVENTS}


KINDS: Mapping[str, Callable[[argparse.Namespace], Iterable[str]]] = {
    "programs": _programs,
    "kept": _kept,
    "nodes": _node_names,
    "sinks": _sinks,
    "words": _words,
    "codes": _codes,
}


def _nodes(options: argparse.Namespace) -> Nodes | None:
    try:
        return Nodes(settings_of(options))
    except (OSError, SettingsError):
        return None


def _ask(nodes: Nodes | None, which: str, message: dict[str, Any]) -> Mapping[str, Any]:
    if nodes is None:
        return {}
    try:
        return (nodes.ask_own if which == "own" else nodes.ask_peer)(message, ANSWER_S)
    except (NoDaemon, CommandFailed, PeerUnreachable, TimeoutError):
        return {}
