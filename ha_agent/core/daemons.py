"""Programs that leave the foreground, so that supervisord loses them: which, when, and what their own confs say of it. Pure.

From the programs' own manual pages. Many decide it in a conf of their own; that is read where it can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ha_agent.core.commands import Simple, shell_call, simple_commands, split_command, unwrap
from ha_agent.core.surroundings import read_nothing

_NO = frozenset({"no", "off", "false", "0"})
_YES = frozenset({"yes", "on", "true", "1"})

Reader = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class OwnConf:
    """Where a program's own conf says whether it stays.

    ``argument``: finds the conf's path in the command, as group 1. ``defaults``: where it is otherwise; ``{version}`` is
    the number in the program's name. ``word``: a line that decides; its group 1 is a value, among ``stays`` or not.
    ``says``: when it stays, after the conf's name. ``leaves_by_default``: what holds where no line decides.
    ``packaged``: confs of distributions that say "leave" as they are installed.
    """

    argument: str
    word: str
    says: str
    stays: frozenset[str]
    defaults: tuple[str, ...] = ()
    leaves_by_default: bool = False
    packaged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Daemonises:
    """A simple command that leaves the foreground: one that ``pattern`` matches, ``unless`` it says so.

    ``fix`` may name the ``{conf}``. ``conf``: what else decides.
    """

    pattern: str
    unless: str | None
    fix: str
    conf: OwnConf | None = None


@dataclass(frozen=True, slots=True)
class Departure:
    """That ``name`` leaves the foreground, ``unless`` (empty where that is certain), and what to do."""

    name: str
    fix: str
    unless: str = ""


def _program(name: str, rest: str = "") -> str:
    return rf"^(\S*/)?(?:{name})(?=\s|$){rest}"


_NGINX = OwnConf(
    r"\s-c\s*(\S+)", r"^\s*daemon\s+(\w+)\s*;", "says 'daemon off;'", _NO, ("/etc/nginx/nginx.conf",), leaves_by_default=True
)
_PHP = OwnConf(
    r"\s(?:-y\s*|--fpm-config[= ])(\S+)",
    r"^\s*daemonize\s*=\s*[\"']?(\w+)",
    "says 'daemonize = no'",
    _NO,
    ("/etc/php/{version}/fpm/php-fpm.conf", "/etc/php-fpm.conf"),
    leaves_by_default=True,
)
_STUNNEL = OwnConf(
    r"^\S+\s+([^\s-]\S*)",
    r"^\s*foreground\s*=\s*(\w+)",
    "says 'foreground = yes'",
    _YES | {"quiet"},
    ("/etc/stunnel/stunnel.conf",),
    leaves_by_default=True,
)
_REDIS = OwnConf(
    r"^\S+\s+([^\s-]\S*)",
    r"^\s*daemonize\s+[\"']?(\w+)",
    "says 'daemonize no'",
    _NO,
    packaged=frozenset({"/etc/redis/redis.conf", "/etc/redis/sentinel.conf"}),
)
_MONGO = OwnConf(
    r"\s(?:-f\s*|--config[= ])(\S+)",
    r"^\s*fork\s*[:=]\s*(\w+)",
    "says 'fork: false'",
    _NO,
    packaged=frozenset({"/etc/mongod.conf"}),
)
_HAPROXY = OwnConf(
    r"\s-f\s*(\S+)",
    r"^\s*(daemon)\s*(?:#|$)",
    "does not say 'daemon'",
    frozenset(),
    packaged=frozenset({"/etc/haproxy/haproxy.cfg"}),
)
_UWSGI = OwnConf(
    r"\s(?:--ini[= ]|-i\s*)?(\S+\.ini)(?:\s|$)", r"^\s*(daemonize2?)\s*=", "does not say 'daemonize'", frozenset()
)
_GUNICORN = OwnConf(
    r"\s(?:-c\s*|--config[= ])(?:file:)?(\S+)", r"^daemon\s*=\s*(\w+)", "says 'daemon = False'", frozenset({"false", "none"})
)

_FOREGROUND = "run the program itself, in the foreground"

DAEMONS: tuple[Daemonises, ...] = (
    Daemonises(_program("service", r"\s+\S+\s+(re)?start\b"), None, _FOREGROUND),
    Daemonises(_program("systemctl", r".*\s(re)?start\s"), None, _FOREGROUND),
    Daemonises(r"^(\S*/)?init\.d/\S+\s+(re)?start\b", None, _FOREGROUND),
    Daemonises(_program("start-stop-daemon", r".*\s(-b|--background)\b"), None, _FOREGROUND),
    Daemonises(
        _program("nginx|openresty"),
        r"daemon\s+off|\s-[tTvVhs]\b",
        "write 'daemon off;' into {conf}, or add -g 'daemon off;', not both: nginx refuses it twice",
        _NGINX,
    ),
    Daemonises(_program(r"php-fpm[\d.]*"), r"\s(-F|--nodaemonize|-t|-i|-v|-m)\b", "add: -F", _PHP),
    Daemonises(_program("mysqld_safe"), None, "run mysqld itself"),
    Daemonises(_program("apache(ctl|2ctl)", r"\s+(-k\s+)?(re)?start\b"), r"FOREGROUND", "use: apachectl -D FOREGROUND"),
    Daemonises(_program("httpd|apache2"), r"FOREGROUND|NO_DETACH|\s-[tSvVlLhX]\b", "add: -D FOREGROUND"),
    Daemonises(_program(r"catalina\.sh", r".*\sstart\b"), None, "use: catalina.sh run"),
    Daemonises(_program(r"startup\.sh"), None, "use: catalina.sh run"),
    Daemonises(_program(r"zkServer\.sh", r".*\sstart(\s|$)"), None, "use: zkServer.sh start-foreground"),
    Daemonises(_program(r"(kafka|zookeeper)-server-start\.sh", r".*\s-daemon\b"), None, "remove: -daemon"),
    Daemonises(_program("redis-(server|sentinel)", r".*--daemonize\s+yes\b"), None, "use: --daemonize no"),
    Daemonises(_program("redis-(server|sentinel)"), r"--daemonize\s+no\b", "add: --daemonize no", _REDIS),
    Daemonises(_program("mongo[ds]", r".*\s--fork\b"), None, "remove: --fork"),
    Daemonises(_program("mongo[ds]"), None, "write 'fork: false' into {conf}", _MONGO),
    Daemonises(_program("lighttpd"), r"\s-[a-zA-Z]*[DtpvVh]\b", "add: -D"),
    Daemonises(_program("sshd"), r"\s-[a-zA-Z]*[DdtT]", "add: -D"),
    Daemonises(_program("crond?"), r"\s-[fn]\b", "add: -f"),
    Daemonises(_program("memcached", r".*\s-d\b"), None, "remove: -d"),
    Daemonises(_program("haproxy", r".*\s-D\b"), None, "remove: -D"),
    Daemonises(_program("haproxy"), r"\s-(db|Ws|c|v|vv)\b", "add: -db", _HAPROXY),
    Daemonises(_program("uwsgi", r".*\s(--daemonize2?|-d)\b"), None, "remove: --daemonize"),
    Daemonises(_program("uwsgi"), None, "remove daemonize from {conf}", _UWSGI),
    Daemonises(_program("gunicorn", r".*\s(--daemon|-D)\b"), None, "remove: --daemon"),
    Daemonises(_program("gunicorn"), None, "write 'daemon = False' into {conf}", _GUNICORN),
    Daemonises(
        _program("celery", r".*\s(multi\s+(re)?start\b|--detach\b|-D\b)"), None, "use: celery worker, without --detach"
    ),
    Daemonises(_program("pg_ctl", r".*\sstart\b"), None, "run postgres itself"),
    Daemonises(_program("rsyslogd"), r"\s-[a-zA-Z]*[nNv]\b", "add: -n"),
    Daemonises(_program("syslog-ng"), r"\s(-[a-zA-Z]*[FsV]|--foreground|--syntax-only|--version)\b", "add: -F"),
    Daemonises(_program("exim4?", r".*\s-bd\b"), r"\s-bdf\b", "use -bdf in place of -bd"),
    Daemonises(_program("searchd"), r"\s(--nodetach|--console|--stop|--stopwait|--status)\b", "add: --nodetach"),
    Daemonises(_program("stunnel4?"), None, "write 'foreground = yes' into {conf}", _STUNNEL),
    Daemonises(_program("postfix", r".*\sstart(\s|$)"), None, "use: postfix start-fg"),
    Daemonises(_program("supervisord"), r"\s(-[a-z]*n|--nodaemon|-v|--version)\b", "add: -n"),
    Daemonises(
        _program("setsid"),
        r"\s(-[a-z]*w|--wait)\b",
        "remove setsid: supervisord gives each program a process group of its own",
    ),
)


def find_daemon(command: str, read: Reader = read_nothing) -> Departure | None:
    """How a ``command=`` leaves the foreground; None where it stays as far as can be told.

    ``read``: as in ``Surroundings``.
    """
    simple = simple_commands(command)
    found = [departure for one in simple if (departure := _judge(one, read)) is not None]
    if not found and _ends_in_background(command, simple):
        return Departure(simple[-1].name, "remove the & at the end")
    return min(found, key=lambda departure: bool(departure.unless), default=None)


def _ends_in_background(command: str, simple: list[Simple]) -> bool:
    call = shell_call(unwrap(split_command(command))) if simple else None
    return call is not None and call.script is not None and bool(simple) and simple[-1].after == "&"


def _interpreted(simple: Simple) -> Simple:
    """What Python runs, where it runs something with a name."""
    if not re.fullmatch(r"python[\d.]*", simple.name):
        return simple
    rest = list(simple.words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        del rest[: 2 if rest[0] in ("-W", "-X", "-c") else 1]
    return replace(simple, words=tuple(rest[1:] if rest[:1] == ["-m"] else rest))


def _judge(simple: Simple, read: Reader) -> Departure | None:
    simple = _interpreted(simple)
    text = simple.text
    for row in DAEMONS:
        if not re.search(row.pattern, text) or (row.unless and re.search(row.unless, text)):
            continue
        if row.conf is None:
            return Departure(simple.name, row.fix)
        return _ask_conf(simple, row, row.conf, read)
    return None


def _ask_conf(simple: Simple, row: Daemonises, conf: OwnConf, read: Reader) -> Departure | None:
    """What the program's own conf decides; "unless" where that conf, or all of it, cannot be read."""
    path, content = _find_conf(simple, conf, read)
    name = path or "its own conf"
    departure = Departure(simple.name, row.fix.format(conf=name))
    unless = Departure(departure.name, departure.fix, f"unless {name} {conf.says}")
    if content is None:
        return unless if conf.leaves_by_default or path in conf.packaged else None
    words = re.findall(conf.word, content, re.MULTILINE | re.IGNORECASE)
    if words:
        return None if words[-1].lower() in conf.stays else departure
    if not conf.leaves_by_default:
        return None
    if re.search(r"^\s*include\b", content, re.MULTILINE):
        return Departure(departure.name, departure.fix, f"unless what {name} includes {conf.says}")
    return departure


def _find_conf(simple: Simple, conf: OwnConf, read: Reader) -> tuple[str, str | None]:
    """The path of the program's own conf, as far as it is known, and its text, where it can be read."""
    named = re.search(conf.argument, simple.text)
    if named is not None:
        return named[1], read(named[1]) if named[1].startswith("/") else None
    version = re.search(r"[\d.]+$", simple.name)
    paths = [p.format(version=version[0] if version else "") for p in conf.defaults if version or "{" not in p]
    for path in paths:
        if (content := read(path)) is not None:
            return path, content
    return (paths[0] if paths else ""), None
