"""How the command line is read: a clear line for a word that is no command, and the usage of the command that was meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ha_agent.core.nearest import did_you_mean
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit

ALONE: Mapping[str, str] = {
    "witness": "status",
    "maintenance": "show",
    "alert": "list",
    "kept": "list",
    "payload": "status",
    "config": "show",
    "keepalived": "render",
    "listener": "render",
}
"""What a command with commands of its own does where none of them is named: it shows, and changes nothing."""

ELSEWHERE: Mapping[str, str] = {
    "start": "programs are started with: supzcli start NAME",
    "stop": "programs are stopped with: supzcli stop NAME",
    "restart": "programs are restarted with: supzcli restart NAME; the agent with: systemctl restart ha-agent",
    "update": "changed confs are loaded with: supzcli update",
    "tail": "a program's log is shown with: supzcli tail NAME",
    "reload": "agent.toml is read again with: systemctl reload ha-agent",
    "failover": "ha-agent switchover hands over; ha-agent failover-test tries what a failure does",
}
"""Words that hands type here and that are done by another command."""


def misplaced_option(words: Sequence[str]) -> str | None:
    """Where an option belongs that stands before the command; None where the first word is no option, or one of its own."""
    option = words[0].partition("=")[0]
    if not option.startswith("-") or option in ("-h", "--help", "--version"):
        return None
    return f"{option} stands behind the command, as in: ha-agent status {option}"


def complete_words(words: Sequence[str]) -> list[str]:
    """The command line with what its first word does alone, where nothing else was named: ``alert -n 5`` lists."""
    more = list(words[1:])
    if words and words[0] in ALONE and (not more or more[0].startswith("-")) and not {"-h", "--help"} & set(more):
        return [words[0], ALONE[words[0]], *more]
    return list(words)


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose complaints name the command that was meant; ``groups`` orders the commands of its help."""

    groups: Mapping[str, Sequence[str]] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what this command does not know is complained of here, and not by the parser above it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse_unknown(unknown)
        return found, unknown

    def _refuse_unknown(self, unknown: Sequence[str]) -> NoReturn:
        word = unknown[0]
        if not word.startswith("-"):
            self.error(f"there is nothing to do with {visible(word)!r} here")
        name = word.partition("=")[0]
        known = [one for one in self._option_string_actions if one.startswith("--")]
        self.error(f"no option {visible(name)}; {did_you_mean(name, known, 'there is ' + ', '.join(sorted(known)))}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            word, known = visible(str(value)), list(action.choices)
            if self.prog == "ha-agent" and word in ELSEWHERE:
                hint = ELSEWHERE[word]
            else:
                listed = f"{self.prog} --help lists all" if len(known) > 8 else f"there is {', '.join(sorted(known))}"
                hint = did_you_mean(word, known, listed)
            print(f"{self.prog}: no command {word!r}; {hint}", file=sys.stderr)
            self.exit(int(Exit.USAGE))
        super()._check_value(action, value)

    def format_help(self) -> str:
        """As argparse's; where there are ``groups``, with the commands in these and those that have none at the end."""
        parts = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        if self.groups is None or not parts:
            return super().format_help()
        rows = {row.dest: row for row in parts[0]._choices_actions}
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        left = [name for name in rows if not any(name in names for names in self.groups.values())]
        for title, names in (*self.groups.items(), ("more", left)):
            formatter.start_section(title)
            formatter.add_arguments([rows[name] for name in names if name in rows])
            formatter.end_section()
        formatter.start_section("options")
        formatter.add_arguments([a for a in self._actions if a.option_strings])
        formatter.end_section()
        formatter.add_text(self.epilog)
        return str(formatter.format_help())
