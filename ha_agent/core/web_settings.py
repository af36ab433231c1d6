"""The dashboard's configuration: every key with its type, default and trade-off, and the check of a whole file. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ha_agent.core.schema import (
    ABSOLUTE,
    HOST,
    NAME,
    NOT_SHOWN,
    SettingsError,
    SettingsProblem,
    between,
    check_named,
    check_section,
    key,
    matching,
    one_of,
)
from ha_agent.core.urls import split_web_url

OPTIONAL_PATH = matching(r"(/[^\0\n]*)?", "an absolute path")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """[web]: where the dashboard listens, and who may use it."""

    listen: str = key(
        "127.0.0.1",
        "Address to listen on. Any other than loopback needs users, and TLS here or plain_http.",
        HOST,
    )
    port: int = key(8420, "TCP port.", between(1, 65535))
    tls_certificate: str = key("", "File with the certificate and its chain (PEM); no TLS where it is empty.", OPTIONAL_PATH)
    tls_key: str = key("", "File with its key (PEM), readable by user ha-agent-web.", OPTIONAL_PATH)
    plain_http: bool = key(
        False, "true: listen on other addresses than loopback without TLS. Passwords then cross the network in the clear."
    )
    trusted_proxies: tuple[str, ...] = key(
        (),
        "Addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. A proxy that ends TLS must be "
        "named, so that cookies are marked secure and failed logins are counted per real client.",
    )
    sign_on_header: str = key(
        "",
        "Header in which a reverse proxy names the user that it has signed on, such as X-Remote-User; empty for none. Who "
        "is named must be a user of users_file, whose rights count; the proxy must drop the header of what comes to it.",
        matching(r"([A-Za-z][A-Za-z0-9-]{0,63})?", "the name of a header"),
    )
    sign_on_from: tuple[str, ...] = key(
        (), "Addresses of connections from which sign_on_header is believed; from all others it is taken out."
    )
    users_file: str = key("/etc/ha-agent/web-users.json", "Users and tokens; see ha-agent-web user add.", ABSOLUTE)
    read_only: bool = key(False, "true: nobody can change anything here, whatever their role.")
    open_metrics: bool = key(
        True, "true: /metrics, /active, /standby and /healthz ask for no login. false: /metrics needs a token."
    )
    session_idle_s: float = key(3600.0, "Seconds without a request after which a login ends.", between(60, 604800, "s"))
    session_max_s: float = key(43200.0, "Seconds after which a login ends in any case.", between(60, 2592000, "s"))
    language: str = key("auto", "Language for users that have not chosen one.", one_of("auto", "en", "zh"))
    poll_s: float = key(1.0, "Seconds between two looks at a node while somebody watches.", between(0.2, 60, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """[pairs.NAME]: one pair on the page; where there is no such section it is the pair of this node."""

    run_dir: str = key("", "This node's agent: its [paths] run_dir. Not together with urls.", OPTIONAL_PATH)
    urls: tuple[str, ...] = key(
        (),
        "Another pair: the dashboards of its nodes, such as https://node-a:8420; the first that answers is asked.",
        secret=True,
    )
    plain_http: bool = key(False, "Another pair: true: http:// is allowed; the token then crosses the network in the clear.")
    pair: str = key("local", "Another pair: what it is called there.", NAME)
    token_file: str = key("", "Another pair: file with a token made there by ha-agent-web token add.", OPTIONAL_PATH)
    ca_file: str = key("", "Another pair: certificates to trust (PEM); the system's where it is empty.", OPTIONAL_PATH)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A whole, checked configuration."""

    web: WebSettings = WebSettings()
    pairs: Mapping[str, PairSettings] = field(default_factory=dict)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_dashboard(raw: Mapping[str, Any], run_dir: str) -> Dashboard:
    """The settings in ``raw`` (a parsed TOML file); ``run_dir`` is the local agent's. Raises ``SettingsError``."""
    problems = [
        SettingsProblem(f"[{name}]", "unknown section", "[web] or [pairs.NAME]")
        for name in raw
        if name not in ("web", "pairs")
    ]
    web = check_section("web", WebSettings, _table(raw, "web", problems), problems)
    pairs = check_named("pairs", PairSettings, raw.get("pairs", {}), problems, _pair_problems)
    if web is not None:
        problems += _web_problems(web)
    if problems:
        raise SettingsError(problems)
    return Dashboard(web, pairs or {"local": PairSettings(run_dir=run_dir)})


def _table(raw: Mapping[str, Any], name: str, problems: list[SettingsProblem]) -> Mapping[str, Any]:
    table = raw.get(name, {})
    if isinstance(table, Mapping):
        return table
    problems.append(SettingsProblem(name, repr(table), f"a table [{name}]"))
    return {}


def _web_problems(web: WebSettings) -> list[SettingsProblem]:
    found = []
    if bool(web.tls_certificate) != bool(web.tls_key):
        found.append(SettingsProblem("web.tls_certificate", "only one of certificate and key is set", "both, or neither"))
    if not is_loopback(web.listen) and not web.tls_certificate and not web.plain_http:
        found.append(
            SettingsProblem("web.listen", f"{web.listen} without TLS", "tls_certificate and tls_key, or plain_http = true")
        )
    if bool(web.sign_on_header) != bool(web.sign_on_from):
        found.append(SettingsProblem("web.sign_on_header", "only one of it and sign_on_from is set", "both, or neither"))
    if web.sign_on_header.lower() in OWN_HEADERS:
        found.append(SettingsProblem("web.sign_on_header", web.sign_on_header, "a header of the proxy's own"))
    for address in web.sign_on_from:
        if not _is_address(address):
            found.append(SettingsProblem("web.sign_on_from", address, "IP addresses"))
    return found


OWN_HEADERS = frozenset({"authorization", "cookie", "host", "origin", "accept", "content-type", "x-csrf-token"})
"""What browsers and scripts send themselves."""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _pair_problems(where: str, pair: PairSettings) -> list[SettingsProblem]:
    if bool(pair.run_dir) == bool(pair.urls):
        return [SettingsProblem(where, "it has both of run_dir and urls, or neither", "one of them")]
    found = []
    for url in pair.urls:
        parts = split_web_url(url)
        if parts is None:
            found.append(SettingsProblem(f"{where}.urls", NOT_SHOWN, "https://HOST:PORT"))
        elif parts.username is not None or parts.query:
            found.append(SettingsProblem(f"{where}.urls", "a URL with a secret in it", "https://HOST:PORT, and token_file"))
        elif parts.scheme == "http" and not pair.plain_http and not is_loopback(str(parts.hostname)):
            text = f"{parts.hostname} without TLS"
            found.append(SettingsProblem(f"{where}.urls", text, "https://HOST:PORT, or plain_http = true"))
    if pair.urls and not pair.token_file:
        found.append(SettingsProblem(f"{where}.token_file", "missing", "needed with urls"))
    return found


def sample_web_toml() -> str:
    """A commented configuration file: every key with its documentation, at its default."""
    # The agent's own settings come with it, which a dashboard at work has no use for.
    from ha_agent.core.settings_sample import sample_section

    lines = ["# Configuration of ha-agent-web. Commented keys show their defaults.", "", f"[web]  # {_doc(WebSettings)}"]
    lines += sample_section("web", WebSettings)
    lines += ["", f"#[pairs.NAME]  # {_doc(PairSettings)}", *sample_section("pairs.NAME", PairSettings)]
    return "\n".join(lines) + "\n"


def _doc(cls: type[Any]) -> str:
    return (cls.__doc__ or "").split(": ", 1)[1]
