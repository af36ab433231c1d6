"""``ha-agent daemon``: process set-up around the agent: limits, logging, signals, and what an exit means."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from ha_agent.adapters.agent_lock import AgentLock, AgentRuns
from ha_agent.adapters.heap import limit_heap
from ha_agent.adapters.log_lines import set_up_log
from ha_agent.adapters.sd_notify import notify_manager
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.store import StateTooNew
from ha_agent.core.places import RunPlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings import Settings
from ha_agent.core.words import Exit
from ha_agent.daemon.agent import Agent

WORKERS = 3
"""Threads for what blocks: supervisord's answers, scans, commits on a slow disk. Each costs memory as long as it lives."""

log = logging.getLogger("ha_agent")


def run_daemon(config_path: str) -> int:
    """Runs the agent until SIGTERM or SIGINT; SIGHUP reads the configuration again. Returns the exit status.

    Beside another agent of this node none is begun.
    """
    try:
        settings = load_settings(config_path)
    except OSError as error:
        print(f"ha-agent: {config_path}: {error.strerror}; make one with: ha-agent config sample", file=sys.stderr)
        return Exit.USAGE
    except SettingsError as error:
        for problem in error.problems:
            print(f"ha-agent: {config_path}: {problem}", file=sys.stderr)
        return Exit.USAGE
    if os.geteuid() != 0:
        print("ha-agent: the daemon must run as root: it stops other users' processes and writes /run", file=sys.stderr)
        return Exit.USAGE
    lock = AgentLock(RunPlaces(settings.paths.run_dir).lock)
    try:
        _take_lock(lock)
    except AgentRuns as error:
        print(f"ha-agent: {error}, and a node has one: systemctl status ha-agent shows it", file=sys.stderr)
        return Exit.REFUSED
    except OSError as error:
        print(f"ha-agent: cannot start: {reason_of(error)}", file=sys.stderr)
        return Exit.FAILED
    _set_up_process(settings)
    if sys.version_info < (3, 12):
        # Later Pythons do this by themselves: no thread a child process.
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    return asyncio.run(_run_agent(settings, config_path, lock))


def _take_lock(lock: AgentLock) -> None:
    """Sees to it that this is the one agent of the node. Raises ``AgentRuns`` and ``OSError``.

    Under a service manager it waits for the end of the other one, which somebody has started by hand: a service that failed
    for that would have the node fenced while its agent runs.
    """
    try:
        lock.acquire()
    except AgentRuns as error:
        if "NOTIFY_SOCKET" not in os.environ:
            raise
        print(f"ha-agent: {error}: this one waits for its end", file=sys.stderr, flush=True)
        notify_manager(f"STATUS={error}: waits for its end")
        lock.acquire(wait=True)
        notify_manager("STATUS=")


def _set_up_process(settings: Settings) -> None:
    limit_heap()
    set_up_log(settings.log.level)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("watchdog").setLevel(logging.WARNING)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    os.umask(0o077)
    # The loop shares the interpreter with watchdog's threads and the workers: hand over in half a millisecond, not in five.
    sys.setswitchinterval(0.0005)
    # A takeover must not wait for a collection of what was there from the start.
    gc.freeze()


async def _run_agent(settings: Settings, config_path: str, lock: AgentLock) -> int:
    try:
        agent = Agent(settings, config_path, lock)
    except OSError as error:
        log.critical("cannot start: %s", reason_of(error))
        return Exit.FAILED

    def reload() -> None:
        try:
            load_settings(config_path)
        except (OSError, SettingsError) as error:
            log.error("reload refused, the old configuration stays in force: %s", reason_of(error))
            return
        agent.stop(begins_anew=True)

    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS, "worker"))
    loop.add_signal_handler(signal.SIGTERM, agent.stop)
    loop.add_signal_handler(signal.SIGINT, agent.stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await agent.run()
    except (OSError, StateTooNew) as error:
        log.critical("cannot start: %s", reason_of(error))
        return Exit.FAILED
    if agent.begins_anew and not agent.failed:
        # The same process begins again: the agent's own restart changes nothing for the programs, so neither does this.
        notify_manager(f"RELOADING=1\nMONOTONIC_USEC={int(loop.time() * 1e6)}")
        lock.hand_on()
        os.execv(sys.executable, [sys.executable, "-m", "ha_agent", "daemon", "--config", config_path])
    return Exit.FAILED if agent.failed else Exit.DONE
