"""What is said of programs to operators, by supzcli and the dashboard: data in, lines out. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ha_agent.core.supervisor_words import PARKED_STATE, STOPPED_STATES, WAITING_STATE, State, full_name
from ha_agent.core.wait_texts import say_unmet, say_wait
from ha_agent.core.width import pad, width_of

SCHEMA = 1
NEXT_FAILOVER = "the next failover would start it"


class Row(NamedTuple):
    """One line of a status. ``counts``: it makes the exit status 3."""

    name: str
    state: str
    text: str
    counts: bool


def status_rows(answer: Mapping[str, Any]) -> list[Row]:
    """The lines of a status, from the agent's answer to ``programs``: what supervisord has, what waits, what is parked."""
    parked = {row["name"]: row for row in answer["parked"]}
    autostart = set(answer["autostart"])
    rows = []
    shown = set()
    for info in answer["processes"]:
        name, group, state = info["name"], info["group"], info["statename"]
        is_parked = name in parked and parked[name]["group"] == group and state in STOPPED_STATES
        if is_parked:
            shown.add(name)
            rows.append(Row(full_name(group, name), PARKED_STATE, _parked_text(parked[name]), False))
            continue
        text = str(info["description"])
        registered = group not in answer["local"] and bool({group, name} & autostart)
        if registered and state == State.STOPPED:
            text += f"  stopped but registered: {NEXT_FAILOVER}"
        elif registered and state == State.EXITED and info["exitstatus"] != 0:
            text += f"  ended but registered: {NEXT_FAILOVER}"
        rows.append(Row(full_name(group, name), state, text, state in STOPPED_STATES))
    for wait in answer.get("waits", ()):
        known = {row.name for row in rows}
        given_up = wait["given_up"] is not None
        text = say_unmet(wait["waits_for"]) if given_up else say_wait(wait["waits_for"], answer["at"] - wait["since"])
        state = str(State.STOPPED) if given_up else WAITING_STATE
        rows += [Row(program, state, text, given_up) for program in wait["programs"] if program not in known]
    for name, row in parked.items():
        if name not in shown:
            rows.append(Row(full_name(row["group"], name), PARKED_STATE, _parked_text(row), False))
    return sorted(rows, key=lambda row: row.name)


def _parked_text(row: Mapping[str, Any]) -> str:
    since = time.strftime("%b %d %I:%M %p", time.localtime(row["since"])) if row.get("since") else "some time"
    return f"since {since}, no failover starts it"


def format_rows(rows: Sequence[Row]) -> list[str]:
    """The lines in supervisorctl's columns."""
    width = max([30, *(width_of(row.name) for row in rows)]) + 3
    return [f"{pad(row.name, width)}{row.state:<10}{row.text}".rstrip() for row in rows]


def status_document(node: str, answer: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What ``status --json`` says of one node, by its answer to ``programs``; and complaints on ``words`` that mean nothing.

    ``counts``: the program should run and does not.
    """
    known = "processes" in answer
    rows, complaints = select_rows(status_rows(answer), words) if known else ([], [])
    pids = {full_name(i["group"], i["name"]): i["pid"] for i in answer["processes"]} if known else {}
    programs = [
        {"name": r.name, "state": r.state, "pid": pids.get(r.name) or None, "text": r.text, "counts": r.counts} for r in rows
    ]
    document = {
        "name": node,
        "outcome": answer["outcome"],
        "reason": answer.get("reason"),
        "role": answer.get("role"),
        "programs": programs,
        "problems": dict(answer.get("problems") or {}),
    }
    return document, complaints


def select_rows(rows: Sequence[Row], words: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows that ``words`` name (NAME, GROUP:NAME, GROUP:*, all or nothing for everything), and complaints on others."""
    if not words or "all" in words:
        return list(rows), []
    found: list[Row] = []
    complaints = []
    for word in words:
        group, colon, process = word.partition(":")
        whole = colon and process in ("*", "")
        own_group = whole or not colon
        matching = [row for row in rows if row.name == word or (own_group and row.name.partition(":")[0] == group)]
        found += matching
        if not matching:
            complaints.append(f"{group}: ERROR (no such group)" if whole else f"{word}: ERROR (no such process)")
    return found, complaints


def places(answer: Mapping[str, Any]) -> str:
    """Where a change of the registry is: "node-a and node-b", or "node-a only"."""
    ack = answer.get("ack")
    return f"{answer['node']} and {answer['peer']}" if ack and ack["on_peer"] else f"{answer['node']} only"


def stop_lines(answer: Mapping[str, Any], *, keep: bool) -> list[str]:
    """What a stop did, a line a program."""
    lines = []
    for row in answer["programs"]:
        name = full_name(row["group"], row["name"])
        if keep:
            lines.append(f"{name}: stopped" if row["was_running"] else f"{name}: ERROR (not running)")
        else:
            lines.append(f"{name}: {'stopped' if row['was_running'] else 'was not running'}, parked on {places(answer)}")
    if keep and not answer["programs"]:
        lines += [f"{name}: stopped" for name in answer["processes"]]
    return lines + [f"{name}: is parked already" for name in answer["parked_before"]]


def missing_on_peer(answer: Mapping[str, Any], consequence: str) -> str | None:
    """What it means for a failover now that the peer does not have a change; None where it has."""
    ack = answer.get("ack")
    if not ack or ack["on_peer"]:
        return None
    return f"{ack['reason']}; if {answer['peer']} takes over before it has the change, {consequence}"


def names_text(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    words = list(names)
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def appended(old: str, new: str) -> str:
    """What the end ``new`` of a log shows that its end ``old``, read before, did not."""
    if new.startswith(old):
        return new[len(old) :]
    anchor = old[-256:]
    at = new.rfind(anchor)
    return new[at + len(anchor) :] if anchor and at >= 0 else new
