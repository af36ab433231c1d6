"""A proxy's word on who somebody is: believed from listed addresses alone, once, and of users that are known here."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from ha_agent.core.schema import SettingsError
from ha_agent.core.web_settings import check_dashboard
from ha_agent.web.sign_on import SignOn
from tests.unit.timeless import run_timeless
from tests.unit.web_pages import Visitor, healthy

PROXY = "192.0.2.7"
HTML = {"accept": "text/html", "cookie": ""}


def signed_on(visitor: Visitor, address: str = PROXY) -> Visitor:
    app: Any = SignOn(visitor.app, "X-Remote-User", [address])
    visitor.app = app
    return visitor


def test_a_listed_proxy_signs_a_user_on_and_forms_need_their_token_all_the_same(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        visitor = signed_on(Visitor(tmp_path, healthy()))
        status, headers, page = await visitor.get("/pairs/local", x_remote_user="alice", **HTML)
        assert status == 200 and "alice" in page and "HttpOnly" in headers["set-cookie"]
        cookie = headers["set-cookie"].split(";")[0]
        assert "SameSite=strict" in headers["set-cookie"]
        status, headers, _ = await visitor.get("/pairs/local", x_remote_user="alice", accept="text/html", cookie=cookie)
        assert status == 200 and "set-cookie" not in headers, "one login, not one a request"
        forged = {"x-remote-user": "alice", "cookie": "", "content-type": "application/x-www-form-urlencoded"}
        status, _, _ = await visitor.ask("POST", "/pairs/local/do", b"action=stop&program=web&csrf=x", forged)
        assert status == 401
        status, _, _ = await visitor.ask("POST", "/pairs/local/do", b"action=stop&program=web", {**forged, "cookie": cookie})
        assert status == 403

    run_timeless(main())


def test_nobody_else_is_believed(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        stranger = signed_on(Visitor(tmp_path, healthy()), "192.0.2.99")
        assert (await stranger.get("/pairs/local", x_remote_user="alice", **HTML))[0] == 303
        off = Visitor(tmp_path, healthy())
        assert (await off.get("/pairs/local", x_remote_user="alice", **HTML))[0] == 303, "it is off by default"
        visitor = signed_on(Visitor(tmp_path, healthy()))
        status, _, page = await visitor.get("/pairs/local", x_remote_user="mallory", **HTML)
        assert status == 403 and "no user here" in page
        twice = {"x-remote-user": "alice", "X-Remote-User": "bob", **HTML}
        assert (await visitor.ask("GET", "/pairs/local", b"", twice))[0] == 303
        # Another one's cookie is no way round: the proxy's word counts.
        status, headers, page = await visitor.get("/pairs/local", x_remote_user="bob", accept="text/html")
        assert status == 200 and "bob" in page and "set-cookie" in headers

    run_timeless(main())


def test_rights_are_those_of_the_user(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        visitor = signed_on(Visitor(tmp_path, healthy()))
        _, _, page = await visitor.get("/pairs/local", x_remote_user="bob", **HTML)
        assert "stop-web" not in page
        assert (await visitor.get("/pairs/local/confirm?action=stop&program=web", x_remote_user="bob", **HTML))[0] == 403

    run_timeless(main())


@pytest.mark.parametrize(
    "web",
    [
        {"sign_on_header": "X-Remote-User"},
        {"sign_on_from": ["192.0.2.7"]},
        {"sign_on_header": "X-Remote-User", "sign_on_from": ["proxy"]},
        {"sign_on_header": "Cookie", "sign_on_from": ["192.0.2.7"]},
        {"sign_on_header": "a b", "sign_on_from": ["192.0.2.7"]},
    ],
)
def test_half_a_sign_on_is_refused(web: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        check_dashboard({"web": web}, "/run/ha-agent")
    good = {"sign_on_header": "X-Remote-User", "sign_on_from": ["192.0.2.7", "::1"]}
    assert check_dashboard({"web": good}, "/run/ha-agent").web.sign_on_header == "X-Remote-User"
