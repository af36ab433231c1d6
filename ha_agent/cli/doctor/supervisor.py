"""supervisord as the pair needs it: it must not start the registry by itself, and nothing may outlive it."""

from __future__ import annotations

import configparser
import contextlib
import fnmatch
import os
from collections.abc import Iterator

from ha_agent.adapters.supervisord import Fault, SupervisordDown, SupervisordFinder, find_supervisord
from ha_agent.adapters.supervisord import Supervisord as Client
from ha_agent.adapters.supervisord_survey import unit_of
from ha_agent.cli.doctor.context import Check, Context, error, ok, unknown, warning
from ha_agent.cli.lint_cmd import read_registry
from ha_agent.core.faults import FAULTS, Urgency, code_of_conf
from ha_agent.core.findings import Finding
from ha_agent.core.host_profile import LOCAL_DIR, choose_profile
from ha_agent.core.inline_programs import take_programs_out
from ha_agent.core.lint import lint_stops, lint_together
from ha_agent.core.listener_conf import GROUP, LISTENER_CONF, missing_events
from ha_agent.core.main_conf import LOCAL_CONFS, UnusableConf, groups_in, included_patterns, parse_main_conf
from ha_agent.core.names import PARKED
from ha_agent.core.places import RunPlaces
from ha_agent.core.supervisor_words import State, deaf_text, remedy_for
from ha_agent.core.surroundings import read_nothing, surroundings_of
from ha_agent.core.width import count_text

DROP_IN = "install systemd/supervisor.service.d of ha-agent, then systemctl daemon-reload"


def _read_conf(context: Context) -> configparser.RawConfigParser | None:
    text = context.read(context.settings.supervisor.config)
    with contextlib.suppress(UnusableConf):
        return None if text is None else parse_main_conf(text)
    return None


def _same_file(path: str) -> str:
    """A path with /var/run and the like resolved as far as they exist."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def check_include(context: Context) -> Iterator[Finding]:
    """The active set must be included, the registry itself must not (hazard 14)."""
    path, settings = context.settings.supervisor.config, context.settings
    parser = _read_conf(context)
    if os.path.exists(path) and not os.access(path, os.R_OK):
        yield unknown("supervisor-conf", f"{path} is not for this user", "run doctor as root")
        return
    if parser is None:
        text = f"{path} cannot be read, or is not a configuration of supervisord"
        yield error("supervisor-conf", text, "set supervisor.config, or run doctor as root")
        return
    patterns = [_same_file(p) for p in included_patterns(parser, os.path.abspath(path))]
    active = _same_file(RunPlaces(settings.paths.run_dir).active_pattern)
    wanted = f"[include] files = {active} {LOCAL_CONFS}"
    if not any(fnmatch.fnmatch(active.replace("*", "x"), p) for p in patterns):
        text = f"{path} does not include the active set: nothing of the registry would ever start"
        yield error("include-active", text, wanted)
    registry = os.path.realpath(settings.registry.path)
    guilty = [p for p in patterns if _is_below(p, registry)]
    if guilty:
        text = f"{path} includes the registry itself ({' '.join(guilty)}): all of it would start at boot, on both nodes"
        yield error("include-registry", text, wanted)
    if not guilty and patterns:
        yield ok("include", f"{path} includes the active set and not the registry")


def check_inline(context: Context) -> Iterator[Finding]:
    """Programs of the main conf itself are this node's whatever its role is, and nothing replicates them."""
    path = context.settings.supervisor.config
    text = context.read(path)
    if text is None:
        return
    found = take_programs_out(text, os.path.abspath(path)).confs
    if not found:
        yield ok("inline-programs", f"{path} has no programs of its own")
        return
    names = ", ".join(sorted(groups_in("".join(found.values()))))
    where = f"{context.settings.registry.path}/{next(iter(sorted(found)))}"
    remedy = (
        f"on the active node move each section to a conf such as {where}, on the other one take it out; then supervisorctl "
        f"update on both. What is meant to run on both nodes belongs in {LOCAL_DIR}"
    )
    yield warning("inline-programs", f"{path} itself has programs, which run here whatever the role: {names}", remedy)


def _is_below(pattern: str, registry: str) -> bool:
    folder = os.path.dirname(pattern)
    return fnmatch.fnmatch(registry, folder) or folder == registry or folder.startswith(registry + "/")


def check_xmlrpc(context: Context) -> Iterator[Finding]:
    """An XML-RPC port without a password is remote code execution (hazard 24, CVE-2019-12105)."""
    parser = _read_conf(context)
    if parser is None:
        return
    if not parser.has_section("inet_http_server"):
        yield ok("xmlrpc-closed", "supervisord listens on its unix socket alone")
        return
    port = (parser.get("inet_http_server", "port", fallback="") or "").strip()
    is_local = port.startswith(("127.", "localhost:", "[::1]"))
    has_password = bool(parser.get("inet_http_server", "password", fallback=""))
    if not has_password and not is_local:
        text = f"[inet_http_server] port={port} without a password: whoever reaches it runs programs as root"
        yield error("xmlrpc-open", text, "remove the section, or bind it to 127.0.0.1 and set username and password")
    elif not has_password:
        text = f"[inet_http_server] port={port} without a password: every local user runs programs as root"
        yield warning("xmlrpc-open", text, "set username and password, or remove the section")
    else:
        yield ok("xmlrpc-closed", f"[inet_http_server] port={port} wants a password")


def check_socket(context: Context) -> Iterator[Finding]:
    """Whoever may write to supervisord's socket runs programs as root, and gets around supzcli's guard."""
    path = context.settings.supervisor.socket
    try:
        info = os.stat(path)
    except OSError:
        return
    remedy = (
        "[unix_http_server] chmod=0700 and no chown; supzcli needs no access to it, membership of group ha-agent is enough"
    )
    if info.st_mode & 0o002:
        text = f"{path} is writable by every user: each of them runs programs as root, past supzcli's guard"
        yield error("supervisor-socket", text, remedy)
    elif info.st_mode & 0o020 and info.st_gid != 0:
        text = f"{path} is writable by group {info.st_gid}: its members run programs as root, past supzcli's guard"
        yield warning("supervisor-socket", text, remedy)
    else:
        yield ok("supervisor-socket", f"{path} is root's alone")


def supervisor_unit(context: Context) -> str:
    """The service that holds supervisord, else the one that the distribution has."""
    limits = context.settings.supervisor
    pid = find_supervisord(limits.socket, limits.config)
    return (unit_of(pid) if pid is not None else "") or choose_profile(limits.config, os.path.exists).unit


def check_unit(context: Context) -> Iterator[Finding]:
    """What systemd does when supervisord ends (hazard 19)."""
    if not context.has_systemd:
        return
    unit, profile = supervisor_unit(context), choose_profile(context.settings.supervisor.config, os.path.exists)
    ran = context.run("systemctl", "show", unit, "-p", "LoadState,KillMode,Restart,RestartUSec,UnitFileState")
    shown = dict(line.split("=", 1) for line in ran.output.splitlines() if "=" in line)
    if ran.code != 0 or shown.get("LoadState") != "loaded":
        yield unknown("supervisor-unit", f"systemd knows no {unit}.service", profile.install)
        return
    good = True
    if shown.get("KillMode") != "control-group":
        text = (
            f"KillMode={shown.get('KillMode')}: programs outlive a supervisord that ends, and get a second copy beside them"
        )
        good = False
        yield error("supervisor-killmode", text, DROP_IN)
    if shown.get("Restart") not in ("always", "on-failure"):
        good = False
        yield error("supervisor-restart", f"Restart={shown.get('Restart')}: nobody starts it again", DROP_IN)
    pause = parse_time_span(shown.get("RestartUSec", ""))
    if pause is not None and pause >= context.settings.supervisor.restart_wait_s:
        text = f"systemd waits {pause:g} s before it starts supervisord again, the agent gives the VIP up after " + (
            f"{context.settings.supervisor.restart_wait_s:g} s"
        )
        good = False
        yield warning("supervisor-restart", text, DROP_IN)
    if good:
        yield ok("supervisor-unit", f"KillMode=control-group, Restart={shown.get('Restart')} after {pause:g} s")


def parse_time_span(text: str) -> float | None:
    """Seconds of systemd's "1min 20s 500ms" (systemd.time(7)); None for anything else."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
    total = 0.0
    for word in text.split():
        digits = word.rstrip("hminsu")
        unit = word[len(digits) :]
        try:
            total += float(digits) * units[unit]
        except (ValueError, KeyError):
            return None
    return total if text.split() else None


def check_answers(context: Context) -> Iterator[Finding]:
    """Whether supervisord answers on its socket."""
    path = context.settings.supervisor.socket
    pid = find_supervisord(path, context.settings.supervisor.config)
    if pid is None:
        if os.path.exists(path) and not os.access(path, os.W_OK):
            yield unknown("supervisord-up", f"no permission for {path}", "run doctor as root")
        else:
            deaf = SupervisordFinder(path, context.settings.supervisor.config, 0.0).find()
            said = deaf_text(deaf, path) if deaf is not None else f"supervisord does not listen on {path}"
            yield error("supervisord-down", said, remedy_for(said))
        return
    client = Client(path, 2.0, context.settings.supervisor.config)
    try:
        # Not to describe its programs, for which it would do nothing else for a while.
        client.call("getState", [])
    except SupervisordDown as problem:
        yield error(
            "supervisord-hung", f"supervisord (pid {pid}) does not answer: {problem}", "systemctl restart supervisor"
        )
        return
    yield ok("supervisord-up", f"supervisord answers (pid {pid})")


def check_names(context: Context) -> Iterator[Finding]:
    """Program names that two confs define: supervisord would merge them silently (hazard 16)."""
    root = context.settings.registry.path
    if not os.path.isdir(root):
        yield error("registry-unavailable", f"the registry {root} is not there", f"mkdir {root}, or set registry.path")
        return
    texts = read_registry(root)
    found = [f for f in lint_together(texts) if f.code in ("copied", "duplicate-program")]
    for finding in found:
        yield error("duplicate-program", f"{finding.where}: {finding.text}", finding.remedy)
    if not found:
        yield ok("program-names", f"{count_text(len(texts), 'conf')}, no program name twice")


def check_stop_times(context: Context) -> Iterator[Finding]:
    """Programs that may take longer to stop than a release, or the other node's takeover, waits."""
    root = context.settings.registry.path
    if not os.path.isdir(root):
        return
    around = surroundings_of(context.settings, read_nothing, root)
    found = [
        finding
        for path, text in read_registry(root).items()
        if not path.endswith(PARKED)
        for finding in lint_stops(path, text, around)
        if finding.code == "stop-too-long"
    ]
    for finding in found:
        yield warning("stop-too-long", f"{finding.where}, line {finding.line}: {finding.text}", finding.remedy)
    if not found:
        yield ok("stop-times", "no program may take longer to stop than is waited for")


def check_confs(context: Context) -> Iterator[Finding]:
    """Confs that cannot be loaded or started on either node, by what both agents know."""
    nodes, problem = context.status()
    if problem:
        yield unknown("confs", f"the agent does not answer: {problem}", "systemctl start ha-agent")
        return
    clean = True
    for node in nodes:
        if not node["reachable"]:
            continue
        readiness = node["readiness"]
        for path, why in sorted({**readiness["warnings"], **readiness["problems"]}.items()):
            clean = False
            code = code_of_conf(str(node["role"]), is_loadable=path not in readiness["problems"])
            make = error if FAULTS[code].urgency is Urgency.CRITICAL else warning
            yield make(code, f"{path} on {node['name']}: {why}", f"fix {path}, or park it (*.conf.parked)")
        for path, why in sorted(node["registry"]["refused"].items()):
            clean = False
            text = f"{path} on {node['name']} is not replicated: {why}"
            yield warning("conf-refused", text, "replace it by a plain file of root's that nobody else may write")
    if clean:
        yield ok("confs", "every conf can be loaded and started on every node that can be reached")


def check_listener(context: Context) -> Iterator[Finding]:
    """Without the event listener nobody hears of a program that ended and was started again."""
    remedy = f"ha-agent listener render > {LISTENER_CONF}; supervisorctl update"
    limits = context.settings.supervisor
    try:
        info = Client(limits.socket, 2.0, limits.config).call("getProcessInfo", [f"{GROUP}:{GROUP}"])
    except SupervisordDown:
        # Another check says that.
        return
    if isinstance(info, Fault):
        text = "supervisord has no event listener of ha-agent: ends of programs are not told"
        yield warning("listener-silent", text, remedy)
    elif info["statename"] != State.RUNNING:
        text = f"the event listener is {info['statename']}: {info['spawnerr'] or 'see its log'}"
        yield warning("listener-silent", text, "its log is /var/log/supervisor/ha-agent-listener.log")
    elif lacking := missing_events(context.read(LISTENER_CONF)):
        text = f"{LISTENER_CONF} does not ask for {', '.join(lacking)}: a reload of supervisord is seen up to 2 s late"
        yield warning("listener-silent", text, remedy)
    else:
        yield ok("listener", "the event listener runs: ends of programs are told")


CHECKS: dict[str, Check] = {
    "supervisor-include": check_include,
    "inline-programs": check_inline,
    "supervisor-xmlrpc": check_xmlrpc,
    "supervisor-socket": check_socket,
    "supervisor-unit": check_unit,
    "supervisor-answers": check_answers,
    "listener": check_listener,
    "program-names": check_names,
    "stop-times": check_stop_times,
    "confs": check_confs,
}
