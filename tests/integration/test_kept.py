"""Kept copies on a real file system: listed, read, restored, pruned."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from ha_agent.adapters.commit import Committer
from ha_agent.adapters.kept import Kept, list_kept, prune_kept, read_kept, write_kept


def keep(state: pathlib.Path, generation: str, path: str, content: bytes, divergence: bool = False) -> Kept:
    import hashlib

    kept = Kept(path, 0o640, hashlib.sha256(content).hexdigest(), content, "replaced", divergence)
    write_kept(str(state / "kept" / generation), kept)
    return kept


def test_every_copy_is_listed_and_read_by_its_digest_also_two_of_one_name(tmp_path: pathlib.Path) -> None:
    first = keep(tmp_path, "1.9", "sub/x.conf", b"first")
    second = keep(tmp_path, "1.9", "sub/x.conf", b"second!")
    keep(tmp_path, "1.10", "y.conf", b"third")
    listed = list_kept(str(tmp_path))
    assert [(e.generation, e.path, e.size) for e in listed] == [
        ("1.9", "sub/x.conf", 5),
        ("1.9", "sub/x.conf", 7),
        ("1.10", "y.conf", 5),
    ]
    assert read_kept(str(tmp_path), "1.9", "sub/x.conf", first.sha256) == b"first"
    assert read_kept(str(tmp_path), "1.9", "sub/x.conf", second.sha256) == b"second!"


def test_names_that_no_file_can_have_beside_the_others_are_kept_all_the_same(tmp_path: pathlib.Path) -> None:
    longest = "n" * 250 + ".conf"
    kept = [
        keep(tmp_path, "1.1", longest, b"first"),
        keep(tmp_path, "1.1", longest, b"second"),
        keep(tmp_path, "1.1", "a.conf", b"a file"),
        keep(tmp_path, "1.1", "a.conf/b.conf", b"below a file"),
        keep(tmp_path, "1.1", "c.conf/d.conf", b"makes a directory"),
        keep(tmp_path, "1.1", "c.conf", b"named as a directory"),
    ]
    assert [(e.path, e.sha256) for e in list_kept(str(tmp_path))] == [(k.path, k.sha256) for k in kept]
    for one in kept:
        assert read_kept(str(tmp_path), "1.1", one.path, one.sha256) == one.content


def test_a_name_that_leads_elsewhere_reads_nothing(tmp_path: pathlib.Path) -> None:
    kept = keep(tmp_path, "1.1", "x.conf", b"text")
    (tmp_path / "state.conf").write_bytes(b"text")
    for generation, path in (("1.1", "../../state.conf"), ("..", "state.conf"), (".", "x.conf"), ("1.1", "/etc/x.conf")):
        assert read_kept(str(tmp_path), generation, path, kept.sha256) is None


def test_a_damaged_copy_is_not_given_out(tmp_path: pathlib.Path) -> None:
    kept = keep(tmp_path, "1.1", "x.conf", b"text")
    (tmp_path / "kept" / "1.1" / "x.conf").write_bytes(b"tex")
    assert read_kept(str(tmp_path), "1.1", "x.conf", kept.sha256) is None


def test_pruning_by_age_spares_the_young_and_divergences(tmp_path: pathlib.Path) -> None:
    keep(tmp_path, "1.1", "x.conf", b"old")
    keep(tmp_path, "1.2", "x.conf", b"lost", divergence=True)
    future = time.time() + 60
    assert prune_kept(str(tmp_path), 0, before_wall=time.time() - 60) == 0
    assert prune_kept(str(tmp_path), 0, before_wall=future) == 1
    assert [e.generation for e in list_kept(str(tmp_path))] == ["1.2"]
    assert prune_kept(str(tmp_path), 0, before_wall=future, divergences=True) == 1
    assert list_kept(str(tmp_path)) == []


@pytest.fixture
def committer(tmp_path: pathlib.Path) -> Committer:
    for name in ("registry", "staging", "kept"):
        (tmp_path / name).mkdir()
    return Committer(str(tmp_path / "registry"), str(tmp_path))


def test_a_restore_keeps_what_stood_there(committer: Committer, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "registry" / "x.conf"
    target.write_bytes(b"present")
    replaced = committer.write("x.conf", b"restored", 0o600, "3.4", "replaced by a restore")
    assert replaced is not None and replaced.content == b"present"
    assert target.read_bytes() == b"restored" and os.stat(target).st_mode & 0o777 == 0o600
    assert read_kept(str(tmp_path), "3.4", "x.conf", replaced.sha256) == b"present"
    assert committer.write("x.conf", b"restored", 0o600, "3.5", "?") is None
    assert committer.write("sub/new.conf", b"fresh", 0o644, "3.6", "?") is None
    assert (tmp_path / "registry" / "sub" / "new.conf").read_bytes() == b"fresh"
