"""Which groups are local is read from supervisord's configuration, whatever notes say."""

from __future__ import annotations

import os
import pathlib

import pytest

from ha_agent.adapters.local_confs import LocalConfs
from ha_agent.daemon.programs.loaded_groups import LoadedGroups
from ha_agent.daemon.programs.local_groups import LocalGroups
from tests.unit.fakes_programs import MemoryConfs


def test_all_but_the_active_set_and_the_registry_is_local_and_what_was_seen_once_stays(tmp_path: pathlib.Path) -> None:
    for folder in ("active", "local.d", "registry/sub", "east"):
        (tmp_path / folder).mkdir(parents=True)
    main = tmp_path / "supervisord.conf"
    main.write_text(
        "[supervisord]\n[eventlistener:own]\ncommand=x\n[include]\n"
        "files = %(here)s/active/*.conf local.d/*.conf registry/*/*.conf %(ENV_SITE)s/*.conf nowhere/*.conf\n",
        encoding="utf-8",
    )
    conf = "[program:{0}]\ncommand=x\n[group:{0}s]\nprograms={0}\n"
    for path in ("active/web", "local.d/agent", "registry/sub/db", "east/site"):
        (tmp_path / f"{path}.conf").write_text(conf.format(path.rpartition("/")[2]), encoding="utf-8")
    confs = LocalConfs(str(main), (str(tmp_path / "active"), str(tmp_path / "registry")))
    wanted = {"own", "agent", "agents", "site", "sites"}
    assert confs.read_groups({"SITE": str(tmp_path / "east")}) == wanted
    (tmp_path / "local.d" / "agent.conf").unlink()
    assert confs.read_groups({}) == wanted, "it may still run"
    assert confs.read_defined({}) == {"own"}, "its name is free again"
    fresh = LocalConfs(str(main), (str(tmp_path / "active"), str(tmp_path / "registry")))
    assert fresh.read_groups({}) == {"own"}


def test_a_configuration_that_cannot_be_read_makes_nothing_local(tmp_path: pathlib.Path) -> None:
    assert LocalConfs(str(tmp_path / "none"), ()).read_groups({}) == frozenset()
    (tmp_path / "bad").write_text("what\n", encoding="utf-8")
    assert LocalConfs(str(tmp_path / "bad"), ()).read_groups({}) == frozenset()


def test_the_groups_of_one_registry_are_foreign_to_another_and_its_own_never_local(tmp_path: pathlib.Path) -> None:
    east, west = LoadedGroups(str(tmp_path / "east")), LoadedGroups(str(tmp_path / "west"))
    local = LocalGroups(MemoryConfs({"agent", "web"}), dict)
    local.join(east)
    local.join(west)
    east.remember(["web"])
    west.remember(["db"])
    assert local.apart_from(east) == {"agent", "db"}
    assert local.apart_from(west) == {"agent", "web"}


def test_the_confs_of_the_active_set_are_neither_listed_nor_resolved_one_by_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "active").mkdir()
    (tmp_path / "link").symlink_to("active")
    for number in range(50):
        (tmp_path / "active" / f"{number}.conf").write_text(f"[program:p{number}]\ncommand=x\n", encoding="ascii")
    main = tmp_path / "supervisord.conf"
    main.write_text("[include]\nfiles = %(here)s/active/*.conf link/*.conf l*k/*.conf\n", encoding="ascii")
    resolved: list[str] = []
    really = os.path.realpath

    def resolve(path: str) -> str:
        resolved.append(path)
        return really(path)

    monkeypatch.setattr(os.path, "realpath", resolve)
    assert LocalConfs(str(main), (str(tmp_path / "active"),)).read_defined({}) == frozenset()
    assert len(resolved) <= 4, "this is asked at every change of the registry"
