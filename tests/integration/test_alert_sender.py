"""One notification to one sink: against a real HTTP server, a real mail server, a real command, and against broken ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from ha_agent.alert_sender import AGAIN, DELIVERED, NEVER, render_text, signed_url, webhook_body
from ha_agent.core.alerts import Book, Condition
from ha_agent.core.settings import SinkSettings
from tests.certificates import make_certificate
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
    assert deliver(tmp_path, kind="webhook", url="http://127.0.0.1:9/") == (AGAIN, "Connection refused")
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


# ---- texts of others, and secrets ---------------------------------------------------------------------------------

POISONED = "a\0b\nWARNING forged\r\n\x1b[2J\u2028\u202e\ud800end"


def poisoned() -> dict[str, Any]:
    """A notification as a member can have it made, by the name of a program or what that has written."""
    return {**NOTE, "text": POISONED, "subjects": [POISONED], "details": {"log": [POISONED], POISONED: 1}}


def is_plain(text: str) -> bool:
    return all(letter == "\n" or letter.isprintable() for letter in text)


def test_a_text_of_others_neither_stops_a_sink_nor_forges_a_line_in_it(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    for form, answer in (("json", b"ok"), ("slack", b"ok"), ("wecom", b'{"errcode":0}')):
        hook.answer = answer
        assert deliver(tmp_path, poisoned(), kind="webhook", url=hook.url, format=form)[0] == DELIVERED
    assert hook.bodies[0]["text"] == r"a\x00b\nWARNING forged\r\n\x1b[2J\u2028\u202e\ud800end"
    assert not [line for line in hook.bodies[1]["text"].split("\n") if line.startswith("WARNING")]
    assert is_plain(json.dumps(hook.bodies, ensure_ascii=False))
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\nprintf %s "$4" > {tmp_path}/text\n', encoding="ascii")
    script.chmod(0o755)
    assert deliver(tmp_path, poisoned(), kind="command", command=[str(script)]) == (DELIVERED, f"{script} ended with 0")
    assert (tmp_path / "text").read_text() == hook.bodies[0]["text"]


def test_a_text_of_others_forges_no_header_of_a_mail(tmp_path: pathlib.Path, mailer: MailServer) -> None:
    note = {**poisoned(), "text": "x\r\nBcc: mallory@example.org\u2028y\ud800"}
    assert deliver(tmp_path, note, **smtp(mailer))[0] == DELIVERED
    (mail,) = mailer.mails
    assert mail["Subject"] == r"[!!] node-a: x\r\nBcc: mallory@example.org\u2028y\ud800" and mail["X-RcptTo"] == "a@b.c"


def test_what_cannot_be_sent_at_all_is_the_end_of_that_alert_alone(tmp_path: pathlib.Path, hook: WebhookServer) -> None:
    code, said = deliver(tmp_path, {**NOTE, "at": "yesterday"}, kind="webhook", url=hook.url, format="slack")
    assert code == NEVER and said == "this alert cannot be sent: TypeError"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_webhook_that_sends_on_has_not_taken_the_alert(tmp_path: pathlib.Path, hook: WebhookServer, status: int) -> None:
    hook.status, hook.location = status, hook.url + "/login?token=secret"
    code, said = deliver(tmp_path, kind="webhook", url=hook.url)
    assert code == AGAIN and f"HTTP status {status}" in said and "sent on to http://127.0.0.1 and not taken" in said
    assert "secret" not in said and hook.asked == 1, "nobody else is asked"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/hook?token=top secret", "http://127.0.0.1:9x/secret", "ftp://x/secret", "http:///secret", "ü"]
)
def test_a_url_that_is_none_is_not_repeated(tmp_path: pathlib.Path, url: str) -> None:
    (tmp_path / "url").write_text(url, encoding="utf-8")
    sink: dict[str, Any] = {"kind": "webhook", "url_file": str(tmp_path / "url")}
    assert deliver(tmp_path, **sink) == (AGAIN, "url_file holds no http or https URL")


def test_a_web_server_that_talks_nonsense_is_asked_again(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: answer_once(server, b"SSH-2.0-x\r\n\r\n"), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/secret"
        assert deliver(tmp_path, kind="webhook", url=url) == (AGAIN, "no answer of a web server: BadStatusLine")


def answer_once(server: socket.socket, answer: bytes) -> None:
    peer, _ = server.accept()
    with peer:
        peer.recv(65536)
        peer.sendall(answer)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def smtp(server: MailServer, **more: Any) -> dict[str, Any]:
    address = {"host": "127.0.0.1", "port": server.port}
    return {"kind": "smtp", **address, "sender": "ha@example.org", "recipients": ["a@b.c"], **more}


@pytest.fixture
def mailer() -> Iterator[MailServer]:
    server = MailServer("127.0.0.1", free_port(), authenticates=True)
    server.start()
    yield server
    server.stop()


def test_a_password_is_sent_without_tls_only_where_the_setting_says_so(tmp_path: pathlib.Path, mailer: MailServer) -> None:
    (tmp_path / "secret").write_text("hunter2\n", encoding="ascii")
    sink = smtp(mailer, user="ha", secret_file=str(tmp_path / "secret"))
    code, said = deliver(tmp_path, **sink)
    assert code == AGAIN and "is not sent without TLS" in said and mailer.logins == []
    assert deliver(tmp_path, **sink, plain_login=True)[0] == DELIVERED and mailer.logins == [(b"ha", b"hunter2")]


def test_the_password_goes_to_no_mail_server_that_nobody_vouches_for(tmp_path: pathlib.Path) -> None:
    """On port 465, which is TLS from the start: in a network of its own, where that port is free."""
    key, certificate = make_certificate("127.0.0.1")
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "secret").write_text("hunter2\n", encoding="ascii")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = MailServer("127.0.0.1", 465, context, authenticates=True)
    server.start()
    sink = smtp(server, user="ha", secret_file=str(tmp_path / "secret"))
    try:
        code, said = deliver(tmp_path, **sink)
        assert code == AGAIN and "CERTIFICATE_VERIFY_FAILED" in said and server.logins == []
        assert deliver(tmp_path, **sink, ca_file=str(tmp_path / "crt"))[0] == DELIVERED
        assert server.logins == [(b"ha", b"hunter2")]
    finally:
        server.stop()
