"""Delivers one notification to one sink, as a process of its own: ``python -m ha_agent.alert_sender``, JSON on its input.

Name resolution, TLS and a mail server's patience can hang in ways that nothing within a process can break off; this one is
killed at its deadline, and the agent never carries what it imports. Exit status 0: the sink has it; 1: it may have it
another time; 3: it will never take this one. One line on standard output says why; readers see it, so it holds no URL and no
password. What a notification tells was written by others: a sink gets it made visible (``core/visible``).
"""

from __future__ import annotations

import json
import os
import string
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ha_agent.core.reasons import reason_of
from ha_agent.core.visible import visible, visible_data

if TYPE_CHECKING:
    import ssl
    from email.message import EmailMessage

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


def webhook_body(form: str, note: Mapping[str, Any], template: Any = None) -> Any:
    """The JSON that a webhook is sent; ``template`` is the one of format "template"."""
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
        return _filled(template, words)
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
    """What the file ``path`` holds, without the blanks around it. Raises ``OSError`` and ``Undelivered``."""
    with open(path, "rb") as file:
        try:
            return file.read().decode().strip()
        except UnicodeDecodeError:
            raise Undelivered(f"{path} is not UTF-8") from None


def _trust(sink: Mapping[str, Any]) -> ssl.SSLContext:
    """What a server's certificate is checked with: the sink's own certificates, or the system's. Raises ``OSError``."""
    import ssl

    return ssl.create_default_context(cafile=sink["ca_file"] or None)


def _webhook_url(sink: Mapping[str, Any]) -> str:
    """Where to POST to. Raises ``OSError``, and ``Undelivered`` without repeating what stands there."""
    from ha_agent.core.urls import split_web_url

    where, url = ("url_file", _read_secret(sink["url_file"])) if sink["url_file"] else ("url", sink["url"])
    if split_web_url(url) is None:
        raise Undelivered(f"{where} holds no http or https URL")
    return str(url)


def _template(sink: Mapping[str, Any]) -> Any:
    path = sink["template_file"]
    try:
        return json.loads(_read_secret(path))
    except (ValueError, RecursionError):
        raise Undelivered(f"{path} is not JSON") from None


def send_webhook(sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """POSTs to the webhook. Raises ``Undelivered`` and ``OSError``."""
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        """A POST that is sent elsewhere has not been taken; the URL may hold a secret, which is nobody else's either."""

        def redirect_request(self, *_: Any) -> None:
            return None

    url = _webhook_url(sink)
    template = _template(sink) if sink["format"] == "template" else None
    body = json.dumps(webhook_body(sink["format"], note, template), ensure_ascii=False).encode()
    if sink["format"] == "dingtalk" and sink["secret_file"]:
        url = signed_url(url, _read_secret(sink["secret_file"]), int(time.time() * 1000))
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "ha-agent", "Idempotency-Key": note["id"]}
    request = urllib.request.Request(url, body, headers)
    https = urllib.request.HTTPSHandler(context=_trust(sink)) if url.startswith("https:") else urllib.request.HTTPHandler()
    try:
        with urllib.request.build_opener(Redirects, https).open(request, timeout=sink["timeout_s"]) as response:
            answer, status = response.read(65536), response.status
    except urllib.error.HTTPError as error:
        raise _refused(error.code, error.headers.get("Location", "")) from None
    except urllib.error.URLError as error:
        raise Undelivered(getattr(error.reason, "strerror", None) or str(error.reason)) from None
    except http.client.HTTPException as error:
        raise Undelivered(f"no answer of a web server: {type(error).__name__}") from None
    if sink["format"] in ("dingtalk", "wecom"):
        _check_errcode(answer)
    return f"HTTP status {status}"


def _refused(status: int, location: str) -> Undelivered:
    """What an HTTP status other than success means for the notification."""
    import http
    import urllib.parse

    phrase = next((known.phrase for known in http.HTTPStatus if known == status), "")
    if 300 <= status < 400:
        try:
            parts = urllib.parse.urlsplit(location)
            to = f"{parts.scheme}://{parts.hostname}" if parts.hostname else "another path"
        except ValueError:
            to = "somewhere else"
        return Undelivered(f"HTTP status {status} {phrase}: it was sent on to {to} and not taken; set the URL that takes it")
    final = 400 <= status < 500 and status not in (401, 403, 404, 408, 429)
    return Undelivered(f"HTTP status {status} {phrase}", final=final)


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


def _mail(sink: Mapping[str, Any], note: Mapping[str, Any]) -> EmailMessage:
    """The mail. Raises ``Undelivered`` where an address of the sink is none."""
    from email.message import EmailMessage
    from email.utils import formatdate

    mail = EmailMessage()
    try:
        mail["From"], mail["To"] = sink["sender"], ", ".join(sink["recipients"])
    except ValueError:
        raise Undelivered("sender or recipients are no addresses") from None
    mail["Subject"] = render_text(note).split("\n", 1)[0][:200]
    mail["Date"], mail["Message-ID"] = formatdate(note["at"]), f"<{note['id']}.{int(note['at'])}@ha-agent>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(render_text(note) + "\n\n" + json.dumps(note, indent=2, ensure_ascii=False) + "\n")
    return mail


def send_mail(sink: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    """Hands a mail to the mail server. Raises ``Undelivered`` and ``OSError``."""
    import smtplib

    mail, host, port = _mail(sink, note), sink["host"], sink["port"]
    if sink["user"] and port != 465 and not sink["starttls"] and not sink["plain_login"]:
        raise Undelivered("the password is not sent without TLS: set starttls = true, port = 465, or plain_login = true")
    timeout_s = sink["timeout_s"]
    try:
        with (
            smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=_trust(sink))
            if port == 465
            else smtplib.SMTP(host, port, timeout=timeout_s)
        ) as server:
            if sink["starttls"] and port != 465:
                server.starttls(context=_trust(sink))
            if sink["user"]:
                server.login(sink["user"], _read_secret(sink["secret_file"]))
            refused = server.send_message(mail)
    except smtplib.SMTPException as error:
        raise Undelivered(f"{type(error).__name__}: {error}") from None
    return f"mail server {host} has it" + (f", without {', '.join(refused)}" if refused else "")


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


def deliver(task: Mapping[str, Any]) -> tuple[int, str]:
    """Delivers ``task["note"]`` to ``task["sink"]``; returns the exit status and one line that says how that went.

    What nobody has thought of is the end of this one notification: it would fail the next time as well, and those behind
    it wait.
    """
    try:
        return DELIVERED, SENDERS[task["sink"]["kind"]](task["sink"], visible_data(task["note"]))
    except Undelivered as error:
        return NEVER if error.final else AGAIN, str(error)
    except OSError as error:
        return AGAIN, reason_of(error)
    except Exception as error:  # noqa: BLE001 the outermost border: one line, whatever it was
        # The texts of foreign exceptions repeat what could not be used, which may be a secret.
        return NEVER, f"this alert cannot be sent: {type(error).__name__}"


def main() -> int:
    """Reads ``{"sink": ..., "note": ...}`` and delivers it; the exit status says how that went."""
    status, said = deliver(json.load(sys.stdin))
    print(visible(said))
    return status


if __name__ == "__main__":
    sys.exit(main())
