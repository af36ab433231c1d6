"""Delivers one notification to one sink, as a process of its own: ``python -m ha_agent.alert_sender``, JSON on its input.

Name resolution, TLS and a mail server's patience can hang in ways that nothing within a process can break off; this one is
killed at its deadline, and the agent never carries what it imports. Exit status 0: the sink has it; 1: it may have it
another time; 3: it will never take this one. One line on standard output says why.
"""

from __future__ import annotations

import json
import os
import string
import sys
import time
from collections.abc import Mapping
from typing import Any

DELIVERED, AGAIN, NEVER = 0, 1, 3

MARKS = {"critical": "[!!]", "warning": "[!]", "info": "[i]"}


class Undelivered(Exception):
    """The sink did not take it; ``final``: it would not the next time either."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


def render_text(note: Mapping[str, Any]) -> str:
    """A notification as a few lines for people."""
    kind = {"end": "OVER: ", "repeat": "STILL: "}.get(note["kind"], "")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(note["at"]))
    lines = [f"{MARKS[note['severity']]} {note['node']}: {kind}{note['text']}", f"{note['title']} [{note['code']}], {when}"]
    if note["kind"] in ("end", "repeat"):
        lines.append(f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(note['since']))}")
    lines += [f"| {line}" for line in note["details"].get("log", ())]
    if note["kind"] != "end":
        lines.append(f"what to do: {note['remedy']}")
    return "\n".join(lines)


# ---- webhook ----------------------------------------------------------------------------------------------------


def webhook_body(form: str, note: Mapping[str, Any], template: str | None = None) -> Any:
    """The JSON that a webhook is sent. Raises ``ValueError`` where ``template`` is not JSON."""
    text = render_text(note)
    if form == "slack":
        return {"text": text}
    if form == "dingtalk":
        return {"msgtype": "text", "text": {"content": text}}
    if form == "wecom":
        return {"msgtype": "text", "text": {"content": text.encode()[:2000].decode("utf-8", "ignore")}}
    if form == "template":
        words = {key: str(note[key]) for key in ("code", "severity", "kind", "node", "remedy", "id", "at", "title")}
        words.update(text=text, subjects=", ".join(note["subjects"]))
        return _filled(json.loads(template or ""), words)
    return dict(note)


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """``value`` with the words in each of its texts; what they hold cannot break the JSON."""
    if isinstance(value, str):
        return string.Template(value).safe_substitute(words)
    if isinstance(value, list):
        return [_filled(part, words) for part in value]
    if isinstance(value, dict):
        return {key: _filled(part, words) for key, part in value.items()}
    return value


def signed_url(url: str, secret: str, at_ms: int) -> str:
    """A DingTalk robot's URL with its signature (open.dingtalk.com, "custom robot, security settings")."""
    import base64
    import hashlib
    import hmac
    from urllib.parse import quote_plus

    digest = hmac.new(secret.encode(), f"{at_ms}\n{secret}".encode(), hashlib.sha256).digest()
    return f"{url}{'&' if '?' in url else '?'}timestamp={at_ms}&sign={quote_plus(base64.b64encode(digest))}"


def _read_secret(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def send_webhook(sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """POSTs to the webhook. Raises ``Undelivered``, ``OSError`` and ``ValueError``."""
    import urllib.error
    import urllib.request

    url = _read_secret(sink["url_file"]) if sink["url_file"] else sink["url"]
    template = _read_secret(sink["template_file"]) if sink["format"] == "template" else None
    body = json.dumps(webhook_body(sink["format"], note, template), ensure_ascii=False).encode()
    if sink["format"] == "dingtalk" and sink["secret_file"]:
        url = signed_url(url, _read_secret(sink["secret_file"]), int(time.time() * 1000))
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "ha-agent", "Idempotency-Key": note["id"]}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=sink["timeout_s"]) as response:
            answer, status = response.read(65536), response.status
    except urllib.error.HTTPError as error:
        final = 400 <= error.code < 500 and error.code not in (401, 403, 404, 408, 429)
        raise Undelivered(f"HTTP status {error.code} {error.reason}", final=final) from None
    except urllib.error.URLError as error:
        raise Undelivered(str(error.reason)) from None
    if sink["format"] in ("dingtalk", "wecom"):
        _check_errcode(answer)
    return f"HTTP status {status}"


def _check_errcode(answer: bytes) -> None:
    """DingTalk and WeCom refuse with status 200 and an error code in the answer."""
    try:
        content = json.loads(answer)
        code, text = int(content.get("errcode", 0)), str(content.get("errmsg", ""))
    except (ValueError, AttributeError, TypeError):
        raise Undelivered(f"not an answer of this kind of webhook: {answer[:100]!r}") from None
    if code:
        raise Undelivered(f"errcode {code}: {text}")


# ---- the others -------------------------------------------------------------------------------------------------


def send_mail(sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """Hands a mail to the mail server. Raises ``Undelivered``, ``OSError`` and ``ValueError``."""
    import smtplib
    import ssl
    from email.message import EmailMessage
    from email.utils import formatdate

    mail = EmailMessage()
    head = render_text(note).split("\n", 1)[0]
    mail["Subject"], mail["From"], mail["To"] = head[:200], sink["sender"], ", ".join(sink["recipients"])
    mail["Date"], mail["Message-ID"] = formatdate(note["at"]), f"<{note['id']}.{int(note['at'])}@ha-agent>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(render_text(note) + "\n\n" + json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    kind = smtplib.SMTP_SSL if sink["port"] == 465 else smtplib.SMTP
    try:
        with kind(sink["host"], sink["port"], timeout=sink["timeout_s"]) as server:
            if sink["starttls"]:
                server.starttls(context=ssl.create_default_context())
            if sink["user"]:
                server.login(sink["user"], _read_secret(sink["secret_file"]))
            refused = server.send_message(mail)
    except smtplib.SMTPException as error:
        raise Undelivered(f"{type(error).__name__}: {error}") from None
    return f"mail server {sink['host']} has it" + (f", without {', '.join(refused)}" if refused else "")


def send_command(sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """Runs the command. Raises ``Undelivered`` and ``OSError``."""
    import subprocess

    words = [*sink["command"], note["kind"], note["code"], note["severity"], note["text"]]
    try:
        done = subprocess.run(
            words, input=json.dumps(note).encode() + b"\n", capture_output=True, timeout=sink["timeout_s"], check=False
        )
    except subprocess.TimeoutExpired:
        raise Undelivered(f"no end within {sink['timeout_s']:g} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-200:]
        raise Undelivered(f"{words[0]} ended with {done.returncode}" + (f": {said}" if said else ""))
    return f"{words[0]} ended with 0"


def send_journal(_sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """An entry of its own in systemd's journal. Raises ``Undelivered``."""
    from ha_agent.adapters.journald import JournalSink

    priority = {"critical": 2, "warning": 4, "info": 6}[note["severity"]]
    fields = {"HA_AGENT_ALERT": note["code"], "HA_AGENT_NODE": note["node"], "HA_AGENT_ALERT_ID": note["id"]}
    if not JournalSink().send(render_text(note), priority, HA_AGENT_ALERT_KIND=note["kind"], **fields):
        raise Undelivered("there is no journal here")
    return "the journal has it"


def send_syslog(_sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """A line through /dev/log. Raises ``Undelivered``."""
    import syslog

    if not os.path.exists("/dev/log"):
        raise Undelivered("there is no /dev/log here")
    priority = {"critical": syslog.LOG_CRIT, "warning": syslog.LOG_WARNING, "info": syslog.LOG_INFO}[note["severity"]]
    syslog.openlog("ha-agent", 0, syslog.LOG_DAEMON)
    syslog.syslog(priority, f"{note['kind']} {note['code']} {note['node']}: {note['text']}"[:1000].replace("\n", " "))
    return "syslog has it"


SENDERS = {
    "webhook": send_webhook,
    "smtp": send_mail,
    "command": send_command,
    "journal": send_journal,
    "syslog": send_syslog,
}


def main() -> int:
    """Reads ``{"sink": ..., "note": ...}`` and delivers it; the exit status says how that went."""
    task = json.load(sys.stdin)
    try:
        print(SENDERS[task["sink"]["kind"]](task["sink"], task["note"]))
    except Undelivered as error:
        print(error)
        return NEVER if error.final else AGAIN
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None)
        print(f"{where}: {error.strerror}" if where and isinstance(error, OSError) else f"{error}")
        return AGAIN
    return DELIVERED


if __name__ == "__main__":
    sys.exit(main())
