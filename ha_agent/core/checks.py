"""[checks.NAME]: looks at the services of the active node, and what is wrong with such a section. Pure."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ha_agent.core.schema import REQUIRED, SettingsProblem, between, each, key, matching, one_of

NEEDS: Mapping[str, tuple[str, ...]] = {
    "tcp": ("address",),
    "http": ("url",),
    "redis": ("address",),
    "command": ("command",),
    "running": ("program",),
}
"""Every kind, and the keys that it cannot do without."""

MEANS: Mapping[str, frozenset[str]] = {
    "address": frozenset({"tcp", "redis"}),
    "url": frozenset({"http"}),
    "host": frozenset({"http"}),
    "expect": frozenset({"http"}),
    "command": frozenset({"command"}),
}
"""Keys that mean something to some kinds alone."""

_ADDRESS = "an IP address or localhost, and a port, as 127.0.0.1:6379 or [::1]:6379"
_URL = "http://, an IP address or localhost, and a path, as http://127.0.0.1:8080/health"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection goes to: an IP address and a port."""

    host: str
    port: int

    @property
    def is_v6(self) -> bool:
        """Whether it is of IPv6."""
        return ":" in self.host


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """What is asked for: where, the value of the header Host, and the path with its query."""

    endpoint: Endpoint
    host: str
    path: str


def parse_endpoint(text: str, port: int | None = None) -> Endpoint:
    """``text`` as an endpoint; ``port`` where it has none. Raises ``ValueError``.

    A name is refused but for localhost: to look it up may take longer than what is looked at.
    """
    parts = urllib.parse.urlsplit("//" + text)
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        raise ValueError("it is no address")
    number = parts.port if parts.port is not None else port
    if number is None or number == 0:
        raise ValueError("it has no port")
    host = "127.0.0.1" if parts.hostname == "localhost" else str(ipaddress.ip_address(parts.hostname))
    return Endpoint(host, number)


def parse_url(url: str, host: str = "") -> HttpTarget:
    """``url`` as what is asked for; ``host`` is said in place of its own. Raises ``ValueError``."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "http" or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("it is no URL of http")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpTarget(parse_endpoint(parts.netloc, 80), host or parts.netloc, path)


def _is_right(parse: object, *words: str) -> bool:
    try:
        parse(*words)  # type: ignore[operator]
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """[checks.NAME]: a look at a service of the active node, again and again; as many sections as there are looks."""

    kind: str = key(
        REQUIRED,
        '"tcp": address takes a connection. "http": url answers. "redis": address answers PING with PONG. "command": it '
        'ends with 0. "running": program is RUNNING by supervisord\'s word: for one that the service cannot be without.',
        one_of(*NEEDS),
    )
    program: str = key(
        "",
        "The program of the registry that is looked at. Then nothing is looked at while it is starting, stopped or parked. "
        "Empty: the node's own service.",
        matching(r"([^\s:\[\]]{1,200})?", "the name of a program"),
    )
    address: str = key("", f"kind tcp and redis: {_ADDRESS}.")
    url: str = key("", f"kind http: {_URL}. For https take a command.")
    host: str = key(
        "",
        "kind http: what the header Host says, in place of the address.",
        matching(r"[A-Za-z0-9.:_\[\]-]{0,253}", "a host name"),
    )
    expect: tuple[str, ...] = key(
        (),
        "kind http: the statuses that are good; 200 to 399 where it is empty.",
        each(lambda v: re.fullmatch(r"[1-5]\d\d", v) is not None, 'statuses as texts, such as "200"'),
    )
    command: tuple[str, ...] = key(
        (),
        "kind command: its words, absolute path first. It is run as root, without a shell, a terminal or an environment, "
        "and is killed with all of its process group when timeout_s is over.",
    )
    interval_s: float = key(
        5.0,
        "Seconds between two looks. fall * interval_s is how long a fault lasts before something is done.",
        between(0.5, 3600.0, "s"),
    )
    timeout_s: float = key(
        2.0, "Seconds that an answer may take; more is a failure. Less than interval_s.", between(0.05, 600.0, "s")
    )
    after_s: float = key(
        10.0,
        "Seconds before the first look: since program is RUNNING (its startsecs are over then), or since the node is "
        "active. What a program needs to come up, or its start is taken for a fault.",
        between(0.0, 3600.0, "s"),
    )
    fall: int = key(
        3,
        "Failures in a row that are a fault. 1 is quick, and takes one lost answer for a fault.",
        between(1, 1000),
    )
    rise: int = key(2, "Good answers in a row that end it.", between(1, 1000))
    on_failure: str = key(
        "alert",
        'What is done besides the alert. "restart": program is restarted. "hand-over": the standby takes over, where it '
        "could; never for a fault that is on the new active node, too (docs/checks.md).",
        one_of("alert", "restart", "hand-over"),
    )
    at_most: int = key(
        3,
        "So many restarts for this check, or hand-overs for any check of the pair, are made within within_s; then it is "
        "the alert alone.",
        between(1, 100),
    )
    within_s: float = key(3600.0, "Seconds in which these are counted.", between(1.0, 86400.0, "s"))


def check_check(where: str, check: CheckSettings) -> Iterator[SettingsProblem]:
    """What is wrong with the check at ``where``, whose keys are right by themselves."""
    for word in NEEDS[check.kind]:
        if not getattr(check, word):
            yield SettingsProblem(f"{where}.{word}", "missing", f"needed by kind {check.kind}")
    for word, kinds in MEANS.items():
        if getattr(check, word) and check.kind not in kinds:
            yield SettingsProblem(
                f"{where}.{word}", f"means nothing to kind {check.kind}", f"kind {' or '.join(sorted(kinds))}"
            )
    if check.address and not _is_right(parse_endpoint, check.address):
        yield SettingsProblem(f"{where}.address", repr(check.address), _ADDRESS)
    if check.url and not _is_right(parse_url, check.url):
        yield SettingsProblem(f"{where}.url", repr(check.url), _URL)
    if check.command and not check.command[0].startswith("/"):
        yield SettingsProblem(f"{where}.command", repr(check.command[0]), "an absolute path as its first word")
    if check.timeout_s >= check.interval_s:
        found = f"{check.timeout_s:g} beside an interval_s of {check.interval_s:g}"
        yield SettingsProblem(f"{where}.timeout_s", found, "less than interval_s")
    if check.on_failure == "restart" and not check.program:
        yield SettingsProblem(f"{where}.program", "missing", 'needed by on_failure = "restart"')
