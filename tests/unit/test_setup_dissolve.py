"""A pair comes to its end: one node has nothing of it, and the other one's supervisord starts everything by itself."""

from __future__ import annotations

import pathlib
import stat
from typing import Any

import pytest

from ha_agent.cli.setup_dissolve import find_left_out, include_left_out, put_registry_aside
from ha_agent.cli.setup_node import SetupFailed
from ha_agent.cli.setup_undo import check_dissolvable
from ha_agent.core.main_conf import UnusableConf, add_includes, included_patterns, parse_main_conf

MAIN = "[supervisord]\nuser=root ; yes\n\n[include]\nfiles = /etc/s/conf.d/*.conf\n  %(here)s/more/*.ini\n\n[x]\ny=1\n"


def test_what_replication_brought_is_put_aside_and_what_was_there_before_stays(tmp_path: pathlib.Path) -> None:
    registry, aside = tmp_path / "registry", tmp_path / "undone" / "registry"
    (registry / "sub").mkdir(parents=True)
    for name in ("a.conf", "sub/b.ini", "own.conf", "c.conf.parked"):
        (registry / name).write_text(name)
    aside.mkdir(parents=True)
    (aside / "a.conf").write_text("of a run before")
    paths = ["a.conf", "c.conf.parked", "own.conf", "sub/b.ini"]
    moved = put_registry_aside(str(registry), paths, [str(registry / "own.conf")], str(aside))
    assert moved == ["a.conf", "c.conf.parked", "sub/b.ini"]
    assert [p.name for p in registry.rglob("*") if p.is_file()] == ["own.conf"]
    found = {p.relative_to(aside).as_posix(): p.read_text() for p in aside.rglob("*") if p.is_file()}
    assert found == {
        "a.conf": "of a run before",
        "a.conf.1": "a.conf",
        "c.conf.parked": "c.conf.parked",
        "sub/b.ini": "sub/b.ini",
    }


def test_a_conf_that_no_pattern_names_is_left_out() -> None:
    patterns = ["/r/*.conf", "/r/web/x.ini"]
    paths = ["a.conf", "b.ini", "sub/c.conf", "web/x.ini", "d.conf.parked", "README"]
    assert find_left_out("/r", paths, patterns) == ["b.ini", "sub/c.conf"]


def test_the_main_conf_includes_more_and_says_all_else_as_before(tmp_path: pathlib.Path) -> None:
    more = add_includes(MAIN, ["/r/b.ini", "/r/sub/c.conf"])
    assert included_patterns(parse_main_conf(more), "/etc/s/main.conf") == [
        "/etc/s/conf.d/*.conf",
        "/etc/s/more/*.ini",
        "/r/b.ini",
        "/r/sub/c.conf",
    ]
    assert more.startswith("[supervisord]\nuser=root ; yes\n\n[include]\nfiles = ") and more.endswith("\n[x]\ny=1\n")
    assert add_includes(MAIN, []) == MAIN
    assert add_includes("[supervisord]\n", ["/r/b.ini"]) == "[supervisord]\n\n[include]\nfiles = /r/b.ini\n"
    with pytest.raises(UnusableConf):
        add_includes(MAIN + "[include]\nfiles = x\n", ["/r/b.ini"])


def test_the_former_main_conf_is_kept_with_its_mode(tmp_path: pathlib.Path) -> None:
    main = tmp_path / "main.conf"
    main.write_text(MAIN)
    main.chmod(0o600)
    assert include_left_out(str(main), []) == [] and len(list(tmp_path.iterdir())) == 1
    assert include_left_out(str(main), ["/r/b.ini"]) == ["/r/b.ini"]
    assert (tmp_path / "main.conf.before-dissolve").read_text() == MAIN and "/r/b.ini" in main.read_text()
    assert [stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()] == [0o600, 0o600]


def test_another_machine_a_pair_made_by_hand_and_a_peer_that_runs_programs_are_refused() -> None:
    good: dict[str, dict[str, Any]] = {"own": {"made_by_setup": True}, "peer": {"name": "node-b", "running": []}}
    check_dissolvable(good, "node-b")
    for own, peer, said in (
        ({}, {"name": "node-c"}, "is that the right machine"),
        ({"made_by_setup": False}, {}, "not made by ha-agent setup"),
        ({}, {"running": ["web"]}, "runs programs \\(web\\)"),
    ):
        with pytest.raises(SetupFailed, match=said):
            check_dissolvable({"own": {**good["own"], **own}, "peer": {**good["peer"], **peer}}, "node-b")
