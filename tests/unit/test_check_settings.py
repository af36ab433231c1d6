"""[checks.NAME]: what a file may say, and all that is wrong with it at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.checks import CheckSettings, Endpoint, check_check, parse_endpoint, parse_url
from ha_agent.core.schema import SettingsProblem, check_named


def problems_of(**tables: Any) -> list[str]:
    """What is wrong with these sections."""
    problems: list[SettingsProblem] = []
    check_named("checks", CheckSettings, tables, problems, check_check)
    return [str(p) for p in problems]


GOOD: dict[str, dict[str, Any]] = {
    "tcp": {"kind": "tcp", "address": "127.0.0.1:5432"},
    "http": {"kind": "http", "url": "http://127.0.0.1:8080/health", "expect": ["200"], "host": "example.org"},
    "redis": {"kind": "redis", "address": "[::1]:6379", "program": "cache", "on_failure": "restart"},
    "command": {"kind": "command", "command": ["/bin/true"], "on_failure": "hand-over"},
    "running": {"kind": "running", "program": "billing", "fall": 1},
}


def test_every_kind_can_be_said() -> None:
    assert problems_of(**GOOD) == []


def test_all_that_is_wrong_is_told_at_once_and_in_a_line_each() -> None:
    told = problems_of(
        a={"kind": "tcp"},
        b={"kind": "http", "url": "https://127.0.0.1/", "address": "127.0.0.1:1"},
        c={"kind": "redis", "address": "cache.example.org:6379", "fall": 0},
        d={"kind": "command", "command": ["true"], "on_failure": "restart"},
        e={**GOOD["tcp"], "interval_s": 2.0, "timeout_s": 2.0},
        f={**GOOD["http"], "expect": ["200", "fine"]},
        g={"kind": "ftp", "intervall_s": 5},
        h=5,
    )
    assert sorted(text.partition(":")[0] for text in told) == [
        "checks.a.address", "checks.b.address", "checks.b.url", "checks.c.fall", "checks.d.command", "checks.d.program",
        "checks.e.timeout_s", "checks.f.expect", "checks.g.intervall_s", "checks.g.kind", "checks.h",
    ]  # fmt: skip
    assert all("\n" not in text for text in told)
    assert "checks.e.timeout_s: 2 beside an interval_s of 2; allowed: less than interval_s" in told


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [("127.0.0.1:80", Endpoint("127.0.0.1", 80)), ("localhost:6379", Endpoint("127.0.0.1", 6379)),
     ("[::1]:80", Endpoint("::1", 80))],
)  # fmt: skip
def test_an_address_is_read(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "a.example:80", "u@127.0.0.1:80"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_endpoint(text)


def test_a_url_says_where_to_what_to_ask_for_and_as_whom() -> None:
    target = parse_url("http://127.0.0.1:8080/health?deep=1", "example.org")
    assert (target.endpoint, target.host, target.path) == (Endpoint("127.0.0.1", 8080), "example.org", "/health?deep=1")
    assert parse_url("http://[::1]").path == "/" and parse_url("http://[::1]").endpoint.port == 80


@pytest.mark.parametrize("url", ["http://127.0.0.1/a b", "http://127.0.0.1/\r\nX: y", "http://127.0.0.1/#x", "http:///x"])
def test_no_url_can_put_a_line_into_a_request(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_url(url)


@given(st.text(max_size=40))
def test_whatever_is_written_there_is_read_or_refused(text: str) -> None:
    told = problems_of(x={"kind": "tcp", "address": text}, y={"kind": "http", "url": text})
    assert all(line.startswith(("checks.x.address", "checks.y.url")) for line in told)
