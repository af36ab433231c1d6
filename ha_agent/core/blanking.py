"""Configurations and texts without their secrets, for somebody else to read. Pure.

What may be shown is named, and everything else is blanked: a secret can stand anywhere, in a variable, a word of a command,
a comment. A ``Blanker`` remembers what it has blanked as a secret, and takes it out of other texts, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ha_agent.core.settings import NAMED_SECTIONS, SECTIONS
from ha_agent.core.settings_sample import toml_value

BLANK = "***"
SHORTEST = 6
"""A value that is shorter, or a path, is not looked for in other texts: it would be found everywhere."""

LIKELY = 8
"""From this length on a word with digits or capitals in it may be a password."""

_SECRET = (
    r"[\w.-]*(?:pass(?:word|wd|phrase|_|-|\b)(?!file)|pwd|secret(?!_file)|token|credential|authoriz"
    r"|(?:api|access|private|auth)[_-]?key)[\w.-]*"
)
_ASSIGNED = re.compile(
    rf"(?i)(?<![\w-])(-{{0,2}}{_SECRET})([\"']?\s*[=:]\s*|[ \t]+)(?!{_SECRET}[=:\s])(\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;]+)"
)
_USER_INFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)([^/@\s\"']+)@")
_QUERY = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s\"'?]+\?)([^\s\"']+)")
_PEM = re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)
_PAIR = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^,\s\"']*)\s*(?:,|$)")
_PLAIN_WORD = re.compile(
    r"\d{1,5}|/[^=:@\s]*|-[A-Za-z]|--[A-Za-z][A-Za-z-]*|%\([a-z_]+\)[0-9]*[ds]|infinity|true|false|&&|\|\|"
)
_COMMANDS = ("command", "script", "notify", "notify_master", "notify_backup", "notify_fault", "notify_stop")


class Blanker:
    """Blanks texts, and remembers the secrets that it saw."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def note(self, value: str, *, is_called_secret: bool = True) -> None:
        """Has ``value`` taken out of every text that ``scrub`` gets.

        One that nothing calls a secret only where it looks like one: a plain word is found in too many texts.
        """
        bare = value.strip().strip("\"'").strip()
        if len(bare) < SHORTEST or bare.startswith("/"):
            return
        if is_called_secret or (len(bare) >= LIKELY and re.search(r"[A-Za-z]", bare) and re.search(r"[0-9A-Z]", bare[1:])):
            self._seen.add(bare)

    def scrub(self, text: str) -> str:
        """A text that is no configuration, without keys, credentials in URLs, what is called a secret, and what was seen."""
        text = _PEM.sub(BLANK, text)
        text = _USER_INFO.sub(self._blank_user_info, text)
        text = _QUERY.sub(rf"\1{BLANK}", text)
        text = _ASSIGNED.sub(self._blank_assigned, text)
        for value in sorted(self._seen, key=len, reverse=True):
            text = text.replace(value, BLANK)
        return text

    def _blank_user_info(self, found: re.Match[str]) -> str:
        self.note(found[2])
        self.note(found[2].partition(":")[2])
        return f"{found[1]}{BLANK}@"

    def _blank_assigned(self, found: re.Match[str]) -> str:
        # A word after a blank may be the text's own: "password of" is no secret to look for elsewhere.
        if found[2].strip():
            self.note(found[3])
        return f"{found[1]}{found[2]}{BLANK}"

    # ---- supervisord's and keepalived's confs -------------------------------------------------------------

    def blank_ini(self, text: str) -> str:
        """A conf of supervisord: without comments, the values of ``environment``, passwords, and words of commands that are
        neither paths, numbers nor names of options."""
        lines: list[str] = []
        key, value = "", ""
        for raw in [*text.splitlines(), "[end]"]:
            line = re.sub(r"(^|\s)[;#].*", "", raw).rstrip()
            if not line:
                # An empty line does not end a value of several lines.
                continue
            if raw[:1] in (" ", "\t"):
                value += " " + line.strip()
                continue
            if key:
                lines.append(f"{key}={self._ini_value(key, value)}")
            found = None if line.startswith("[") else re.match(r"([^=:\s][^=:]*?)\s*[=:]\s*(.*)", line)
            key, value = (found[1], found[2]) if found else ("", "")
            if not found:
                lines.append(line if re.fullmatch(r"\[[\w:.%()-]+\]", line) else BLANK)
        return self.scrub("\n".join(lines[:-1])) + "\n"

    def _ini_value(self, key: str, value: str) -> str:
        name = key.lower()
        if name == "environment":
            return self._environment(value)
        if re.fullmatch(_SECRET, name) or name == "username" or not re.fullmatch(r"[\w.-]+", name):
            self.note(value)
            return BLANK
        return self.blank_command(value) if name == "command" else value

    def _environment(self, value: str) -> str:
        names, at = [], 0
        while at < len(value):
            pair = _PAIR.match(value, at)
            if pair is None or pair.end() == at:
                self.note(value, is_called_secret=False)
                return BLANK
            names.append(pair[1])
            self.note(pair[2], is_called_secret=re.fullmatch(_SECRET, pair[1], re.IGNORECASE) is not None)
            at = pair.end()
        return ",".join(f'{name}="{BLANK}"' for name in names)

    def blank_command(self, value: str) -> str:
        """A command line: its first word, paths, numbers and the names of options stay."""
        words = value.split()
        shown = [words[0] if words and "=" not in words[0] and "@" not in words[0] else BLANK] if words else []
        for word in words[1:]:
            name, equals, _ = word.partition("=")
            if _PLAIN_WORD.fullmatch(word):
                shown.append(word)
            elif equals and _PLAIN_WORD.fullmatch(name):
                shown.append(f"{name}={BLANK}")
            else:
                shown.append(BLANK)
            if shown[-1] != word:
                self.note(word.partition("=")[2] or word, is_called_secret=False)
        # One after the other, they say no more than one.
        return re.sub(rf"{re.escape(BLANK)}( {re.escape(BLANK)})+", BLANK, " ".join(shown))

    def blank_keepalived(self, text: str) -> str:
        """A keepalived.conf: without comments, ``auth_pass``, passwords, and words of scripts."""
        lines = []
        for raw in text.splitlines():
            line = re.sub(r"(^|\s)[!#].*", "", raw).rstrip()
            found = re.match(r"(\s*)(\w+)(\s+)(.*)", line)
            if found and found[2].lower() in _COMMANDS:
                lines.append(f"{found[1]}{found[2]}{found[3]}{self.blank_command(found[4].replace(chr(34), ''))}")
            elif line or not raw.strip():
                lines.append(self._blank_words(line))
        return self.scrub("\n".join(lines)) + "\n"

    def _blank_words(self, line: str) -> str:
        """A line of words, without the word behind one that is called a secret."""
        parts, is_secret = [], False
        for part in re.findall(r'"[^"]*"|[{}]|[^\s{}"]+|\s+|"', line):
            if is_secret and part.strip():
                self.note(part)
                parts.append(BLANK)
                is_secret = False
                continue
            parts.append(part)
            # PASS is the kind of authentication, and nothing follows it but the next word.
            if part.strip():
                is_secret = re.fullmatch(_SECRET, part, re.IGNORECASE) is not None and part != "PASS"
        return "".join(parts)

    # ---- agent.toml ---------------------------------------------------------------------------------------

    def blank_toml(self, raw: Mapping[str, Any]) -> str:
        """agent.toml, once parsed: its values; of keys that are secret, that there are not, and of commands nothing stays
        but what ``blank_command`` leaves."""
        lines = []
        for section, table, known in _tables(raw):
            lines.append(f"[{section}]")
            for key, value in table.items():
                lines.append(f"{key} = {self._toml_value(key, value, known)}")
            lines.append("")
        return self.scrub("\n".join(lines))

    def _toml_value(self, key: str, value: Any, known: Mapping[str, bool]) -> str:
        if isinstance(value, list) and key.endswith("command") and key in known:
            return toml_value(self.blank_command(" ".join(map(str, value))).split())
        if known.get(key, True) or not isinstance(value, (bool, int, float, str, list)):
            for one in value if isinstance(value, list) else [value]:
                self.note(str(one), is_called_secret=known.get(key, False))
            return toml_value(BLANK)
        return toml_value(value)


def _tables(raw: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any], Mapping[str, bool]]]:
    """Section by section: its name, its keys, and of each key that there is whether it is secret."""
    for section, table in raw.items():
        if not isinstance(table, dict):
            yield section, {"value": table}, {}
        elif section in NAMED_SECTIONS:
            known = _known(NAMED_SECTIONS[section])
            for name, keys in table.items():
                yield f"{section}.{name}", keys if isinstance(keys, dict) else {"value": keys}, known
        else:
            yield section, table, _known(SECTIONS[section]) if section in SECTIONS else {}


def _known(cls: Any) -> dict[str, bool]:
    return {name: bool(spec.metadata.get("secret")) for name, spec in cls.__dataclass_fields__.items()}
