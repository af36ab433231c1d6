"""``ha-agent config``: this node's agent.toml, and the other node's beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from ha_agent.adapters.terminal import complain, is_yes, paint
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands, settings_of
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings_compare import (
    VIP_KEYS,
    Kind,
    SettingRow,
    compare_settings,
    keys_that_travel,
    keys_to_agree,
    values_in_force,
    values_to_agree,
)
from ha_agent.core.settings_sample import sample_toml, settings_as_dict, toml_value
from ha_agent.core.visible import visible
from ha_agent.core.words import CommandOutcome, Exit, Outcome

SCHEMA = 1

SAID = {
    Kind.MUST_AGREE: "must be the same on both nodes",
    Kind.MUST_NAME: "is not what the other node says of itself, or of this one",
    Kind.MAY_DIFFER: "may differ",
}
NOT_SET = "not there"
APPLIED: Mapping[str, Exit] = {
    Outcome.DONE: Exit.DONE,
    Outcome.REFUSED: Exit.REFUSED,
    CommandOutcome.WOULD_DO: Exit.DONE,
}
OF_KEEPALIVED = frozenset({"vrrp.vip", "vrrp.router_id", "vrrp.advert_int_s", "vrrp.nopreempt"})
"""Settings that stand in keepalived.conf, too."""


def add_parser(commands: Commands) -> None:
    """Adds the commands' grammar."""
    words = "check|show|diff|apply|sample"
    summary = "check, show, compare or sample the configuration"
    parts = commands.add_group("config", summary, "ha-agent config check", words)
    check = parts.add("check", "report all problems of the file", "ha-agent config check", run_check)
    check.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    show = parts.add("show", "show every value in force", "ha-agent config show --json", run_show)
    show.add_argument("--json", action="store_true", help="as JSON")
    summary = "compare the file with what the agent works with, or with what the peer's agent works with"
    diff = parts.add("diff", summary, "ha-agent config diff --peer", run_diff)
    diff.add_argument("--peer", action="store_true", help="with the other node's, and what the two must have alike")
    diff.add_argument("--json", action="store_true", help="as JSON (docs/json.md)")
    summary = "have the peer's file say what this one does where both must agree; its other lines stay (root)"
    apply = parts.add("apply", summary, "ha-agent config apply --peer", run_apply)
    apply.add_argument("--peer", action="store_true", required=True, help="at the other node")
    apply.add_argument("--dry-run", action="store_true", help="show what would be set, set nothing")
    apply.add_argument("--yes", action="store_true", help="do it without asking")
    apply.add_argument("--json", action="store_true", help="as JSON (docs/json.md); asks nothing, so needs --yes")
    sample = parts.add("sample", "print a commented file with every key", "ha-agent config sample > agent.toml", run_sample)
    sample.add_argument("--unset", action="store_true", help="with every key as a comment")


def run_check(options: argparse.Namespace) -> int:
    """Runs ``config check``."""
    if not options.json:
        settings_of(options)
        print(f"{options.config}: good")
        return Exit.DONE
    problems: list[dict[str, str]] = []
    try:
        settings_of(options)
    except SettingsError as error:
        problems = [{"key": p.key, "found": p.found, "allowed": p.allowed} for p in error.problems]
    print(json.dumps({"schema": SCHEMA, "file": options.config, "problems": problems}, indent=2))
    return Exit.USAGE if problems else Exit.DONE


def run_show(options: argparse.Namespace) -> int:
    """Runs ``config show``."""
    values = settings_as_dict(settings_of(options))
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        for section, keys in values.items():
            print(f"[{section}]")
            for name, value in keys.items():
                print(f"{name} = {toml_value(value)}")
            print()
    return Exit.DONE


def run_sample(options: argparse.Namespace) -> int:
    """Runs ``config sample``."""
    sys.stdout.write(sample_toml(unset=options.unset))
    return Exit.DONE


def _compare(options: argparse.Namespace, nodes: Nodes) -> list[SettingRow]:
    """The file here against what is in force, there or here."""
    if options.peer:
        there = nodes.ask_peer({"op": "settings"})["values"]
        shown = values_in_force(nodes.settings, to_peer=True)
        return list(compare_settings(shown, there, keys_to_agree(nodes.settings)))
    own = values_in_force(nodes.settings)
    in_force = nodes.ask_own({"op": "settings"})["values"]
    keys = sorted(key for key in own.keys() | in_force.keys() if own.get(key) != in_force.get(key))
    return [SettingRow(key, Kind.MUST_AGREE, own.get(key), in_force.get(key)) for key in keys]


def run_diff(options: argparse.Namespace) -> int:
    """Runs ``config diff``; returns 1 where something is not as it must be, as diff(1) does."""
    nodes = Nodes(settings_of(options))
    rows = _compare(options, nodes)
    wrong = [row for row in rows if row.kind is not Kind.MAY_DIFFER]
    if options.json:
        there = nodes.peer_name if options.peer else nodes.own_name
        found = [
            {"key": r.key, "kind": r.kind.value if options.peer else None, "here": r.own, "there": r.peer} for r in rows
        ]
        print(json.dumps({"schema": SCHEMA, "here": nodes.own_name, "there": there, "differences": found}, indent=2))
    elif options.peer:
        for row in rows:
            _show_row(row, nodes.own_name, nodes.peer_name, SAID[row.kind], paint_it=row in wrong)
        _say_what_to_do(rows, nodes)
    else:
        for row in rows:
            _show_row(row, options.config, "in force", "", paint_it=True)
        print("systemctl reload ha-agent has the agent read the file again" if rows else "the agent works with what it says")
    return Exit.FAILED if wrong else Exit.DONE


def _show_row(row: SettingRow, here: str, there: str, said: str, *, paint_it: bool) -> None:
    text = f"{row.key}: {_shown(row.own)} {f'on {here}' if said else f'in {here}'}, {_shown(row.peer)} "
    text += f"on {there}: {said}" if said else there
    print(paint(visible(text), "yellow") if paint_it else visible(text))


def _shown(value: Any) -> str:
    return NOT_SET if value is None else toml_value(value)


def _say_what_to_do(rows: list[SettingRow], nodes: Nodes) -> None:
    told = {row.key for row in rows if row.kind is Kind.MUST_AGREE}
    travels = told & keys_that_travel(nodes.settings)
    if not any(row.kind is not Kind.MAY_DIFFER for row in rows):
        print("what both nodes must say alike is alike")
    if travels:
        print(f"ha-agent config apply --peer sets {', '.join(sorted(travels))} at {nodes.peer_name} as it is here")
    if told - travels:
        print(f"{', '.join(sorted(told - travels))} is set by root of each node in its own file")


def run_apply(options: argparse.Namespace) -> int:
    """Runs ``config apply --peer``."""
    nodes = Nodes(settings_of(options))
    if options.json and not (options.yes or options.dry_run):
        complain("--json asks nothing: add --yes")
        return Exit.USAGE
    wanted = values_to_agree(nodes.settings)
    in_force = nodes.ask_own({"op": "settings"})["values"]
    if stale := sorted(key for key in wanted if in_force.get(key) != wanted[key]):
        complain(f"note: the agent here does not work with {', '.join(stale)} yet: systemctl reload ha-agent")
    travels = keys_that_travel(nodes.settings)
    rows = [r for r in _compare(options, nodes) if r.key in travels and r.kind is Kind.MUST_AGREE]
    differing = {row.key for row in rows}
    differing |= VIP_KEYS if differing & VIP_KEYS else set()
    due = {key: value for key, value in wanted.items() if key in differing}
    if not options.json:
        for row in rows:
            print(visible(f"{nodes.peer_name}: {row.key} = {_shown(row.own)} (was {_shown(row.peer)})"))
    if not due:
        return _say_applied(options, nodes, {"outcome": Outcome.DONE, "changed": [], "kept": None})
    if options.dry_run:
        return _say_applied(options, nodes, {"outcome": CommandOutcome.WOULD_DO, "changed": sorted(due), "kept": None})
    if not options.yes and not is_yes(f"Set this in agent.toml of {nodes.peer_name}?"):
        complain("nothing was changed; --yes does it without asking")
        return Exit.REFUSED
    return _say_applied(options, nodes, nodes.ask_peer({"op": "settings-apply", "values": due}))


def _say_applied(options: argparse.Namespace, nodes: Nodes, answer: dict[str, Any]) -> int:
    outcome, changed = str(answer["outcome"]), list(answer.get("changed") or ())
    code = APPLIED.get(outcome, Exit.FAILED)
    if options.json:
        said = {"outcome": outcome, "node": nodes.peer_name, "changed": changed}
        print(json.dumps({"schema": SCHEMA, **said, "kept": answer.get("kept"), "reason": answer.get("reason")}, indent=2))
    elif code != Exit.DONE:
        complain(f"{nodes.peer_name}: nothing was changed: {answer.get('reason', outcome)}")
    elif options.dry_run and changed:
        print("nothing was changed")
    elif not changed:
        print(f"what both nodes must say alike is alike on {nodes.peer_name}")
    else:
        print(
            f"{nodes.peer_name}: {', '.join(changed)} set; the former file is {answer['kept']}, and the agent begins again"
        )
        if set(changed) & {*VIP_KEYS, "vrrp.router_id", "vrrp.advert_int_s", "vrrp.nopreempt"}:
            print(
                f"keepalived there works with the old ones: at {nodes.peer_name}: ha-agent keepalived write, and reload it"
            )
    return code
