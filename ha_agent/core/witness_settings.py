"""[witness]: the third opinion of a pair, and the bounds of its times. Off where ``kind`` is empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from ha_agent.core.schema import NAME, SettingsProblem, between, each, key, matching, one_of
from ha_agent.core.vote_terms import CLOCK_RATES_DIFFER, LEAST_KILL_S, VoteTerms

_OPTIONAL_PATH = matching(r"(/[^\0\n]*)?", "an absolute path")
_ENDPOINT = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSettings:
    """[witness]: a third opinion, with which a pair never runs its programs twice (docs/votes.md)."""

    kind: str = key(
        "",
        'What keeps the record: "etcd", or "ssh" for a file on any third host with ha-agent-witness; empty for no '
        "witness. The same on both nodes, where the unit ha-agent-keeper must run, too (docs/votes.md).",
        one_of("", "etcd", "ssh"),
    )
    record: str = key(
        "",
        "Name of the pair's record, one for each pair; where it is empty, both nodes' names in alphabetical order "
        "with + between. "
        'kind etcd: the key is "ha-agent/NAME/votes". kind ssh: the line in authorized_keys names it, and this key is '
        "not used.",
        matching(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,126})?", "1 to 127 letters, digits, '.', '_', '+' or '-'"),
    )
    ttl_s: float = key(
        3.0,
        "Seconds that a promise lasts. A crash of the active node costs up to so many until the other one takes over; "
        "a smaller one "
        "stops the programs at a shorter outage of peer and witness together. At least renew_s + 2 * answer_s + "
        "kill_margin_s.",
        between(1.0, 300.0, "s"),
    )
    renew_s: float = key(1.0, "Seconds between two questions of the node that holds the votes.", between(0.1, 100.0, "s"))
    answer_s: float = key(
        0.5,
        "Seconds that peer and witness have to answer; a later answer counts as none. Longer bears a slower witness, "
        "and needs a longer ttl_s.",
        between(0.05, 60.0, "s"),
    )
    kill_margin_s: float = key(
        0.5,
        "Seconds before the end of its promises at which a node kills everything, whatever stopwaitsecs says. Covers "
        "the kill and "
        "clocks of different rates: at least ttl_s / 10 + 0.1.",
        between(0.15, 60.0, "s"),
    )
    watchdog_s: int = key(
        0,
        "Seconds after which /dev/watchdog resets the machine where the keeper itself cannot kill: it is stopped, or what "
        "it killed does not end. 0: not used. kill_margin_s must be longer by as much. Nobody else may use it (systemd's "
        "RuntimeWatchdogSec, the package watchdog).",
        between(0, 60, "s"),
    )
    required: bool = key(
        True,
        "true: no program is started while the keeper, which kills at the deadline also where the agent hangs, is not "
        "armed. "
        "false: they are started, and what the agent itself can do must be enough.",
    )
    endpoints: tuple[str, ...] = key(
        (),
        'kind etcd: the members\' client URLs, as ["https://192.0.2.21:2379"]. A member is asked when another one '
        "does not answer.",
        each(lambda v: _ENDPOINT.fullmatch(v) is not None, "URLs as https://HOST:PORT"),
    )
    ca_file: str = key(
        "",
        "kind etcd: certificates (PEM) that the members' are checked with; the system's where it is empty.",
        _OPTIONAL_PATH,
    )
    cert_file: str = key("", "kind etcd: certificate (PEM) that this node shows; none where it is empty.", _OPTIONAL_PATH)
    cert_key_file: str = key("", "kind etcd: the key of cert_file.", _OPTIONAL_PATH)
    user: str = key(
        "",
        "kind etcd: user to authenticate as; none where it is empty. It needs to read and write the record's key alone.",
        matching(r"[^\0\n]{0,128}", "a name of up to 128 characters"),
    )
    password_file: str = key("", "kind etcd: file with the user's password; readable by root alone.", _OPTIONAL_PATH)
    host: str = key(
        "",
        "kind ssh: the witness host, under which its host key is pinned in known_hosts. Not one of the two nodes, and "
        "not behind "
        "the same switch or gateway alone.",
        matching(r"([A-Za-z0-9:][A-Za-z0-9.:_-]{0,253})?", "a host name or an address"),
    )
    ssh_port: int = key(22, "kind ssh: TCP port of its sshd.", between(1, 65535))
    ssh_user: str = key("ha-agent-witness", "kind ssh: user there whose authorized_keys holds both nodes' keys.", NAME)
    key_file: str = key(
        "/etc/ha-agent/ssh/id_ed25519", "kind ssh: this node's private key.", matching(r"/[^\0\n]*", "an absolute path")
    )
    known_hosts: str = key(
        "/etc/ha-agent/ssh/known_hosts",
        "kind ssh: file with the witness host's pinned key.",
        matching(r"/[^\0\n]*", "an absolute path"),
    )

    @property
    def terms(self) -> VoteTerms:
        """The times that both voters are agreed on."""
        return VoteTerms(ttl_s=self.ttl_s, renew_s=self.renew_s, answer_s=self.answer_s, margin_s=self.kill_margin_s)


def record_name(settings: WitnessSettings, node: str, peer: str) -> str:
    """The name of the pair's record, the same on both nodes."""
    return settings.record or "+".join(sorted((node, peer)))


def witness_hosts(settings: WitnessSettings) -> tuple[str, ...]:
    """The machines that keep the record; none without a witness."""
    if not settings.kind:
        return ()
    return (settings.host,) if settings.kind == "ssh" else tuple(urlsplit(url).hostname or "" for url in settings.endpoints)


def check_witness(settings: WitnessSettings, addresses: tuple[str, ...]) -> Iterator[SettingsProblem]:
    """What is wrong with the section as a whole. ``addresses``: names and addresses of the two nodes."""
    if not settings.kind:
        return
    yield from _check_times(settings)
    if settings.kind == "etcd":
        yield from _check_etcd(settings, addresses)
    elif not settings.host:
        yield SettingsProblem("witness.host", "missing", "needed by kind ssh")
    elif settings.host in addresses:
        yield SettingsProblem("witness.host", repr(settings.host), "another machine than the two nodes")


def _check_times(settings: WitnessSettings) -> Iterator[SettingsProblem]:
    least_ttl, least_margin = settings.terms.least_ttl_s(), settings.terms.least_margin_s() + settings.watchdog_s
    # What a decimal fraction loses as a binary one is no problem of the configuration.
    if settings.ttl_s < least_ttl - 1e-9:
        why = f"renew_s + 2 * answer_s + kill_margin_s = {least_ttl:g} at least, so that one lost answer costs nothing"
        yield SettingsProblem("witness.ttl_s", f"{settings.ttl_s:g}", why)
    if settings.kill_margin_s < least_margin - 1e-9:
        formula = f"ttl_s * {CLOCK_RATES_DIFFER:g} + {LEAST_KILL_S:g}" + (" + watchdog_s" if settings.watchdog_s else "")
        why = f"{formula} = {least_margin:g} at least, for clocks of different rates"
        yield SettingsProblem("witness.kill_margin_s", f"{settings.kill_margin_s:g}", why)


def _check_etcd(settings: WitnessSettings, addresses: tuple[str, ...]) -> Iterator[SettingsProblem]:
    if not settings.endpoints:
        yield SettingsProblem("witness.endpoints", "missing", "needed by kind etcd")
    elif len(settings.endpoints) == 1 and urlsplit(settings.endpoints[0]).hostname in addresses:
        yield SettingsProblem("witness.endpoints", repr(settings.endpoints[0]), "another machine than the two nodes")
    if settings.user and not settings.password_file:
        yield SettingsProblem("witness.password_file", "missing", "needed where there is a user")
    if settings.user and any(not url.startswith("https://") for url in settings.endpoints):
        yield SettingsProblem("witness.endpoints", repr(list(settings.endpoints)), "https where there is a user")
    if bool(settings.cert_file) != bool(settings.cert_key_file):
        lacking = "cert_key_file" if settings.cert_file else "cert_file"
        yield SettingsProblem(f"witness.{lacking}", "missing", "cert_file and cert_key_file go together")
