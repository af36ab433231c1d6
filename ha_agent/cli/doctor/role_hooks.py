"""Checks of [hooks.NAME]: that each could be run, that only root decides what it does, and that nobody waits too short."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from ha_agent.cli.doctor.context import Check, Context, error, ok, warning
from ha_agent.core.findings import Finding
from ha_agent.core.hooks import HookSettings, hooked_steps, longest_s
from ha_agent.core.plans import HOOK_STEPS, RELEASE_STEPS, steps_of


def check_role_hooks(context: Context) -> Iterator[Finding]:
    """Every hook, and how long all of those of a release may take."""
    hooks, clean = context.settings.hooks, True
    for name, hook in hooks.items():
        for finding in _check_hook(context, name, hook):
            clean = False
            yield finding
    for finding in _check_times(context):
        clean = False
        yield finding
    if hooks and clean:
        yield ok("role-hooks", f"{', '.join(hooks)} can be run, and are root's alone")


def _check_hook(context: Context, name: str, hook: HookSettings) -> Iterator[Finding]:
    path = hook.command[0]
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        yield error("hook-missing", f"hooks.{name}: {path} cannot be run", f"install {path}, with the right to be executed")
        return
    if (open_to := find_open(path)) is not None:
        text = f"hooks.{name}: {open_to} can be changed by others than root, and {path} runs as root"
        yield error("hook-unsafe", text, f"chown root: {open_to} && chmod go-w {open_to}")
        return
    if hook.check and context.is_root:
        ran = context.run(*hook.command, "--check")
        if ran.code != 0:
            said = (ran.errors.strip() or ran.output.strip() or f"exit status {ran.code}").splitlines()[-1]
            text = f"hooks.{name}: --check says that it could not do its work: {said}"
            yield error("hook-unready", text, "put right what it names")


def _check_times(context: Context) -> Iterator[Finding]:
    settings = context.settings
    hooked = hooked_steps(settings.hooks)
    needed_s = longest_s(settings.hooks, [step for step in steps_of(RELEASE_STEPS, hooked) if step in HOOK_STEPS])
    limit_s = settings.takeover.interlock_timeout_s
    if needed_s >= limit_s:
        text = f"the hooks of a release may take {needed_s:g} s, and a takeover of the other node waits {limit_s:g} s for it"
        remedy = "lower timeout_s of the hooks, or raise takeover.interlock_timeout_s on both nodes"
        yield warning("hook-slow", text, remedy)


def find_open(path: str) -> str | None:
    """What on the way to ``path`` others than root may change; None where nothing is."""
    place = os.path.realpath(path)
    while True:
        info = os.stat(place)
        if info.st_uid != 0 or (info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX):
            return place
        if place == "/":
            return None
        place = os.path.dirname(place)


CHECKS: dict[str, Check] = {"role-hooks": check_role_hooks}
