"""One notification to one sink: against a real HTTP server, a real mail server, a real command, and against broken ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from ha_agent.alert_sender import AGAIN, DELIVERED, NEVER, render_text, signed_url, webhook_body
from ha_agent.core.alerts import Book, Condition
from ha_agent.core.settings import SinkSettings
from tests.receivers import MailServer, WebhookServer

(MADE,) = Book("node-a", 60.0).step(
    [Condition("program-fatal", "web", 'web is "FATAL" ($PATH)', {"log": ["last words", "ä€"]})], (), 1.7e9
)
NOTE = MADE.to_dict()


def deliver(tmp_path: pathlib.Path, note: dict[str, Any] | None = None, **sink: Any) -> tuple[int, str]:
    """Runs the sender as the agent does; returns its exit status and its line."""
    note = NOTE if note is None else note
    settings = {**asdict(SinkSettings(kind=sink.pop("kind"))), **sink}
    done = subprocess.run(
        [sys.executable, "-m", "ha_agent.alert_sender"],
        input=json.dumps({"sink": settings, "note": note}),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1, done
    return done.returncode, done.stdout.strip()


@pytest.fixture
def hook() -> Iterator[WebhookServer]:
    with WebhookServer("127.0.0.1") as server:
        yield server
        server.shutdown()


def test_a_webhook_gets_the_whole_alert(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    assert deliver(tmp_path, kind="webhook", url=hook.url) == (DELIVERED, "HTTP status 200")
    assert hook.bodies == [json.loads(json.dumps(NOTE))]
    assert hook.headers[0]["Idempotency-Key"] == "node-a-1"


def test_a_url_with_a_secret_can_come_from_a_file(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    (tmp_path / "url").write_text(hook.url + "?token=x\n", encoding="ascii")
    assert deliver(tmp_path, kind="webhook", url_file=str(tmp_path / "url"))[0] == DELIVERED
    assert hook.paths == ["/hook?token=x"]
    assert deliver(tmp_path, kind="webhook", url_file="/nowhere") == (AGAIN, "/nowhere: No such file or directory")


@pytest.mark.parametrize(("form", "place"), [("slack", "text"), ("dingtalk", "text content"), ("wecom", "text content")])
def test_chat_services_get_a_text_that_people_can_read(
    tmp_path: pathlib.Path, hook: WebhookServer, form: str, place: str
) -> None:
    hook.answer = b'{"errcode":0,"errmsg":"ok"}'
    assert deliver(tmp_path, kind="webhook", url=hook.url, format=form)[0] == DELIVERED
    text = hook.bodies[0]
    for word in place.split():
        text = text[word]
    assert (
        text.startswith('[!!] node-a: web is "FATAL" ($PATH)\n') and "| last words\n| ä€\nwhat to do: read its log" in text
    )


def test_a_chat_service_that_refuses_with_status_200_has_not_got_it(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    hook.answer = b'{"errcode":310000,"errmsg":"sign not match"}'
    for form in ("dingtalk", "wecom"):
        assert deliver(tmp_path, kind="webhook", url=hook.url, format=form) == (AGAIN, "errcode 310000: sign not match")
    hook.answer = b"<html>"
    assert deliver(tmp_path, kind="webhook", url=hook.url, format="wecom")[0] == AGAIN


def test_a_dingtalk_robot_with_a_secret_gets_a_signature(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    hook.answer = b'{"errcode":0}'
    (tmp_path / "secret").write_text("SECabc\n", encoding="ascii")
    code, _ = deliver(tmp_path, kind="webhook", url=hook.url, format="dingtalk", secret_file=str(tmp_path / "secret"))
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(hook.paths[0]).query)
    digest = hmac.new(b"SECabc", f"{query['timestamp'][0]}\nSECabc".encode(), hashlib.sha256).digest()
    assert code == DELIVERED and query["sign"] == [base64.b64encode(digest).decode()]
    assert signed_url("https://x/?a=b", "s", 1).startswith("https://x/?a=b&timestamp=1&sign=")


def test_a_template_is_filled_whatever_the_words_hold(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    template = {"summary": "$code on $node", "rows": [{"t": "$text", "n": 5}], "$kept": "$unknown"}
    (tmp_path / "t.json").write_text(json.dumps(template), encoding="ascii")
    file = str(tmp_path / "t.json")
    sink: dict[str, Any] = {"kind": "webhook", "url": hook.url, "format": "template", "template_file": file}
    assert deliver(tmp_path, **sink)[0] == DELIVERED
    assert hook.bodies[0]["summary"] == "program-fatal on node-a" and hook.bodies[0]["$kept"] == "$unknown"
    assert hook.bodies[0]["rows"][0]["t"] == render_text(NOTE)
    (tmp_path / "t.json").write_text("{", encoding="ascii")
    assert deliver(tmp_path, **sink)[0] == AGAIN


@pytest.mark.parametrize(("status", "code"), [(500, AGAIN), (429, AGAIN), (404, AGAIN), (400, NEVER), (413, NEVER)])
def test_a_refusal_says_whether_it_is_final(tmp_path: pathlib.Path, hook: WebhookServer, status: int, code: int) -> None:
    hook.status = status
    found, said = deliver(tmp_path, kind="webhook", url=hook.url)
    assert found == code and f"HTTP status {status}" in said


def test_nobody_there_a_silent_one_and_a_name_that_is_none(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    assert deliver(tmp_path, kind="webhook", url="http://127.0.0.1:9/") == (AGAIN, "[Errno 111] Connection refused")
    hook.takes_s = 3.0
    assert deliver(tmp_path, kind="webhook", url=hook.url, timeout_s=1.0) == (AGAIN, "timed out")
    assert deliver(tmp_path, kind="webhook", url="http://nobody.invalid/")[0] == AGAIN


def test_a_mail_is_delivered_with_the_alert_in_it(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    server = MailServer("127.0.0.1", port)
    server.start()
    address: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    sink = {"kind": "smtp", **address, "sender": "ha@example.org", "recipients": ["a@b.c", "d@e.f"]}
    try:
        assert deliver(tmp_path, **sink) == (DELIVERED, "mail server 127.0.0.1 has it")
    finally:
        server.stop()
    (mail,) = server.mails
    assert mail["Subject"] == '[!!] node-a: web is "FATAL" ($PATH)' and mail["X-RcptTo"] == "a@b.c, d@e.f"
    assert "ä€" in mail.get_content() and '"code": "program-fatal"' in mail.get_content()
    code, said = deliver(tmp_path, **sink)
    assert code == AGAIN and "refused" in said


def test_a_command_gets_words_and_json_and_its_time(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\necho "$1|$2|$3|$4" > {tmp_path}/words\ncat > {tmp_path}/json\n', encoding="ascii")
    script.chmod(0o755)
    assert deliver(tmp_path, kind="command", command=[str(script)]) == (DELIVERED, f"{script} ended with 0")
    assert (tmp_path / "words").read_text() == 'begin|program-fatal|critical|web is "FATAL" ($PATH)\n'
    assert json.loads((tmp_path / "json").read_text())["id"] == "node-a-1"
    script.write_text("#!/bin/sh\necho no such team >&2; exit 4\n", encoding="ascii")
    assert deliver(tmp_path, kind="command", command=[str(script)]) == (AGAIN, f"{script} ended with 4: no such team")
    script.write_text("#!/bin/sh\nsleep 60\n", encoding="ascii")
    assert deliver(tmp_path, kind="command", command=[str(script)], timeout_s=1) == (AGAIN, "no end within 1 s")
    assert deliver(tmp_path, kind="command", command=["/nowhere"]) == (AGAIN, "/nowhere: No such file or directory")


def test_without_a_journal_or_syslog_that_is_said(tmp_path: pathlib.Path) -> None:
    """The sandbox has neither; that both work where they are is tried on booted machines."""
    assert deliver(tmp_path, kind="journal") == (AGAIN, "there is no journal here")
    assert deliver(tmp_path, kind="syslog") == (AGAIN, "there is no /dev/log here")


def test_a_long_text_stays_within_what_wecom_takes() -> None:
    long = {**NOTE, "text": "ä" * 4000}
    body = webhook_body("wecom", long)
    assert len(body["text"]["content"].encode()) <= 2000
