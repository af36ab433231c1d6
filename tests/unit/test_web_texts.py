"""Every text of the dashboard has its Chinese, with the same things to fill in."""

from __future__ import annotations

import pathlib
import re
import string

import pytest

from ha_agent.core.alert_codes import CODES
from ha_agent.core.check_state import Health
from ha_agent.core.faults import Urgency
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.problems import REMEDIES, TEXTS
from ha_agent.core.words import Role
from ha_agent.web.pairs import ACTIONS
from ha_agent.web.texts import choose_language, load_chinese, translate

CHINESE = load_chinese()
WEB = pathlib.Path(__file__).parents[2] / "ha_agent" / "web"


def texts_of_pages() -> set[str]:
    found: set[str] = set()
    for path in (WEB / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"""_\("([^"]+)"[,)]""", text)) | set(re.findall(r"""_\('([^']+)'[,)]""", text))
    return found


def texts_of_refusals() -> set[str]:
    modules = ("http", "site", "actions", "pages", "program_pages", "duty_pages")
    texts = [(WEB / f"{name}.py").read_text(encoding="utf-8") for name in modules]
    return {found for text in texts for found in re.findall(r'Denied\(\d+, "([^"]+)"', text)} | {
        "Not done",
        "this cannot be done to that page",
        "this page failed; the log of ha-agent-web says how",
    }


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_no_text_lacks_its_chinese() -> None:
    words = {r.value for r in Role} | {s.value for s in Urgency} | set(ACTIONS)
    words |= {"in_sync", "pending", "held", "refused", "unreachable", "receiving", "copying", "done", "incomplete", "failed"}
    words |= {str(health) for health in Health}
    words |= {"maintenance", "test"}
    wanted = texts_of_pages() | texts_of_refusals() | set(TEXTS.values()) | set(REMEDIES.values()) | words
    wanted |= {c.title for c in CODES.values()} | {c.remedy for c in CODES.values()}
    wanted |= {event.meaning for event in EVENTS.values()}
    wanted |= {
        "Outages: {count}; nobody was active for {took} in all",
        "A node was active all the time, as far as is known.",
    }
    assert len(texts_of_pages()) > 50 and len(texts_of_refusals()) > 8
    assert wanted - CHINESE.keys() == set()
    assert CHINESE.keys() - wanted == set(), "nobody asks for these any more"


@pytest.mark.parametrize("english", sorted(CHINESE))
def test_a_translation_fills_in_the_same_things(english: str) -> None:
    assert fields(CHINESE[english]) == fields(english)


def test_a_language_is_chosen_configured_or_asked_for() -> None:
    assert choose_language("zh", "en", "en") == "zh"
    assert choose_language("xx", "zh", "en") == "zh"
    assert choose_language(None, "auto", "fr-FR,zh-CN;q=0.8,en;q=0.5") == "zh"
    assert choose_language(None, "auto", "") == choose_language(None, "auto", "fr") == "en"
    assert translate("en", "taking_over") == "taking over" and translate("zh", "no such text") == "no such text"
