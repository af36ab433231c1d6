"""The configuration: every key with its type, unit, default, limits and trade-off, and the check of a whole file.

``check_settings`` reports all problems of a file at once. The documentation of a key lives beside its default, and
``ha-agent config sample`` prints both, so that the two cannot drift apart.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from ha_agent.core.checks import CheckSettings, check_check
from ha_agent.core.hooks import HookSettings, check_hook
from ha_agent.core.host_profile import DEBIAN
from ha_agent.core.order_keys import TIMEOUTS
from ha_agent.core.payload_rules import find_faults
from ha_agent.core.places import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from ha_agent.core.schema import (
    ABSOLUTE,
    ADDRESS,
    ADDRESSES,
    INTERFACE_ADDRESS,
    INTERFACE_ADDRESSES,
    INTERFACES,
    MISSING,
    NAME,
    PATH_ADDRESSES,
    REQUIRED,
    SettingsError,
    SettingsProblem,
    between,
    check_named,
    check_section,
    each,
    key,
    matching,
    nearest,
    one_of,
)
from ha_agent.core.witness_settings import WitnessSettings, check_witness


def _name_first(settings: Any, one: str, several: tuple[str, ...]) -> None:
    if several and not getattr(settings, one):
        object.__setattr__(settings, one, several[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """[node]: this machine."""

    name: str = key(REQUIRED, "Name of this node, as the peer and the history call it.", NAME)
    address: str = key("", "Address of this node that VRRP adverts are sent from.", ADDRESS)
    addresses: tuple[str, ...] = key(
        (),
        "In place of address where there are several networks between the nodes: this node's own address in each of them, "
        "in the order of peer.addresses. The first is in the network of the VIP.",
        PATH_ADDRESSES,
    )

    def __post_init__(self) -> None:
        """``address`` names the first of several."""
        _name_first(self, "address", self.addresses)

    @property
    def paths(self) -> tuple[str, ...]:
        """The own address on each path."""
        return self.addresses or (self.address,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """[peer]: the other machine."""

    name: str = key(REQUIRED, "Name of the peer, as its own [node] name says.", NAME)
    address: str = key("", "Address of the peer, for VRRP adverts and for ssh.", ADDRESS)
    addresses: tuple[str, ...] = key(
        (),
        "In place of address: the peer's address in each network between the nodes, so that one cut cable parts nobody. "
        "ssh goes over one of those that answer, adverts over all: the peer counts as gone when none brings any.",
        PATH_ADDRESSES,
    )
    ssh_port: int = key(22, "TCP port of the peer's sshd.", between(1, 65535))
    ssh_user: str = key("root", "User at the peer whose authorized_keys holds this node's restricted key.", NAME)

    def __post_init__(self) -> None:
        """``address`` names the first of several, for what speaks of one."""
        _name_first(self, "address", self.addresses)

    @property
    def paths(self) -> tuple[str, ...]:
        """The peer's address on each path, the preferred one first."""
        return self.addresses or (self.address,)


@dataclass(frozen=True, slots=True, kw_only=True)
class VrrpSettings:
    """[vrrp]: what `ha-agent keepalived render` puts into keepalived.conf, and what the agent expects of it."""

    vip: str = key(
        "",
        "The virtual address with the prefix length of its network. In the network of node.address keepalived is given it "
        "alone (/32), so that its removal takes no other address along. Where there are several, vips says them instead.",
        INTERFACE_ADDRESS,
    )
    vips: tuple[str, ...] = key(
        (),
        "Several virtual addresses, IPv4 and IPv6, in place of vip. They move together. The first one of node.address's "
        "kind (IPv4 or IPv6) is told in adverts, the others are put beside it.",
        INTERFACE_ADDRESSES,
    )
    interface: str = key("eth0", "Network interface that carries the VIP.", matching(r"[^\s/]{1,15}", "an interface name"))
    path_interfaces: tuple[str, ...] = key(
        (),
        "Network interfaces of the further paths, where node.addresses has several: of its second address, its third and so "
        "on. keepalived sends adverts there, too.",
        INTERFACES,
    )
    instance: str = key("HA_AGENT", "Name of the VRRP instance in keepalived.conf.", NAME)
    router_id: int = key(51, "virtual_router_id; the same on both nodes, unique in the network.", between(1, 255))
    priority: int = key(100, "VRRP priority; give the two nodes different ones.", between(1, 254))
    advert_int_s: float = key(
        0.1,
        "Seconds between adverts. A dead peer is noticed after 3 to 4 of them. Smaller fails over faster and makes a "
        "busy network or a stalled virtual machine look dead.",
        between(0.01, 40.0, "s"),
    )
    startup_delay_s: float = key(
        2.0,
        "Seconds that keepalived waits after its start before it takes part: a booting node does not become MASTER "
        "for a moment beside a living peer. Also the least time for which the VIP has no owner when both boot at once.",
        between(0.0, 300.0, "s"),
    )
    nopreempt: bool = key(
        True,
        "true: a node that comes back does not take the VIP from a healthy peer, so a repair costs no second outage. "
        "false: the node with the higher priority always gets it back.",
    )
    pid_file: str = key("/run/keepalived.pid", "keepalived's pid file.", ABSOLUTE)
    stop_command: tuple[str, ...] = key(
        ("/usr/bin/systemctl", "stop", "keepalived"),
        "Command (a list of words, absolute path first) that stops keepalived where it stays MASTER though the track file "
        "tells it FAULT. drill.keepalived_start_command starts it again when this node is fit.",
    )

    def __post_init__(self) -> None:
        """``vip`` names the first of several, for what speaks of one."""
        _name_first(self, "vip", self.vips)

    @property
    def all_vips(self) -> tuple[str, ...]:
        """Every virtual address, whichever key says it."""
        return self.vips or (self.vip,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """[registry]: the replicated conf directory."""

    path: str = key(DEBIAN.registry, "The registry. supervisord must not include it itself.", ABSOLUTE)
    compare_interval_s: float = key(
        60.0,
        "Seconds between full compares of the directory with what is known of it. Finds what inotify lost; costs one "
        "stat a file.",
        between(1.0, 86400.0, "s"),
    )
    delete_settle_s: float = key(
        0.15,
        "Seconds without a further deletion before deletions are sent. Longer recognises a slow mass deletion better; "
        "a single deletion arrives that much later.",
        between(0.0, 10.0, "s"),
    )
    mass_delete_fraction: float = key(
        0.5,
        "Deletions of more than this share of all confs are held until an operator confirms them "
        "(`ha-agent sync --accept-deletes`). 1.0 switches the guard off.",
        between(0.0, 1.0),
    )
    mass_delete_minimum: int = key(3, "Fewer deletions than this are never held.", between(1, 1000000))


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSettings:
    """[supervisor]: the supervisord that runs the programs."""

    socket: str = key("/run/supervisor.sock", "supervisord's unix socket.", ABSOLUTE)
    config: str = key(DEBIAN.main_conf, "supervisord's main conf.", ABSOLUTE)
    python: str = key(
        "auto",
        'Interpreter with supervisord\'s own parser: "auto" takes the one that the running supervisord uses.',
        matching(r"auto|/.+", '"auto" or an absolute path'),
    )
    rpc_timeout_s: float = key(
        10.0,
        "Seconds after which a call to supervisord counts as failed.",
        between(0.5, 300.0, "s"),
    )
    hung_s: float = key(
        5.0,
        "Seconds that supervisord may take to answer before a takeover or release counts it as hung: it is ended then "
        "(systemd starts it again), the programs without it. It is silent while it spawns many programs.",
        between(0.5, 300.0, "s"),
    )
    restart_wait_s: float = key(
        5.0,
        "Seconds that supervisord may be gone before this node gives the VIP to its peer. Longer than RestartSec of its "
        "unit; the programs are down meanwhile.",
        between(0.1, 3600.0, "s"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """[link]: the connection to the peer."""

    key_file: str = key("/etc/ha-agent/ssh/id_ed25519", "This node's private key.", ABSOLUTE)
    known_hosts: str = key("/etc/ha-agent/ssh/known_hosts", "The peer's pinned host key.", ABSOLUTE)
    heartbeat_s: float = key(
        2.0,
        "Seconds between signs of life. A link that stays silent for three of them counts as down.",
        between(0.2, 60.0, "s"),
    )
    connect_timeout_s: float = key(5.0, "Seconds for an ssh connection to come up.", between(1.0, 120.0, "s"))
    retry_max_s: float = key(5.0, "Longest pause between two attempts to connect, in seconds.", between(0.2, 300.0, "s"))
    answer_timeout_s: float = key(
        30.0, "Seconds that the peer may take to commit a change before the link is given up.", between(1.0, 600.0, "s")
    )
    inline_max_bytes: int = key(
        65536,
        "Changes up to this size travel within one frame; larger ones by rsync over the same connection.",
        between(0, 1048576, "bytes"),
    )


POLICIES = {
    "start": "the programs are started, and may run on both nodes",
    "hold": "nothing is started before the peer gives its word or fence_command succeeds, whatever the reason",
    "hold-if-alive": "nothing is started while the peer's machine gives signs of life; one that gives none counts as off",
}
"""What ``takeover.on_interlock_timeout`` may say, and what is done then without the peer's word."""

_POLICY_TEXT = "; ".join(f'"{policy}": {text}' for policy, text in POLICIES.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeoverSettings:
    """[takeover]: becoming active."""

    peer_probe_s: float = key(
        0.25,
        "Seconds that a peer has to say that it heard the interlock's question; after that it counts as dead. A machine "
        "that is asked all the time and says nothing is dead after this time, too, from its first missing advert on. "
        "Longer never mistakes a stalled peer for a dead one, and a crash failover waits that long.",
        between(0.01, 60.0, "s"),
    )
    silent_peer_s: float = key(
        15.0,
        "Seconds that a peer has whose machine answers (ping, TCP) while its agent does not: killed or hung, the agent "
        "is back within 10 s and gives its word. Then on_interlock_timeout decides. A machine that is off has no such time.",
        between(0.0, 3600.0, "s"),
    )
    interlock_timeout_s: float = key(
        60.0,
        "Seconds that a living peer has to report that nothing is left running there. Should exceed the longest "
        "stopwaitsecs of the registry.",
        between(0.1, 3600.0, "s"),
    )
    on_interlock_timeout: str = key(
        "start",
        "What is done when the peer has not given its word in time that nothing is left running there, and fence_command is "
        f"not set or has failed. {_POLICY_TEXT}. "
        'With "hold" and no fence_command a machine that dies is not replaced before it is back.',
        one_of(*POLICIES),
    )
    dual_master_s: float = key(
        1.0,
        "Seconds that an active node which keepalived still calls MASTER waits for its own BACKUP before it refuses "
        "to hand over: in a dual master the node that is already active stays it.",
        between(0.1, 60.0, "s"),
    )
    fence_command: tuple[str, ...] = key(
        (),
        "Command (a list of words, absolute path first) that makes sure that the peer is off; run before the programs start "
        "whenever the peer did not give its word that nothing is left running. Exit status 0 means that it is off.",
    )
    fence_timeout_s: float = key(10.0, "Seconds for fence_command.", between(0.1, 600.0, "s"))
    require_any: tuple[str, ...] = key(
        (),
        "Addresses, such as the gateway's, of which one must answer a ping before this node starts programs without the "
        "peer's word. A node that is cut off from everything then starts nothing, and fences nobody. Empty: none is asked.",
        ADDRESSES,
    )
    start_all: bool = key(
        False,
        "true: also start programs that say autostart=false, as `supervisorctl start all` does. For registries "
        "whose confs all say autostart=false because supervisord used to start them at boot.",
    )
    retry_s: float = key(1.0, "Seconds between attempts when supervisord cannot be reached.", between(0.05, 60.0, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """[order]: programs that are started after others (`; ha-agent: after=...` in a conf; docs/order.md)."""

    limit_s: float = key(
        30.0,
        "Seconds that a program waits for what its after= names, from the start of that on, where its conf has no wait_s. "
        "supervisord gives a program up after some 10 s by default, and a large redis or a Java server is up within 30: "
        "longer makes a service that never comes cost that much at every takeover, shorter starts programs too early.",
        between(0.1, 3600.0, "s"),
    )
    on_timeout: str = key(
        "start",
        "What is done when that time is over, where the conf has no on_timeout. "
        + "; ".join(f'"{word}": {text}' for word, text in TIMEOUTS.items())
        + '. With "start" an order that is wrong costs time and no service.',
        one_of(*TIMEOUTS),
    )
    stop_s: float = key(
        10.0,
        "Seconds of a release in which programs are stopped in the reverse order, where the other node waits for its word. "
        "Then all that is left is told at once, within release.stop_timeout_s; 0: all at once from the beginning.",
        between(0.0, 3600.0, "s"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSettings:
    """[release]: becoming standby."""

    stop_timeout_s: float = key(
        60.0,
        "Seconds that supervisord has to stop everything (it kills each program after its own stopwaitsecs). "
        "What lives longer is ended by the sweep.",
        between(0.1, 3600.0, "s"),
    )
    sweep_grace_s: float = key(
        2.0, "Seconds between TERM and KILL for processes that supervisord no longer owns.", between(0.0, 600.0, "s")
    )
    retry_s: float = key(5.0, "Seconds between attempts to end what could not be ended.", between(0.1, 600.0, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessSettings:
    """[readiness]: the standby tests whether it could start every conf."""

    interval_s: float = key(
        600.0,
        "Seconds between full tests of all confs; a changed conf is tested at once. A test of 1,000 confs takes about "
        "a second of one core.",
        between(5.0, 86400.0, "s"),
    )
    idle_s: float = key(
        30.0,
        "Seconds that the parser process of a standby stays after its last use. It holds about 25 MiB; an active "
        "node keeps it, so that an edit is checked within milliseconds.",
        between(0.0, 86400.0, "s"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveSettings:
    """[objective]: what a failover-test is judged by."""

    failover_s: float = key(
        10.0,
        "Seconds that the worst of the probes, or of the programs where there is no probe, may be out of service.",
        between(0.0, 3600.0, "s"),
    )
    overlap_s: float = key(0.0, "Seconds that a program may be seen on both nodes.", between(0.0, 3600.0, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillSettings:
    """[drill]: failover-test."""

    dangerous_modes: bool = key(
        False, "true: the modes power and link-down need no --yes-really. For pairs that nobody depends on."
    )
    keepalived_start_command: tuple[str, ...] = key(
        ("/usr/bin/systemctl", "start", "keepalived"),
        "Command (a list of words, absolute path first) that starts keepalived again after the mode keepalived-kill.",
    )
    keep_reports: int = key(100, "How many reports are kept on the node where the test was run.", between(1, 100000))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSettings:
    """[programs]: what `supzcli register` writes into the registry."""

    log_dir: str = key("/var/log/supervisor", "Where the programs' logs go, each under its program's name.", ABSOLUTE)
    log_maxbytes: str = key(
        "20MB",
        "Size at which a log is turned over, unless program.ini says otherwise.",
        matching(r"[0-9]+(KB|MB|GB)?", "a size such as 20MB"),
    )
    log_backups: int = key(5, "How many older logs are kept, unless program.ini says otherwise.", between(0, 1000))
    run_as: tuple[str, ...] = key(
        (),
        "Users that members of group ha-agent may register programs to run as, besides themselves. Naming root here makes "
        "every member of the group root.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSettings:
    """[payload]: the files that programs need besides their confs (docs/payload.md)."""

    compare: bool = key(
        True,
        "true: binaries, scripts, configurations, directories and users that the confs name are compared with the peer's "
        "all the time, and a difference is told. Only digests travel. A file is read again when its stat changes.",
    )
    ignore: tuple[str, ...] = key(
        (),
        "Paths that differ on purpose and are not compared; * and ? are allowed, and * means / as well. Example: "
        '["/etc/app/node.toml", "*/instance.id"].',
        each(lambda v: v.startswith(("/", "*")), "patterns of absolute paths, which begin with / or *"),
    )
    paths: tuple[str, ...] = key(
        (),
        "What is replicated from the active node: absolute paths of files and directories; *, ? and [...] stand for a part "
        "of one name. The peer's own list says what it takes, so both must have it. Places of the machine, of keys and of "
        'the pair itself are refused. Example: ["/opt/app", "/etc/app", "/srv/releases-*"].',
    )
    conf_files_below: tuple[str, ...] = key(
        (),
        "Directories: what a conf names with `; ha-agent: files=` is replicated, too, where it lies below one of them. "
        "Whoever may write a conf chooses files there. Empty: what confs name is compared and does not travel.",
    )
    exclude: tuple[str, ...] = key(
        (),
        "What of these paths is left alone on both nodes: a name without a slash wherever it stands, or an absolute path "
        'with all below. Logs and data that programs write belong here. Example: ["*.log", "*.pid", "/opt/app/data"].',
    )
    interval_s: float = key(
        15.0,
        "Seconds between two looks at these paths on the active node; costs a stat for each file, and its digest where that "
        "has changed. `supzcli push` looks at once.",
        between(1.0, 86400.0, "s"),
    )
    lag_s: float = key(
        300.0,
        "Seconds that a change of the payload may wait for the peer before that is an alert. Longer than a release takes to "
        "copy.",
        between(1.0, 7 * 86400.0, "s"),
    )
    max_file_bytes: int = key(1 << 30, "Larger files do not travel, and that is said.", between(1, 1 << 50, "bytes"))
    max_total_bytes: int = key(10 << 30, "A larger payload does not travel as a whole.", between(1, 1 << 50, "bytes"))
    max_entries: int = key(
        20000,
        "A payload of more files, links and directories does not travel as a whole. Each costs about 1 KiB of the agent's "
        "memory on both nodes.",
        between(1, 100000),
    )


SIZE = re.compile(r"(\d+(?:\.\d+)?)(KB|MB|GB)", re.IGNORECASE)
UNITS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3}


def parse_memory_limit(text: str) -> tuple[str, int] | None:
    """``NAME=SIZE`` as a pattern of program names and bytes; None where it is not that."""
    pattern, equals, size = text.rpartition("=")
    match = SIZE.fullmatch(size.strip())
    if not equals or not pattern.strip() or match is None:
        return None
    return pattern.strip(), int(float(match[1]) * UNITS[match[2].upper()])


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """[alerts]: when the agent raises the alarm; [sinks.NAME] says where it goes."""

    repeat_s: float = key(
        14400.0, "Seconds after which an alert that still lasts is told again.", between(60.0, 7 * 86400.0, "s")
    )
    lag_s: float = key(
        30.0,
        "Seconds that a change of the registry may wait for the peer before that is an alert.",
        between(1.0, 86400.0, "s"),
    )
    loop_count: int = key(
        5, "Number of unexpected ends or failed starts of a program within loop_window_s that is a loop.", between(2, 1000)
    )
    loop_window_s: float = key(
        120.0,
        "Seconds in which they are counted. A loop is over when the program did not end for this time.",
        between(5.0, 86400.0, "s"),
    )
    memory_limits: tuple[str, ...] = key(
        (),
        'What a program and its children may use of memory (resident, in all), as "NAME=SIZE"; NAME may hold * and ?, the '
        'first that fits counts. Example: ["redis=512MB", "tomcat-*=2GB", "*=1GB"].',
        each(lambda v: parse_memory_limit(v) is not None, '"NAME=SIZE" with a size such as 512MB'),
    )
    memory_interval_s: float = key(30.0, "Seconds between two looks at the memory of programs.", between(1.0, 86400.0, "s"))
    log_lines: int = key(10, "Number of the last lines of a program's log that go with an alert.", between(0, 100))
    maintenance_silences: tuple[str, ...] = key(
        ("program-*", "role-*", "*-down", "no-active-node", "peer-lost", "listener-silent", "replication-*", "standby-*"),
        "Alerts that are not told while maintenance is on; * and ? are allowed. One that lasts is told when it is over.",
    )
    queue_max: int = key(
        1000,
        "Largest number of alerts that wait for a sink; beyond it the oldest are dropped, and that is told.",
        between(10, 100000),
    )


SINK_KINDS = ("command", "webhook", "smtp", "syslog", "journal")
WEBHOOK_FORMATS = ("json", "slack", "dingtalk", "wecom", "template")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """[sinks.NAME]: one place that alerts go to; as many sections as there are places."""

    kind: str = key(REQUIRED, "What it is.", one_of(*SINK_KINDS))
    severity: str = key("info", "Least severity that goes there.", one_of("info", "warning", "critical"))
    codes: tuple[str, ...] = key((), "Only these alerts go there (* and ? are allowed); all where it is empty.")
    ends: bool = key(True, "Whether the end of an alert is told, too.")
    timeout_s: float = key(
        10.0, "Seconds that a delivery may take; after that it is ended and tried again.", between(1, 300, "s")
    )
    command: tuple[str, ...] = key(
        (),
        "kind command: the words of the command, absolute path first. KIND, CODE, SEVERITY and the text follow as "
        "arguments, the whole alert comes as JSON on standard input.",
    )
    url: str = key(
        "",
        "kind webhook: where to POST to. Everybody who can read this file can read it: a URL that holds a secret goes "
        "into url_file.",
        matching(r"(https?://\S+)?", "an http or https URL"),
        secret=True,
    )
    url_file: str = key(
        "",
        "kind webhook: file with the URL, for one that holds a secret; readable by root alone.",
        matching(r"(/[^\0\n]*)?", "an absolute path"),
    )
    format: str = key(
        "json",
        'kind webhook: "json" is the whole alert, "slack" for Slack, Mattermost and their like, "dingtalk", "wecom", '
        '"template" for template_file.',
        one_of(*WEBHOOK_FORMATS),
    )
    template_file: str = key(
        "",
        "kind webhook: a JSON file; in its texts $text, $code, $severity, $kind, $node, $subjects, $remedy, $id and $at are "
        "replaced.",
        matching(r"(/[^\0\n]*)?", "an absolute path"),
    )
    secret_file: str = key(
        "",
        "kind webhook, format dingtalk: file with the secret that requests are signed with. kind smtp: file with the "
        "password.",
        matching(r"(/[^\0\n]*)?", "an absolute path"),
    )
    ca_file: str = key(
        "",
        "kind webhook and smtp: certificates (PEM) that the server's is checked with; the system's where it is empty.",
        matching(r"(/[^\0\n]*)?", "an absolute path"),
    )
    host: str = key(
        "", "kind smtp: the mail server.", matching(r"([A-Za-z0-9:][A-Za-z0-9.:_-]*)?", "a host name or an address")
    )
    port: int = key(25, "kind smtp: its port; 465 is TLS from the start.", between(1, 65535))
    starttls: bool = key(False, "kind smtp: whether to begin TLS before anything else is said.")
    user: str = key("", "kind smtp: user to log in as; none where it is empty. Needs TLS (starttls or port 465).")
    plain_login: bool = key(
        False, "kind smtp: true: user and password may be sent without TLS, where everybody on the way can read them."
    )
    sender: str = key("", "kind smtp: address that mails come from.")
    recipients: tuple[str, ...] = key((), "kind smtp: addresses that mails go to.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSettings:
    """[paths]: where the agent keeps its files."""

    run_dir: str = key(DEFAULT_RUN_DIR, "Gone at reboot: active set, sockets, notify spool, track file.", ABSOLUTE)
    state_dir: str = key(DEFAULT_STATE_DIR, "Kept: epoch, agreed manifest, journal, kept copies, history.", ABSOLUTE)
    keep_generations: int = key(
        1000, "How many generations of replaced confs are kept; divergences are never removed.", between(1, 10**6)
    )
    history_max_bytes: int = key(
        8 * 1024 * 1024,
        "Size at which history.jsonl is turned over; one older file is kept.",
        between(4096, 2**32, "bytes"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """[log]: what goes to standard error (the journal under systemd)."""

    level: str = key("info", "Least severity that is written.", one_of("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole, checked configuration."""

    node: NodeSettings
    peer: PeerSettings
    vrrp: VrrpSettings
    registry: RegistrySettings = RegistrySettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    link: LinkSettings = LinkSettings()
    witness: WitnessSettings = field(default_factory=WitnessSettings)
    takeover: TakeoverSettings = TakeoverSettings()
    order: OrderSettings = OrderSettings()
    release: ReleaseSettings = ReleaseSettings()
    readiness: ReadinessSettings = ReadinessSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    drill: DrillSettings = DrillSettings()
    programs: ProgramSettings = ProgramSettings()
    payload: PayloadSettings = PayloadSettings()
    alerts: AlertSettings = AlertSettings()
    paths: PathSettings = PathSettings()
    log: LogSettings = LogSettings()
    sinks: Mapping[str, SinkSettings] = field(default_factory=dict)
    hooks: Mapping[str, HookSettings] = field(default_factory=dict)
    checks: Mapping[str, CheckSettings] = field(default_factory=dict)


NAMED_SECTIONS: Mapping[str, type[Any]] = {"sinks": SinkSettings, "hooks": HookSettings, "checks": CheckSettings}
"""Sections of which there are as many as an operator wants, each with a name: [sinks.NAME]."""

SECTIONS: dict[str, type[Any]] = {n: cls for n, cls in get_type_hints(Settings).items() if n not in NAMED_SECTIONS}
"""The sections that there are once."""


def check_settings(raw: Mapping[str, Any]) -> Settings:
    """The settings in ``raw`` (a parsed TOML file). Raises ``SettingsError`` with every problem found."""
    problems: list[SettingsProblem] = []
    for name in raw:
        if name not in SECTIONS and name not in NAMED_SECTIONS:
            problems.append(SettingsProblem(f"[{name}]", "unknown section", nearest(name, {**SECTIONS, **NAMED_SECTIONS})))
    parts: dict[str, Any] = {}
    for name, cls in SECTIONS.items():
        table = raw.get(name, {})
        if not isinstance(table, Mapping):
            problems.append(SettingsProblem(name, f"{table!r} is not a section", f"a table [{name}]"))
            continue
        parts[name] = check_section(name, cls, table, problems)
    for kind, cls in NAMED_SECTIONS.items():
        parts[kind] = check_named(kind, cls, raw.get(kind, {}), problems, _CHECK_NAMED[kind])
    problems.extend(_check_alternatives(raw))
    if not problems:
        problems.extend(_check_whole(parts))
    if problems:
        raise SettingsError(problems)
    return Settings(**parts)


ALTERNATIVES = (("node", "address", "addresses"), ("peer", "address", "addresses"), ("vrrp", "vip", "vips"))
"""Section, key and key: the one for a single value or the other one for several, never both."""


def _check_alternatives(raw: Mapping[str, Any]) -> Iterator[SettingsProblem]:
    for section, one, several in ALTERNATIVES:
        table = raw.get(section, {})
        if not isinstance(table, Mapping):
            continue
        if one in table and several in table:
            allowed = f"{one} for one, or {several} for several"
            yield SettingsProblem(f"{section}.{several}", f"stands beside {section}.{one}", allowed)
        elif one not in table and several not in table:
            spec = {f.name: f for f in fields(SECTIONS[section])}[one]
            yield SettingsProblem(f"{section}.{one}", MISSING, spec.metadata["doc"])


def _check_sink(where: str, sink: SinkSettings) -> Iterator[SettingsProblem]:
    for word in _lacking(sink):
        yield SettingsProblem(f"{where}.{word}", "missing", f"needed by kind {sink.kind}")
    if sink.command and not sink.command[0].startswith("/"):
        yield SettingsProblem(f"{where}.command", repr(sink.command[0]), "an absolute path as its first word")


def _lacking(sink: SinkSettings) -> list[str]:
    """Keys that a sink of this kind cannot do without, and that are not set."""
    if sink.kind == "command":
        return [] if sink.command else ["command"]
    if sink.kind == "webhook":
        lacking = [] if sink.url or sink.url_file else ["url"]
        return lacking + (["template_file"] if sink.format == "template" and not sink.template_file else [])
    if sink.kind == "smtp":
        wanted = ["host", "sender", "recipients"] + (["secret_file"] if sink.user else [])
        return [word for word in wanted if not getattr(sink, word)]
    return []


_CHECK_NAMED: Mapping[str, Callable[[str, Any], Iterator[SettingsProblem]]] = {
    "sinks": _check_sink,
    "hooks": check_hook,
    "checks": check_check,
}


def _check_whole(parts: Mapping[str, Any]) -> list[SettingsProblem]:
    problems = []
    own = ipaddress.ip_address(parts["node"].address)
    if own.version not in [ipaddress.ip_interface(vip).version for vip in parts["vrrp"].all_vips]:
        # keepalived starts no instance without an address of the adverts' family (2.2.7: "No VIP specified").
        text = f"none is of IPv{own.version}, as node.address is, between which and the peer's adverts go"
        problems.append(
            SettingsProblem("vrrp.vips" if parts["vrrp"].vips else "vrrp.vip", text, "one of that kind at least")
        )
    addresses = [ipaddress.ip_interface(vip).ip for vip in parts["vrrp"].all_vips]
    if len(set(addresses)) < len(addresses):
        problems.append(SettingsProblem("vrrp.vips", "an address stands there twice", "each address once"))
    if parts["node"].name == parts["peer"].name:
        problems.append(SettingsProblem("peer.name", repr(parts["peer"].name), "another name than node.name"))
    problems += _check_paths(parts["node"], parts["peer"], parts["vrrp"].path_interfaces)
    for where, command in (
        ("takeover.fence_command", parts["takeover"].fence_command),
        ("drill.keepalived_start_command", parts["drill"].keepalived_start_command),
        ("vrrp.stop_command", parts["vrrp"].stop_command),
    ):
        if command and not command[0].startswith("/"):
            problems.append(SettingsProblem(where, repr(command[0]), "an absolute path as its first word"))
    problems.extend(_check_payload(parts))
    node, peer = parts["node"], parts["peer"]
    problems.extend(check_witness(parts["witness"], (node.name, *node.paths, peer.name, *peer.paths)))
    return problems


def _check_paths(node: NodeSettings, peer: PeerSettings, interfaces: tuple[str, ...]) -> Iterator[SettingsProblem]:
    for address in set(node.paths) & set(peer.paths):
        allowed = "another address than node.address"
        yield SettingsProblem("peer.addresses" if peer.addresses else "peer.address", repr(address), allowed)
    if len(node.paths) != len(peer.paths):
        found = f"{len(peer.paths)} beside {len(node.paths)} of the node"
        yield SettingsProblem("peer.addresses", found, "as many as node.addresses, in the same order")
    if len(interfaces) != len(node.paths) - 1:
        found = f"{len(interfaces)} beside {len(node.paths)} addresses of the node"
        yield SettingsProblem("vrrp.path_interfaces", found, "one for each of node.addresses but the first")
    for own, other in zip(node.paths, peer.paths, strict=False):
        if ipaddress.ip_address(own).version != ipaddress.ip_address(other).version:
            yield SettingsProblem("peer.addresses", repr(other), f"an address of the same kind as {own}, its own end")


def _check_payload(parts: Mapping[str, Any]) -> Iterator[SettingsProblem]:
    """What can never be payload: places of the machine, and those that this file itself names."""
    payload, link = parts["payload"], parts["link"]
    if not payload.paths and not payload.conf_files_below:
        return
    paths, registry, supervisor = parts["paths"], parts["registry"], parts["supervisor"]
    own = (paths.run_dir, paths.state_dir, registry.path, supervisor.config, link.key_file, link.known_hosts)
    for word in ("paths", "conf_files_below"):
        for pattern, fault in find_faults(getattr(payload, word), own):
            yield SettingsProblem(f"payload.{word}", repr(pattern), f"files of programs: this {fault}")
    for pattern in payload.exclude:
        if not pattern or "\0" in pattern or ("/" in pattern and not pattern.startswith("/")):
            yield SettingsProblem("payload.exclude", repr(pattern), "a name without a slash, or an absolute path")
