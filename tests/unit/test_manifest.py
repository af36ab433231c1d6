"""The manifest is a set of entries whose hash says all, however it came about."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.manifest import EMPTY, Entry, Manifest, diff_manifests

paths = st.text(alphabet="abc/é\n ", min_size=1, max_size=6)
entries = st.builds(Entry, paths, st.sampled_from([0o600, 0o644]), st.sampled_from(["a" * 64, "b" * 64]))


@given(st.lists(entries))
def test_equal_content_means_equal_hash_whatever_the_order(rows: list[Entry]) -> None:
    unique = {e.path: e for e in rows}
    assert Manifest.of(unique.values()).hash == Manifest.of(reversed(list(unique.values()))).hash
    assert len(Manifest.of(rows)) == len(unique)


@given(st.lists(entries), st.lists(entries), st.lists(paths))
def test_changing_gives_the_same_manifest_as_making_it_anew(
    base: list[Entry], puts: list[Entry], deletes: list[str]
) -> None:
    wanted = {e.path: e for e in base}
    wanted.update((e.path, e) for e in puts)
    for path in deletes:
        wanted.pop(path, None)
    changed = Manifest.of(base).changed(puts, deletes)
    assert changed == Manifest.of(wanted.values())
    assert list(changed) == sorted(wanted.values(), key=lambda e: e.path)
    assert len(changed) == len(wanted)


@given(st.lists(entries), st.lists(entries))
def test_a_difference_applied_to_its_base_gives_the_wanted_manifest(base: list[Entry], wanted: list[Entry]) -> None:
    a, b = Manifest.of(base), Manifest.of(wanted)
    difference = diff_manifests(a, b)
    assert a.changed(difference.puts, difference.deletes) == b
    assert bool(difference) == (a != b)


@given(st.lists(entries))
def test_rows_bring_a_manifest_back(rows: list[Entry]) -> None:
    manifest = Manifest.of(rows)
    assert Manifest.from_rows(manifest.to_rows()) == manifest


def test_a_change_of_mode_alone_is_a_change() -> None:
    sha = hashlib.sha256(b"").hexdigest()
    a, b = Manifest.of([Entry("x.conf", 0o600, sha)]), Manifest.of([Entry("x.conf", 0o644, sha)])
    assert a != b
    assert diff_manifests(a, b).puts == (Entry("x.conf", 0o644, sha),)


def test_nothing_changed_gives_the_same_object_back() -> None:
    manifest = Manifest.of([Entry("x.conf", 0o600, "a" * 64)])
    assert manifest.changed([Entry("x.conf", 0o600, "a" * 64)], ["y.conf"]) is manifest
    assert len(EMPTY) == 0
