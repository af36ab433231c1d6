"""The directory that supervisord includes, and a release that empties it while it is being written."""

from __future__ import annotations

import asyncio
import os
import pathlib

from ha_agent.adapters.conf_checker import ConfChecker
from ha_agent.core.confs import Program, Selection, Verdict
from ha_agent.core.manifest import EMPTY, Entry
from ha_agent.core.settings import check_settings
from ha_agent.core.settings_sample import sample_toml
from ha_agent.daemon.programs.active_set import ActiveSet


def make_set(tmp_path: pathlib.Path, on_read: dict[str, object]) -> ActiveSet:
    import tomllib

    settings = check_settings(tomllib.loads(sample_toml({("paths", "run_dir"): str(tmp_path)})))

    def read(path: str, _sha: str) -> bytes:
        action = on_read.pop(path, None)
        if callable(action):
            action()
        return f"[program:{path[0]}]\ncommand=x\n".encode()

    directory = str(tmp_path / "active")
    made = ActiveSet(settings.registry.path, directory, ConfChecker(settings.supervisor), read)
    paths = ("a.conf", "b.conf", "c.conf")
    made.judged = EMPTY.changed([Entry(p, 0o644, "0" * 64) for p in paths], [])
    made.selection = Selection(loadable=paths, groups={p[0]: (p[0],) for p in paths})
    made._verdicts = {p: ("0" * 64, Verdict(programs=(Program(p[0]),))) for p in paths}
    return made


def test_what_a_release_emptied_is_not_filled_by_a_writing_that_began_before(tmp_path: pathlib.Path) -> None:
    on_read: dict[str, object] = {}
    made = make_set(tmp_path, on_read)
    on_read["b.conf"] = made.remove
    asyncio.run(made.write(keep_last_good=True))
    assert os.listdir(made.directory) == []
    asyncio.run(made.write(keep_last_good=True))
    assert sorted(os.listdir(made.directory)) == ["a.conf", "b.conf", "c.conf"], "the next one writes all of it"


def test_what_is_not_loadable_any_more_goes_unless_it_was_good_before(tmp_path: pathlib.Path) -> None:
    made = make_set(tmp_path, {})
    asyncio.run(made.write(keep_last_good=True))
    made.selection = Selection(loadable=("a.conf",), problems={"b.conf": "bad"}, groups={"a": ("a",)})
    asyncio.run(made.write(keep_last_good=True))
    assert sorted(os.listdir(made.directory)) == ["a.conf", "b.conf"]
    asyncio.run(made.write(keep_last_good=False))
    assert os.listdir(made.directory) == ["a.conf"]
