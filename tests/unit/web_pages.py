"""A pair as the dashboard knows it, for tests of what its pages say."""

from __future__ import annotations

import asyncio
import pathlib
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ha_agent.core.guard import Access
from ha_agent.core.web_settings import Dashboard, PairSettings, WebSettings
from ha_agent.core.words import Outcome
from ha_agent.web.agent_client import AgentClient, AgentRefused
from ha_agent.web.app import make_app
from ha_agent.web.pairs import LocalPair, Pair, Sight
from ha_agent.web.render import Words
from tests.unit.test_status_text import node

NOW = 1_700_000_000.0
VIP = "192.0.2.10/24"


def row(name: str, state: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    """A program as a view has it."""
    pid = 100 if state == "RUNNING" else None
    path = f"{name.partition(':')[0]}.conf"
    base = {
        "name": name,
        "group": name.partition(":")[0],
        "kind": "registry",
        "state": state,
        "pid": pid,
        "since": 1,
        "path": path,
    }
    return {**base, "problem": None, "usage": None, **changes}


def view(name: str, role: str = "standby", programs: Sequence[dict[str, Any]] = (), **changes: Any) -> dict[str, Any]:
    """The view of a node."""
    own = node(
        name,
        role,
        at=NOW,
        version="1",
        vips={VIP: role == "active"},
        programs=[],
        **{"votes": None, "checks": [], "maintenance": None, **changes},
    )
    alerts = {"node": name, "at": NOW, "lasting": [], "recent": [], "sinks": {}}
    return {"node": own, "programs": list(programs), "alerts": alerts, "figures": {"started": 1.0, "history_events": {}}}


def pair_of(*sights: Sight) -> LocalPair:
    """A pair of which exactly this is known."""
    pair = LocalPair("local", "/nonexistent", 1.0, lambda _: None)
    # The pair's own sights, which it learns into and asks by name.
    for sight, given in zip(pair.known.sights, sights, strict=False):
        sight.name, sight.view, sight.at, sight.problem = given.name, given.view, given.at, given.problem
    return pair


def healthy(*programs: dict[str, Any]) -> LocalPair:
    """node-a is active and has ``programs``, node-b is its standby."""
    return pair_of(
        Sight("node-a", view("node-a", "active", programs or [row("web")]), NOW),
        Sight("node-b", view("node-b"), NOW),
    )


def words_of(language: str = "en", access: Access = Access.OPERATE) -> Words:
    """Somebody who looks at a page."""
    return Words(language, "alice", access, "token", NOW)


def text_of(html: str) -> str:
    """What people read of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


class Agents:
    """Stands in for both agents: ``answers`` by node and operation; what is asked is noted in ``asked``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = {}
        self.asked: list[tuple[str, Mapping[str, Any], str | None]] = []
        monkeypatch.setattr(AgentClient, "ask", self._ask)

    async def _ask(
        self, message: Mapping[str, Any], timeout_s: float, by: str | None = None, *, raw: bool = False
    ) -> dict[str, Any]:
        node, asked = ("node-b", message["ask"]) if message["op"] == "at-peer" else ("node-a", message)
        self.asked.append((node, asked, by))
        if (answer := self.answers.get((node, asked["op"]))) is None:
            raise AgentRefused(f"{node} does not know {asked['op']}")
        given = answer(asked)
        return {"outcome": Outcome.ANSWERED, "answer": given} if message["op"] == "at-peer" else given

    def of(self, operation: str) -> list[tuple[str, Mapping[str, Any], str | None]]:
        """Who was asked for ``operation``, how, and on whose behalf."""
        return [one for one in self.asked if one[1]["op"] == operation]


class Visitor:
    """Somebody who asks the application for pages, as a browser does: alice may operate, bob may look."""

    def __init__(self, folder: pathlib.Path, pair: Pair, name: str = "alice", **settings: Any) -> None:
        web = WebSettings(users_file=str(folder / "users.json"), **settings)
        self.app, self.site = make_app(Dashboard(web, {"local": PairSettings(run_dir=str(folder))}))
        self.site.pairs["local"] = pair
        for one, access in (("alice", Access.OPERATE), ("bob", Access.READ)):
            self.site.users.set_user(one, "correct horse battery", access)
        account = self.site.users.account(name)
        assert account is not None
        self.cookie, self.session = self.site.sessions.begin(account, time.monotonic())

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and content."""
        return await self.ask("GET", path, b"", headers)

    async def post(self, path: str, **fields: Any) -> tuple[int, dict[str, str], str]:
        """The answer to a form of a page of this login; a list is a field that is sent several times."""
        body = urllib.parse.urlencode({"csrf": self.session.csrf, **fields}, doseq=True).encode()
        return await self.ask("POST", path, body, {"content-type": "application/x-www-form-urlencoded"})

    async def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], str]:
        """One request."""
        place, _, query = path.partition("?")
        given = {"cookie": f"ha_agent_session={self.cookie}", "host": "test", **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": urllib.parse.unquote(place),
            "raw_path": place.encode(),
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
            "scheme": "http",
            "server": ("test", 80),
            "client": ("192.0.2.7", 1),
            "root_path": "",
            "http_version": "1.1",
        }
        sent: list[Any] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await asyncio.sleep(60.0)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], got, b"".join(one.get("body", b"") for one in sent[1:]).decode()
