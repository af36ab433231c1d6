"""The dashboard's languages: English texts are the keys of locale/*.json; a test checks that none lacks its Chinese."""

from __future__ import annotations

import functools
import json
import os
import re

LANGUAGES = {"en": "English", "zh": "中文"}


def _load(language: str) -> dict[str, str]:
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "locale")
    with open(os.path.join(folder, f"{language}.json"), encoding="utf-8") as file:
        return dict(json.load(file))


@functools.cache
def load_chinese() -> dict[str, str]:
    """The Chinese texts by their English; read when somebody asks for the first one."""
    return _load("zh")


_WORD = re.compile(r"[a-z]+(_[a-z]+)+")
"""Roles and states, as programs know them."""


def translate(language: str, text: str) -> str:
    """``text`` in ``language``; as it is where there is no other for it (names, messages of other programs)."""
    if language == "zh":
        return load_chinese().get(text, text)
    return text.replace("_", " ") if _WORD.fullmatch(text) else text


def choose_language(chosen: str | None, configured: str, accepted: str) -> str:
    """The language of a page: what was chosen, else what is configured, else what the browser asks for first."""
    if chosen in LANGUAGES:
        return chosen
    if configured in LANGUAGES:
        return configured
    for part in accepted.split(","):
        code = part.split(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return "en"
