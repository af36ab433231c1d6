"""Payload on a real disk: looking, committing, what a crash at each step leaves, and a real rsync in between."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import signal
import stat
import subprocess
import sys
from collections.abc import Callable

import pytest

from ha_agent.adapters.payload_commit import PayloadCommitter, PayloadNoSpace, PayloadRefused, PayloadReport
from ha_agent.adapters.payload_scan import PayloadScanner
from ha_agent.core.payload_list import Kind, Listing
from ha_agent.core.payload_plan import plan_payload
from ha_agent.core.payload_rules import TEMPORARY, Limits, PayloadRules

STAGING = "0123456789abcdef"


class Side:
    """What one node holds below a directory, and its state. Both sides stand for the same paths."""

    def __init__(self, base: pathlib.Path) -> None:
        self.root, self.state = base / "app", base / "state"
        self.root.mkdir(parents=True, exist_ok=True)
        (self.state / "staging").mkdir(parents=True, exist_ok=True)
        self.scanner, self.committer = PayloadScanner(), PayloadCommitter(str(self.state))

    def write(self, name: str, text: str, mode: int = 0o644) -> pathlib.Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def scan(self, **words: object) -> Listing:
        return self.scanner.scan(PayloadRules((str(self.root),), **words)).listing  # type: ignore[arg-type]


def moved(listing: Listing, old: pathlib.Path, new: pathlib.Path) -> Listing:
    """The same list for another root."""
    return Listing([dataclasses.replace(e, path=str(new) + e.path[len(str(old)) :]) for e in listing])


def plain(listing: Listing) -> list[tuple[object, ...]]:
    """What two lists are compared by."""
    return [(entry.path, *entry.key) for entry in listing]


class Both:
    def __init__(self, base: pathlib.Path) -> None:
        self.here, self.there = Side(base / "a"), Side(base / "b")
        self.agreed: set[str] = set()

    def wanted(self) -> Listing:
        return moved(self.here.scan(), self.here.root, self.there.root)

    def send(self, should_stop: Callable[[], str | None] = lambda: None) -> PayloadReport:
        wanted, present = self.wanted(), self.there.scan()
        agreed = self.agreed | self.there.committer.read_agreed().keys()
        plan = plan_payload(wanted, present, agreed)
        stage = self.there.state / "staging" / STAGING
        stage.mkdir(exist_ok=True)
        for path in self.here.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                if (sha := hashlib.sha256(data).hexdigest()) in plan.wants:
                    (stage / sha).write_bytes(data)
        report = self.there.committer.commit(plan, wanted, present, STAGING, 3, 1000.0, should_stop)
        self.there.committer.write_agreed({e.path: e.content for e in wanted})
        return report

    def is_equal(self) -> bool:
        return plain(self.there.scan()) == plain(self.wanted())


@pytest.fixture
def both(tmp_path: pathlib.Path) -> Both:
    return Both(tmp_path)


def hidden(root: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in root.rglob("*") if path.name.startswith(TEMPORARY)]


# ---- looking --------------------------------------------------------------------------------------------------------


def test_kinds_modes_and_names_are_seen_and_links_are_not_followed(tmp_path: pathlib.Path) -> None:
    side = Side(tmp_path)
    side.write("bin/x", "one", 0o750)
    (side.root / "current").symlink_to("/etc")
    os.mkfifo(side.root / "pipe")
    seen = {e.path[len(str(side.root)) :]: e for e in side.scan()}
    assert set(seen) == {"", "/bin", "/bin/x", "/current"}
    assert (seen["/bin/x"].mode, seen["/bin/x"].owner) == (0o750, "root")
    assert (seen["/current"].kind, seen["/current"].content) == (Kind.LINK, "/etc")


def test_what_does_not_travel_is_named(tmp_path: pathlib.Path) -> None:
    side = Side(tmp_path)
    side.write("su", "x", 0o4755)
    side.write("large", "x" * 100)
    rules = PayloadRules((str(side.root), str(tmp_path / "missing")), limits=Limits(file_bytes=10))
    scan = side.scanner.scan(rules)
    assert len(scan.problems) == 3
    assert scan.listing.left_out == {str(side.root / "su"), str(side.root / "large"), str(tmp_path / "missing")}


def test_a_link_on_the_way_of_a_path_is_refused(tmp_path: pathlib.Path) -> None:
    side = Side(tmp_path)
    (tmp_path / "way").symlink_to(tmp_path)
    scan = side.scanner.scan(PayloadRules((str(tmp_path / "way" / "app"),)))
    assert not len(scan.listing)
    assert "is a link on the way" in scan.problems[0]


def test_a_digest_is_found_anew_where_the_content_changed_and_the_times_did_not(tmp_path: pathlib.Path) -> None:
    side = Side(tmp_path)
    path = side.write("x", "one")
    before, times = side.scan(), path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert side.scan().hash != before.hash


# ---- committing -----------------------------------------------------------------------------------------------------


def test_a_version_arrives_with_its_link_modes_and_times(both: Both) -> None:
    both.here.write("v1/bin/app", "one", 0o755)
    (both.here.root / "current").symlink_to("v1")
    os.utime(both.here.root / "v1/bin/app", ns=(5, 10**18))
    both.send()
    assert both.is_equal()
    arrived = both.there.root / "current/bin/app"
    assert (arrived.read_text(), stat.S_IMODE(arrived.stat().st_mode), arrived.stat().st_mtime_ns) == ("one", 0o755, 10**18)
    both.here.write("v2/bin/app", "two", 0o755)
    (both.here.root / "current").unlink()
    (both.here.root / "current").symlink_to("v2")
    both.send()
    assert both.is_equal()
    assert not hidden(both.there.root)


def test_owners_are_those_of_the_names_here(both: Both) -> None:
    os.chown(both.here.write("x", "one"), 2, 3)
    both.send()
    seen = (both.there.root / "x").stat()
    assert (seen.st_uid, seen.st_gid) == (2, 3)


def test_what_is_replaced_and_deleted_is_kept_and_an_edit_of_this_node_is_named(both: Both) -> None:
    both.here.write("x", "one")
    both.here.write("y", "one y")
    both.send()
    (both.there.root / "x").write_text("edited here")
    both.here.write("x", "two")
    (both.here.root / "y").unlink()
    report = both.send()
    assert both.is_equal()
    assert len(report.kept) == 2
    assert report.diverged == [str(both.there.root / "x")]
    kept = {path.read_text() for path in (both.there.state / "payload/kept").rglob("*") if path.name in "xy"}
    assert kept == {"edited here", "one y"}


def test_what_this_node_alone_has_stays(both: Both) -> None:
    both.here.write("data/seed", "one")
    both.send()
    both.there.write("data/own", "mine")
    (both.here.root / "data/seed").unlink()
    (both.here.root / "data").rmdir()
    both.send()
    assert (both.there.root / "data/own").read_text() == "mine"
    assert not (both.there.root / "data/seed").exists()


@pytest.mark.parametrize("bad", ["digest", "user", "missing"])
def test_what_cannot_be_made_changes_nothing(both: Both, bad: str) -> None:
    both.here.write("x", "one")
    both.send()
    both.here.write("a", "new")
    path = both.here.write("x", "two")
    if bad == "user":
        os.chown(path, 4_000_000, 0)
    wanted, present = both.wanted(), both.there.scan()
    if bad == "user":
        wanted = Listing(dataclasses.replace(e, owner="nobody-here") if e.owner.startswith("#") else e for e in wanted)
    plan = plan_payload(wanted, present, ())
    stage = both.there.state / "staging" / STAGING
    for sha in plan.wants:
        if bad == "digest":
            (stage / sha).write_text("???")
    with pytest.raises(PayloadRefused):
        both.there.committer.commit(plan, wanted, present, STAGING, 3, 1000.0, lambda: None)
    assert both.there.scan().hash == present.hash
    assert not hidden(both.there.root)


def test_a_directory_that_became_a_link_meanwhile_is_not_followed(both: Both, tmp_path: pathlib.Path) -> None:
    both.here.write("d/x", "one")
    both.send()
    both.here.write("d/x", "two")
    wanted, present = both.wanted(), both.there.scan()
    plan = plan_payload(wanted, present, ())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_text("not yours")
    (both.there.root / "d").rename(both.there.root / "e")
    (both.there.root / "d").symlink_to(elsewhere)
    with pytest.raises((PayloadRefused, OSError)):
        both.there.committer.commit(plan, wanted, present, STAGING, 3, 1000.0, lambda: None)
    assert (elsewhere / "x").read_text() == "not yours"


def test_a_role_change_ends_a_commit_between_two_steps(both: Both) -> None:
    for name in "abc":
        both.here.write(name, name)
    asked = iter([None, "this node is to become active"])
    report = both.send(lambda: next(asked))
    assert (report.done, report.left) == (1, "this node is to become active")
    assert not hidden(both.there.root)
    both.send()
    assert both.is_equal()


def test_a_full_disk_leaves_the_old(both: Both, tmp_path: pathlib.Path) -> None:
    both.here.write("x", "one")
    both.send()
    both.here.write("x", "two" * 10)
    wanted, present = both.wanted(), both.there.scan()
    plan = plan_payload(wanted, present, ())
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(small)], check=True)
    try:
        (small / "staging").mkdir()
        with pytest.raises(PayloadNoSpace):
            PayloadCommitter(str(small)).check_room(plan, wanted, plan.wants)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_that_fills_while_it_is_written_leaves_the_old(both: Both) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(both.there.root)], check=True)
    try:
        both.here.write("x", "one")
        both.send()
        both.here.write("a", "a" * 20_000)
        both.here.write("x", "two" * 30_000)
        present = both.there.scan()
        with pytest.raises(PayloadNoSpace):
            both.send()
        assert both.there.scan().hash == present.hash
        assert not hidden(both.there.root)
        both.here.write("x", "two")
        both.send()
        assert both.is_equal()
    finally:
        subprocess.run(["umount", str(both.there.root)], check=True)


def run_until(base: pathlib.Path, step: int) -> int:
    """Sends in a process that kills itself before its ``step``th call that others can see; returns its exit status."""
    code = f"""
import os, pathlib, sys
from ha_agent.adapters import payload_commit as pc
from tests.integration.test_payload import Both, Side
left = [{step}]
def count(name):
    real = getattr(pc, name)
    def counted(*words, **more):
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        left[0] -= 1
        return real(*words, **more)
    setattr(pc, name, counted)
for name in ("_do", "_dress", "write_kept", "_sync", "write_atomic"):
    count(name)
base = pathlib.Path({str(base)!r})
Both(base).send()
"""
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_a_kill_at_any_step_leaves_old_or_new_and_is_swept(tmp_path: pathlib.Path) -> None:
    step = 0
    while True:
        base = tmp_path / str(step)
        both = Both(base)
        both.here.write("v1/app", "one")
        both.here.write("conf", "old")
        (both.here.root / "current").symlink_to("v1")
        both.send()
        both.here.write("v2/app", "two")
        both.here.write("v2/lib", "lib")
        both.here.write("conf", "new")
        (both.here.root / "v1/app").unlink()
        (both.here.root / "v1").rmdir()
        (both.here.root / "current").unlink()
        (both.here.root / "current").symlink_to("v2")
        code = run_until(base, step)
        root = both.there.root
        assert (root / "current/app").read_text() in ("one", "two"), "the link leads to something that is whole"
        assert (root / "conf").read_text() in ("old", "new")
        if (root / "v2").exists():
            assert {path.name for path in (root / "v2").iterdir()} == {"app", "lib"}
        if (root / "current").readlink() == pathlib.Path("v2"):
            assert (root / "conf").read_text() == "new"
        both.there.committer.sweep()
        assert not hidden(root)
        both.send()
        assert both.is_equal()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        step += 1
    assert step > 12
