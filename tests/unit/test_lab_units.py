"""The lab's process 1 does with the units what the shipped systemd files say."""

from __future__ import annotations

import configparser

from ha_agent.adapters.resources import find_resource
from ha_agent.lab.node_init import UNITS


def read_unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(find_resource(f"systemd/{name}"))
    return parser


def seconds(text: str) -> float:
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


def test_the_agents_restart_watchdog_and_start_limit_are_those_of_its_unit() -> None:
    unit = next(u for u in UNITS if u.name == "ha-agent")
    shipped = read_unit("ha-agent.service")
    service, head = shipped["Service"], shipped["Unit"]
    assert service["Restart"] == "always"
    assert unit.restart_s == seconds(service["RestartSec"])
    assert unit.watchdog_s == seconds(service["WatchdogSec"])
    assert unit.abort_s == seconds(service["TimeoutAbortSec"])
    assert unit.interval_s == seconds(head["StartLimitIntervalSec"])
    assert unit.burst == int(head["StartLimitBurst"])
    assert head["OnFailure"] == "ha-agent-fence.service"
    fence = read_unit("ha-agent-fence.service")["Service"]["ExecStart"]
    assert fence.endswith("/ha-agent-fence") and unit.on_failure[-1].endswith("/systemd/ha-agent-fence")


def test_supervisord_comes_back_as_its_drop_in_says() -> None:
    unit = next(u for u in UNITS if u.name == "supervisord")
    service = read_unit("supervisor.service.d/ha-agent.conf")["Service"]
    assert service["KillMode"] == "control-group"
    assert unit.restart_s == seconds(service["RestartSec"])
