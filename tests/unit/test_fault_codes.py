"""One catalogue of codes: no face utters one that is missing there, and none has two words for one fault."""

from __future__ import annotations

import ast
import pathlib
from collections import Counter

import pytest

from ha_agent.core.alert_codes import CODES
from ha_agent.core.faults import FAULTS, PROGRAM_FAULTS, REPLICATION_FAULTS, WELL, Face, code_of_conf, former_code
from ha_agent.core.findings import Severity
from ha_agent.core.history_codes import ALARMING, EVENTS, former_event_code
from ha_agent.core.prechecks import find_obstacles
from ha_agent.core.rules import RULES
from ha_agent.core.words import Role
from tests.unit.test_prechecks import pair

PACKAGE = pathlib.Path(__file__).parents[2] / "ha_agent"
FACES = (
    *(PACKAGE / "cli" / "doctor").glob("*.py"),
    PACKAGE / "cli" / "doctor_cmd.py",
    PACKAGE / "cli" / "lint_cmd.py",
    *(PACKAGE / "core").glob("lint*.py"),
    PACKAGE / "core" / "prechecks.py",
    PACKAGE / "core" / "problems.py",
)
MAKERS = {"error", "warning", "unknown", "note", "make", "_error", "_warning", "Finding", "Problem"}
WATCHERS = (PACKAGE / "core" / "program_watch.py", *(PACKAGE / "daemon").rglob("*.py"))

SPLIT = {
    (Face.SCREEN, "program-failed"),
    (Face.SCREEN, "replication"),
    (Face.SCREEN, "part-down"),
    (Face.SCREEN, "not-loadable"),
    (Face.SCREEN, "not-ready"),
    (Face.PRECHECK, "role"),
    (Face.PRECHECK, "not-in-sync"),
    (Face.DOCTOR, "conf-not-ready"),
}
"""Former words that stood for several faults."""


def calls(path: pathlib.Path) -> list[tuple[str, str]]:
    """The maker and the code of every call in a module that makes something with a code."""
    found = []
    for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(item, ast.Call) and item.args and isinstance(item.args[0], ast.Constant):
            name = item.func.id if isinstance(item.func, ast.Name) else getattr(item.func, "attr", "")
            if isinstance(item.args[0].value, str):
                found.append((name, item.args[0].value))
    return found


def test_no_face_utters_a_fault_that_is_not_in_the_catalogue() -> None:
    said = {code for path in FACES for maker, code in calls(path) if maker in MAKERS}
    said |= {code for path in WATCHERS for maker, code in calls(path) if maker in ("Condition", "Moment")}
    said |= set(PROGRAM_FAULTS.values()) | set(REPLICATION_FAULTS.values()) | set(CODES)
    said |= {code_of_conf(role, is_loadable=loadable) for role in Role for loadable in (True, False)}
    assert len(said) > 110
    assert {"conf-not-loadable", "foreign-section", "log-device", "not-started"} <= said
    # The doctor's word where something could not be found out is the one of the check itself.
    assert said - FAULTS.keys() - WELL == set()


def test_the_doctor_names_what_is_well_as_the_catalogue_does() -> None:
    assert {code for path in FACES for maker, code in calls(path) if maker == "ok"} <= WELL


def test_every_fault_has_its_words_and_every_alert_its_urgency() -> None:
    assert all(fault.title and fault.remedy for fault in FAULTS.values())
    assert {fault.code for fault in FAULTS.values() if fault.urgency is not None} == set(CODES)


def test_no_two_faults_have_the_same_words() -> None:
    assert [title for title, count in Counter(f.title for f in FAULTS.values()).items() if count > 1] == []


def test_a_former_word_names_one_fault_unless_it_is_known_to_have_named_several() -> None:
    words = Counter(former for fault in FAULTS.values() for former in fault.former)
    assert {former for former, count in words.items() if count > 1} <= SPLIT
    for face, word in words:
        assert word not in FAULTS or (face, word) in SPLIT, f"{word} of {face} means two things"


@pytest.mark.parametrize(
    ("code", "face", "former"),
    [
        ("standby-edit", Face.PRECHECK, "local-changes"),
        ("peer-lost", Face.PRECHECK, "unreachable"),
        ("peer-lost", Face.DOCTOR, "peer-unreachable"),
        ("conf-not-loadable", Face.LINT, "not-loadable"),
        ("unfit", Face.PRECHECK, None),
        ("no-such-code", Face.DOCTOR, None),
    ],
)
def test_the_former_word_is_the_one_of_the_face(code: str, face: Face, former: str | None) -> None:
    assert former_code(code, face) == former


def test_a_document_carries_the_former_word_beside_the_code() -> None:
    found = find_obstacles(pair({}, {"keepalived": "down", "vrrp_state": "FAULT"}))
    rows = [f.to_dict() for f in found if f.severity is Severity.ERROR]
    assert [(row["code"], row["alias"]) for row in rows] == [("keepalived-down", "keepalived")]
    (row,) = [f.to_dict() for f in find_obstacles(pair({}, {"vrrp_state": "FAULT"}))]
    assert (row["code"], row["alias"]) == ("vrrp-state", None)


def test_the_documentation_says_what_every_code_was_called_before() -> None:
    text = (PACKAGE.parent / "docs" / "json.md").read_text(encoding="utf-8")
    for fault in FAULTS.values():
        words = [f"`{word}` ({face.value})" for face, word in fault.former if face is not Face.SCREEN]
        row = f"| `{fault.code}` | {', '.join(words)} |"
        assert not words or row in text, row


def test_every_rule_has_its_code_in_the_catalogue_of_events() -> None:
    assert {rule.code for rule in RULES} <= EVENTS.keys()
    assert EVENTS.keys() >= ALARMING > {"split-brain", "stalled", "vip-lost"}


def test_an_event_that_tells_a_fault_has_its_former_word_in_both_catalogues() -> None:
    of_events = {e.code: e.former or e.former_of_role for e in EVENTS.values() if e.former or e.former_of_role}
    of_faults = {code: former_code(code, Face.HISTORY) for code in FAULTS if former_code(code, Face.HISTORY)}
    assert of_events == of_faults


def test_a_change_of_role_has_the_former_word_of_its_rule_and_another_event_has_not() -> None:
    assert former_event_code({"code": "supervisord-down", "from": "active", "to": "releasing"}) == "supervisord-gone"
    assert former_event_code({"code": "supervisord-down"}) is None
    assert former_event_code({"code": "vrrp"}) is former_event_code({}) is None


COMPOSED = {"takeover-failed", "release-failed", "takeover-verified", "agent-resumed"}
"""Codes that the daemon gives to ``history.add`` through a variable."""


def test_every_code_that_the_daemon_gives_to_the_history_is_in_the_catalogue_and_no_other() -> None:
    added = set()
    for path in (PACKAGE / "daemon").rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute) and item.func.attr == "add"):
                continue
            if ast.unparse(item.func.value).endswith("events") and isinstance(item.args[0], ast.Constant):
                added.add(item.args[0].value)
    assert len(added) > 35
    assert added | COMPOSED | {rule.code for rule in RULES} == EVENTS.keys()
