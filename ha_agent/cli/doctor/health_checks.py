"""Checks of [checks.NAME]: that each command could be run, that only root decides what it does, that programs exist."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ha_agent.cli.doctor.context import Check, Context, error, ok, warning
from ha_agent.cli.doctor.role_hooks import find_open
from ha_agent.core.checks import CheckSettings
from ha_agent.core.findings import Finding
from ha_agent.core.targets import read_headers


def check_health_checks(context: Context) -> Iterator[Finding]:
    """Every health check. What a file must not say is found when it is read, that both nodes say the same by ``pair``."""
    checks, clean = context.settings.checks, True
    programs = _find_programs(context.settings.registry.path) if any(c.program for c in checks.values()) else frozenset()
    for name, check in checks.items():
        for finding in _check_one(name, check, programs):
            clean = False
            yield finding
    if checks and clean:
        yield ok("health-checks", f"{', '.join(checks)} can be made")


def _check_one(name: str, check: CheckSettings, programs: frozenset[str]) -> Iterator[Finding]:
    if check.program and check.program not in programs:
        text = f"checks.{name}: the registry has no program {check.program}: nothing is looked at"
        yield warning("check-program", text, f"correct checks.{name}.program, or register {check.program}")
    if not check.command:
        return
    path = check.command[0]
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        yield error(
            "check-missing", f"checks.{name}: {path} cannot be run", f"install {path}, with the right to be executed"
        )
    elif (open_to := find_open(path)) is not None:
        text = f"checks.{name}: {open_to} can be changed by others than root, and {path} runs as root"
        yield error("check-unsafe", text, f"chown root: {open_to} && chmod go-w {open_to}")


def _find_programs(registry: str) -> frozenset[str]:
    """The programs of every conf of the registry, parked ones included, as far as their texts say it."""
    found: set[str] = set()
    for folder, _, names in os.walk(registry):
        for name in names:
            try:
                with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
                    found.update(read_headers(name, file.read(1 << 20)).programs)
            except OSError:
                continue
    return frozenset(found)


CHECKS: dict[str, Check] = {"health-checks": check_health_checks}
