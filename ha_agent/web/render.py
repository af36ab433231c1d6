"""Pages as text: templates, languages, and the parts of a page that are sent again when they change."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from starlette.responses import Response

from ha_agent.core.alert_codes import CODES
from ha_agent.core.guard import Access
from ha_agent.core.history_codes import EVENTS
from ha_agent.core.problems import REMEDIES, TEXTS, age_text, find_problems
from ha_agent.core.supervisor_words import State
from ha_agent.web.pairs import Pair, Sight
from ha_agent.web.programs import describe_holders
from ha_agent.web.strip import SPAN_S, find_pieces, sum_outages
from ha_agent.web.texts import LANGUAGES, translate

_FOLDER = os.path.dirname(os.path.abspath(__file__))
PIECES = 200
PARTS = ("summary", "problems", "programs", "nodes", "alerts", "strip", "events")


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.join(_FOLDER, "templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["clock"] = lambda at: time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    made.filters["age"] = age_text
    made.filters["ms"] = lambda s: f"{s * 1e3:.0f} ms" if s < 1 else f"{s:.2f} s"
    meanings = {code: event.meaning for code, event in EVENTS.items()}
    made.globals.update(codes=CODES, languages=LANGUAGES, meanings=meanings)
    return made


_ENVIRONMENT = _environment()


def compile_templates() -> None:
    """Compiles every template now, and not at the first request."""
    for name in _ENVIRONMENT.list_templates():
        _ENVIRONMENT.get_template(name)


def read_static(name: str) -> tuple[bytes, str]:
    """A static file of this package, and its ETag. Raises ``FileNotFoundError``."""
    with open(os.path.join(_FOLDER, "static", name), "rb") as file:
        content = file.read()
    return content, '"' + hashlib.sha256(content).hexdigest()[:16] + '"'


class Words:
    """What every template is given: the language, and who looks."""

    def __init__(self, language: str, who: str | None, access: Access | None, csrf: str, now: float) -> None:
        self.language, self.who, self.csrf, self.now = language, who, csrf, now
        self.ages_at = now
        """The moment that ages are written for; the page's script counts on from it. A stream keeps it, so that a part whose
        ages alone have changed is not sent again under somebody's hands."""
        self.operates = access is Access.OPERATE
        self.theme = ""
        """light or dark where the user has chosen one; empty for what the browser wants."""
        self.pairs: Mapping[str, Pair] = {}
        """Those whose maintenance is said on top of every page."""

    def windows(self, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The maintenance of each node of the pair ``name`` that is known to be on."""
        pair = self.pairs.get(name)
        sights = pair.known.sights if pair is not None else ()
        known = ((s.name, s.node.get("maintenance")) for s in sights if s.node is not None and s.problem is None)
        return [(node, window) for node, window in known if window]

    def translate(self, text: str, **words: object) -> str:
        """``text`` in the language of the page, with ``words`` filled in."""
        made = translate(self.language, text)
        return made.format_map(words) if words else made


def render(template: str, words: Words, **more: Any) -> str:
    """A template as text."""
    return "".join("".join(some) for some in _render_pieces(template, words, more))


def render_page(template: str, words: Words, **more: Any) -> bytes:
    """A template as UTF-8. Text with one sign that is not of Latin 1 takes two bytes a character, and a page has several."""
    return b"".join("".join(some).encode() for some in _render_pieces(template, words, more))


def _render_pieces(template: str, words: Words, more: Mapping[str, Any]) -> Iterator[list[str]]:
    """The pieces of a page, some at a time: 300 programs make ten thousand, which take more than the page itself."""
    pieces = _ENVIRONMENT.get_template(template).generate(
        _=words.translate,
        lang=words.language,
        who=words.who,
        operates=words.operates,
        csrf=words.csrf,
        now=words.ages_at,
        windows=words.windows,
        theme=words.theme,
        **more,
    )
    while some := list(itertools.islice(pieces, PIECES)):
        yield some


def page_of(page: bytes, status: int = 200) -> Response:
    """A page as the answer to a request."""
    return Response(page, status, media_type="text/html")


def describe_pair(pair: Pair, words: Words) -> dict[str, Any]:
    """What the templates show of a pair."""
    nodes = [describe_sight(sight, words.ages_at) for sight in pair.known.sights]
    current = [sight.current() for sight in pair.known.sights]
    active = pair.find_active()
    found = find_problems(current, words.now)
    problems = [
        {
            "text": words.translate(TEXTS[p.key], **p.words),
            "remedy": words.translate(REMEDIES[p.remedy_key or p.key], **p.words),
            "severity": p.severity.name.lower(),
        }
        for p in found
    ]
    lasting = [
        {**row, "node": node["name"]}
        for node in nodes
        if node["view"]
        for row in node["view"]["alerts"]["lasting"]
        if row["told"] or row["silenced"]
    ]
    return {
        "name": pair.name,
        "nodes": nodes,
        "problems": problems,
        "active": active.name if active else None,
        "title": say_title(pair, words),
        "maintenance": any((s.node or {}).get("maintenance") for s in pair.known.sights),
        "strip": describe_strip(pair, words),
        "vips": list_vips(pair.known.sights),
        "holders": describe_holders(pair.known.sights),
        "lasting": sorted(lasting, key=lambda row: row["since"]),
        "events": list(reversed(pair.known.events)),
    }


def say_title(pair: Pair, words: Words) -> str:
    """What stands in the browser's tab: the virtual address, both nodes, and which of them is active."""
    active = pair.find_active()
    nodes = []
    for sight in pair.known.sights:
        state = "no answer" if sight.problem is not None or sight.node is None else "active" if sight is active else ""
        nodes.append(f"{sight.name} ({words.translate(state)})" if state else sight.name)
    return f"{', '.join(list_vips(pair.known.sights)) or pair.name}: {', '.join(nodes)}"


def list_vips(sights: Sequence[Sight]) -> list[str]:
    """The virtual addresses of a pair, as its nodes say them or said them last; none where nobody has."""
    found: dict[str, None] = {}
    for sight in sights:
        found.update(dict.fromkeys(vip.partition("/")[0] for vip in (sight.node or {}).get("vips") or ()))
    return list(found)


STRIP_WIDTH = 1440


def describe_strip(pair: Pair, words: Words) -> dict[str, Any]:
    """The last 24 hours for the page: rectangles of a drawing of ``STRIP_WIDTH``, a legend, and the whole in words."""
    roles = {s.name: str(s.node["role"]) for s in pair.known.sights if s.node is not None and s.problem is None}
    # To the minute, so that a page is not sent again for every second that passes.
    now = words.now - words.now % 60.0
    pieces = find_pieces(pair.known.changes, roles, now, known_from=pair.known.changes_from or 0.0)
    names = sorted({node for piece in pieces for node in piece.active or ()} | {s.name for s in pair.known.sights})
    shown = []
    for piece in pieces:
        kind = "quiet" if piece.active is None else "outage" if not piece.active else f"n{names.index(piece.active[0]) % 2}"
        who = " + ".join(piece.active or ()) or words.translate("not known" if piece.active is None else "nobody")
        left = (piece.begin - now + SPAN_S) / SPAN_S * STRIP_WIDTH
        width = max(3.0, (piece.end - piece.begin) / SPAN_S * STRIP_WIDTH)
        title = f"{time.strftime('%m-%d %H:%M:%S', time.localtime(piece.begin))}: {who}, {age_text(piece.end - piece.begin)}"
        kind = "twice" if len(piece.active or ()) > 1 else kind
        shown.append({"kind": kind, "x": round(left, 1), "width": round(width, 1), "title": title})
    count, took_s = sum_outages(pieces)
    said = words.translate("Outages: {count}; nobody was active for {took} in all", count=count, took=age_text(took_s))
    return {
        # Outages are drawn last: a short one is not to be hidden by what follows it.
        "pieces": sorted(shown, key=lambda piece: piece["kind"] == "outage"),
        "legend": [{"kind": f"n{number % 2}", "name": name} for number, name in enumerate(names)],
        "said": said if count else words.translate("A node was active all the time, as far as is known."),
    }


def describe_sight(sight: Sight, now: float) -> dict[str, Any]:
    """One node: its last view, how old that is, and whether it is still true."""
    node: Mapping[str, Any] | None = sight.node
    programs = list(sight.view["programs"]) if sight.view else []
    return {
        "name": sight.name,
        "view": sight.view,
        "node": node,
        "at": sight.at,
        "age_s": None if sight.at is None else max(0.0, now - sight.at),
        "problem": sight.problem,
        "programs": programs,
        "running": sum(1 for row in programs if row["state"] == State.RUNNING and row["kind"] == "registry"),
    }


def try_out(pair: Pair) -> None:
    """Does with ``pair`` what pages do; raises whatever they would."""
    words = Words("en", "", Access.OPERATE, "", time.time())
    parts = render_parts(pair, words)
    render("overview.html", words, pairs=[describe_pair(pair, words)], names=[pair.name])
    "".join(parts.values()).encode()


def render_parts(pair: Pair, words: Words) -> dict[str, str]:
    """The parts of a pair's page that change while somebody looks."""
    shown = describe_pair(pair, words)
    return {part: render(f"_{part}.html", words, pair=shown) for part in PARTS}
