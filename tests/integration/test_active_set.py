"""The directory that supervisord includes, and a release that empties it while it is being written."""

from __future__ import annotations

import asyncio
import os
import pathlib
import tomllib
from collections.abc import Callable, Mapping

import pytest

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.core.confs import Program, Verdict
from ha_agent.core.manifest import EMPTY, Entry
from ha_agent.core.settings import Settings, SupervisorSettings, check_settings
from ha_agent.core.settings_sample import sample_toml
from ha_agent.daemon.programs.active_set import ActiveSet

REGISTRY = EMPTY.changed([Entry(path, 0o644, "0" * 64) for path in ("a.conf", "b.conf", "c.conf")], [])


class Answers(ConfChecker):
    """Says of each conf that it holds one program, called as its first letter, or what is wrong with it."""

    def __init__(self, settings: SupervisorSettings) -> None:
        super().__init__(settings)
        self.problems: dict[str, str] = {}

    async def judge(
        self, confs: Mapping[str, str], directories: Mapping[str, str], *, for_stranger: bool = False
    ) -> dict[str, Verdict]:
        return {
            path: Verdict(problem=self.problems[path]) if path in self.problems else Verdict(programs=(Program(path[0]),))
            for path in confs
        }


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    return check_settings(tomllib.loads(sample_toml({("paths", "run_dir"): str(tmp_path)})))


def make_set(settings: Settings, checker: ConfChecker, on_read: dict[str, Callable[[], object]]) -> ActiveSet:
    """The set of the whole registry, judged; ``on_read`` happens once each when a conf is read for the first time after."""
    waiting: dict[str, Callable[[], object]] = {}

    def read(path: str, _sha: str) -> bytes:
        waiting.pop(path, lambda: None)()
        return f"[program:{path[0]}]\ncommand=x\n".encode()

    made = ActiveSet(settings.registry.path, os.path.join(settings.paths.run_dir, "active"), checker, read)
    asyncio.run(made.judge(REGISTRY))
    assert made.selection.loadable == ("a.conf", "b.conf", "c.conf")
    waiting.update(on_read)
    return made


def test_what_a_release_emptied_is_not_filled_by_a_writing_that_began_before(settings: Settings) -> None:
    made = make_set(settings, Answers(settings.supervisor), {"b.conf": lambda: made.remove()})
    asyncio.run(made.write(keep_last_good=True))
    assert os.listdir(made.directory) == []
    asyncio.run(made.write(keep_last_good=True))
    assert sorted(os.listdir(made.directory)) == ["a.conf", "b.conf", "c.conf"], "the next one writes all of it"


def test_what_is_not_loadable_any_more_goes_unless_it_was_good_before(settings: Settings) -> None:
    checker = Answers(settings.supervisor)
    made = make_set(settings, checker, {})
    asyncio.run(made.write(keep_last_good=True))
    checker.problems["b.conf"] = "bad"
    asyncio.run(made.judge(REGISTRY.changed([], ["c.conf"]), afresh=True))
    asyncio.run(made.write(keep_last_good=True))
    assert sorted(os.listdir(made.directory)) == ["a.conf", "b.conf"]
    asyncio.run(made.write(keep_last_good=False))
    assert os.listdir(made.directory) == ["a.conf"]
