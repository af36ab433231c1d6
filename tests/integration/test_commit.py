"""The receiver's commit on a real file system: whole or not at all, nothing lost, whatever interrupts it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ha_agent.adapters.commit import Committer, NoSpace, libc, sweep_temporaries
from ha_agent.adapters.kept import prune_kept
from ha_agent.adapters.registry import RegistryUnavailable, scan_registry
from ha_agent.adapters.store import Store
from ha_agent.core.manifest import EMPTY, Entry, Manifest
from ha_agent.core.transaction import BadTransaction, Transaction


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def scan(root: str) -> Manifest:
    return scan_registry(root, EMPTY, {}).manifest


@pytest.fixture
def place(tmp_path: os.PathLike[str]) -> tuple[str, str]:
    root, state = os.path.join(tmp_path, "conf.d"), os.path.join(tmp_path, "state")
    os.mkdir(root)
    Store(state).prepare()
    return root, state


def write(root: str, name: str, data: bytes) -> None:
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def make(
    root: str, files: dict[str, bytes], deletes: tuple[str, ...] = (), generation: int = 1, mode: int = 0o640
) -> Transaction:
    base = scan(root)
    puts = tuple(Entry(name, mode, sha(data)) for name, data in files.items())
    result = base.changed(puts, deletes).hash
    return Transaction(1, "node-a", generation, base.hash, result, puts, deletes, {sha(d): d for d in files.values()})


def kept_files(state: str) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(os.path.join(state, "kept")):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.relpath(os.path.join(folder, name), os.path.join(state, "kept"))] = file.read()
    return found


def test_a_commit_makes_exactly_the_announced_manifest(place: tuple[str, str]) -> None:
    root, state = place
    write(root, "old.conf", b"old")
    write(root, "gone/deep.conf", b"deep")
    txn = make(root, {"old.conf": b"new", "sub/x.conf": b"x"}, ("gone/deep.conf",))
    report = Committer(root, state).commit(txn, EMPTY)
    assert report.failed == {}
    assert scan(root).hash == txn.result
    assert not os.path.exists(os.path.join(root, "gone")), "an emptied directory goes"
    assert os.stat(os.path.join(root, "sub/x.conf")).st_mode & 0o777 == 0o640


@pytest.mark.parametrize("mask", [0o177, 0o000, 0o777])
def test_modes_do_not_depend_on_the_umask(place: tuple[str, str], mask: int) -> None:
    root, state = place
    old = os.umask(mask)
    try:
        committer = Committer(root, state)
        committer.commit(make(root, {"d/x.conf": b"x"}, mode=0o644), EMPTY)
        committer.settle()
    finally:
        os.umask(old)
    assert os.stat(os.path.join(root, "d/x.conf")).st_mode & 0o777 == 0o644
    assert os.stat(os.path.join(root, "d")).st_mode & 0o777 == 0o755
    assert os.stat(os.path.join(state, "journal")).st_mode & 0o077 == 0


def test_what_is_replaced_or_deleted_is_kept_with_its_reason(place: tuple[str, str]) -> None:
    root, state = place
    write(root, "agreed.conf", b"agreed")
    write(root, "local.conf", b"local edit")
    agreed = Manifest.of([Entry("agreed.conf", 0o644, sha(b"agreed"))])
    committer = Committer(root, state)
    report = committer.commit(make(root, {"agreed.conf": b"2"}, ("local.conf",), generation=7), agreed)
    assert {k.path: (k.reason, k.divergence) for k in report.kept} == {
        "agreed.conf": ("replaced", False),
        "local.conf": ("deleted", True),
    }
    committer.settle()
    kept = kept_files(state)
    assert kept["1.7/agreed.conf"] == b"agreed"
    assert kept["1.7/local.conf"] == b"local edit"


@pytest.mark.parametrize("path", ["put.conf", "deleted.conf", "equal.conf"])
def test_what_is_written_while_it_is_replaced_is_kept(place: tuple[str, str], path: str) -> None:
    root, state = place
    for name in ("put.conf", "deleted.conf", "equal.conf"):
        write(root, name, b"agreed")
    agreed = Manifest.of([Entry(name, 0o644, sha(b"agreed")) for name in ("put.conf", "deleted.conf", "equal.conf")])
    committer = Committer(root, state)
    append = committer.journal.append

    def append_late(record: dict[str, Any]) -> None:
        append(record)
        write(root, path, b"of the last moment")

    committer.journal.append = append_late  # type: ignore[method-assign]
    report = committer.commit(make(root, {"put.conf": b"2", "equal.conf": b"agreed"}, ("deleted.conf",)), agreed)
    assert [(k.path, k.content) for k in report.kept if k.divergence] == [(path, b"of the last moment")]
    committer.settle()
    assert b"of the last moment" in kept_files(state).values()


def test_symbolic_links_are_neither_followed_nor_left_in_the_way(place: tuple[str, str], tmp_path: os.PathLike[str]) -> None:
    root, state = place
    outside = os.path.join(tmp_path, "outside")
    os.mkdir(outside)
    os.symlink(outside, os.path.join(root, "dir"))
    write(outside, "victim.conf", b"untouched")
    os.symlink(os.path.join(outside, "victim.conf"), os.path.join(root, "x.conf"))
    report = Committer(root, state).commit(make(root, {"dir/victim.conf": b"evil", "x.conf": b"mine"}), EMPTY)
    assert "dir/victim.conf" in report.failed
    with open(os.path.join(outside, "victim.conf"), "rb") as file:
        assert file.read() == b"untouched"
    assert not os.path.islink(os.path.join(root, "x.conf"))


def test_a_staged_content_with_another_digest_is_refused_before_anything_is_touched(place: tuple[str, str]) -> None:
    root, state = place
    write(root, "x.conf", b"old")
    before = scan(root)
    txn = make(root, {"x.conf": b"new"})
    staged = Transaction(**{**{f: getattr(txn, f) for f in txn.__dataclass_fields__}, "contents": {}, "staging": "0" * 16})
    os.mkdir(os.path.join(state, "staging", "0" * 16))
    with pytest.raises(BadTransaction, match="not staged"):
        Committer(root, state).commit(staged, EMPTY)
    write(os.path.join(state, "staging", "0" * 16), sha(b"new"), b"other")
    with pytest.raises(BadTransaction, match="another digest"):
        Committer(root, state).commit(staged, EMPTY)
    os.unlink(os.path.join(state, "staging", "0" * 16, sha(b"new")))
    os.mkfifo(os.path.join(state, "staging", "0" * 16, sha(b"new")))
    with pytest.raises(BadTransaction, match="not a regular file"):
        Committer(root, state).commit(staged, EMPTY)
    assert scan(root) == before


def test_a_full_disk_refuses_before_anything_is_touched(place: tuple[str, str]) -> None:
    """Hazard 31, on a real file system that is full.

    Fault: registry or state lie on a disk without room for the change.
    Answer: refused before anything is touched.
    Bound: all or nothing.
    """
    root, state = place
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", root], check=True)
    try:
        write(root, "x.conf", b"old")
        with open(os.path.join(root, "filler"), "wb") as file:
            file.write(b"x" * (5 * 1024 * 1024 + 500_000))
        with pytest.raises(NoSpace):
            Committer(root, state).commit(make(root, {"x.conf": b"new"}), EMPTY)
        with open(os.path.join(root, "x.conf"), "rb") as file:
            assert file.read() == b"old"
    finally:
        subprocess.run(["umount", root], check=True)


def test_registry_and_state_on_different_file_systems_work_too(place: tuple[str, str]) -> None:
    root, state = place
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", root], check=True)
    try:
        write(root, "x.conf", b"old")
        txn = make(root, {"x.conf": b"new", "y.conf": b"y"})
        Committer(root, state).commit(txn, EMPTY)
        assert scan(root).hash == txn.result
        assert sorted(os.listdir(root)) == ["x.conf", "y.conf"], "no file in the making is left"
    finally:
        subprocess.run(["umount", root], check=True)


SYSTEM_CALLS = ["open", "write", "pwrite", "fdatasync", "fsync", "rename", "unlink", "mkdir", "rmdir", "fchmod", "close"]


def commit_in_child(root: str, state: str, point: int, at_point: Callable[[str, tuple[Any, ...]], None]) -> int:
    """Commits in a child process that calls ``at_point`` (name, arguments) before every system call from ``point`` on.

    Returns how it ended: 0 done, 3 refused, 4 decided with files that could not be written yet, 5 done without a
    checkpoint.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = point

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*words: Any, **more: Any) -> Any:
            nonlocal left
            if left <= 0:
                at_point(name, words)
            left -= 1
            return call(*words, **more)

        return wrapped

    try:
        txn = make(root, {"a.conf": b"A2", "sub/new.conf": b"N", "c.conf": b"C2"}, ("b.conf",))
        for place, name in (*((os, name) for name in SYSTEM_CALLS), (libc, "renameat2")):
            setattr(place, name, counted(name, getattr(place, name)))
        committer = Committer(root, state)
        if committer.commit(txn, EMPTY).failed:
            os._exit(4)
        with contextlib.suppress(OSError):
            committer.settle()
            os._exit(0)
        os._exit(5)
    except (OSError, NoSpace):
        os._exit(3)
    finally:
        os._exit(1)


def die(_name: str, _words: tuple[Any, ...]) -> None:
    """The end of the process, without any clean-up."""
    os._exit(9)


ALLOCATING = ("write", "pwrite", "mkdir", "rename", "fsync", "fdatasync")


def fill_up(name: str, words: tuple[Any, ...]) -> None:
    """What a system call that needs room says on a full disk."""
    if name in ALLOCATING or (name == "open" and words[1] & os.O_CREAT):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def prepare_place(tmp_path: os.PathLike[str], point: int) -> tuple[str, str]:
    """A registry with three confs, and a state directory."""
    root, state = os.path.join(tmp_path, f"r{point}"), os.path.join(tmp_path, f"s{point}")
    os.mkdir(root)
    Store(state).prepare()
    for name, data in (("a.conf", b"A1"), ("b.conf", b"B1"), ("c.conf", b"C1")):
        write(root, name, data)
    return root, state


def test_a_disk_that_fills_up_at_any_system_call_leaves_the_old_or_leads_to_the_new(tmp_path: os.PathLike[str]) -> None:
    """Hazard 31: disk full at each step of a commit.

    Fault: from each system call of a commit on, one after the other, every further one fails with ENOSPC.
    Answer: refused with the old set untouched, or decided and finished as soon as there is room; the same change again
    succeeds.
    Bound: all or nothing.
    """
    ends = set()
    for point in itertools.count():
        root, state = prepare_place(tmp_path, point)
        old = scan(root)
        txn = make(root, {"a.conf": b"A2", "sub/new.conf": b"N", "c.conf": b"C2"}, ("b.conf",))
        end = commit_in_child(root, state, point, fill_up)
        ends.add(end)
        assert end in (0, 3, 4, 5)
        committer = Committer(root, state)
        _, report = committer.recover()
        committer.settle()
        sweep_temporaries(root)
        assert not report.failed
        now = scan(root)
        assert now.hash in (old.hash, txn.result), f"full from call {point} on left a mixture"
        assert now.hash == txn.result or end == 3, f"full from call {point} on: it was decided, and is not in force"
        if now.hash == old.hash:
            committer.commit(txn, EMPTY)
            assert scan(root).hash == txn.result
        if end == 0:
            break
    assert ends == {0, 3, 4, 5}


def test_a_crash_at_any_system_call_leaves_the_old_or_leads_to_the_new(tmp_path: os.PathLike[str]) -> None:
    """Hazard 37: SIGKILL swept over every step of a commit.

    Fault: the receiver is killed at each system call of a commit, one after the other.
    Answer: the next start rolls forward what the journal has decided; it is the old set or the new one, and what was
    replaced is kept.
    Bound: all or nothing.
    """
    outcomes = set()
    for point in itertools.count():
        root, state = prepare_place(tmp_path, point)
        old = scan(root)
        txn = make(root, {"a.conf": b"A2", "sub/new.conf": b"N", "c.conf": b"C2"}, ("b.conf",))
        status = commit_in_child(root, state, point, die)
        assert status in (0, 9)
        sweep_temporaries(root)
        committer = Committer(root, state)
        recovered, report = committer.recover()
        committer.settle()
        assert not report.failed
        now = scan(root)
        assert now.hash in (old.hash, txn.result), f"crash point {point} left a mixture"
        assert bool(recovered) == (now.hash == txn.result), f"crash point {point}: journal and registry disagree"
        if now.hash == txn.result:
            assert {b"A1", b"B1", b"C1"} <= set(kept_files(state).values()), f"crash point {point} lost a content"
        outcomes.add(now.hash == txn.result)
        if status == 0:
            break
    assert point > 20, "the sweep did not reach into the commit"
    assert outcomes == {True, False}


def test_a_torn_or_stale_journal_record_is_not_applied(place: tuple[str, str]) -> None:
    root, state = place
    committer = Committer(root, state)
    for number in range(3):
        committer.commit(make(root, {"x.conf": b"%d" % number}, generation=number), EMPTY)
    committer.settle()
    committer.journal.clear()
    committer.commit(make(root, {"x.conf": b"9"}, generation=9), EMPTY)
    committer.journal.close()
    again = Committer(root, state)
    assert [t.generation for t in again.recover()[0]] == [9], "records of an older round came back"
    path = os.path.join(state, "journal")
    with open(path, "r+b") as file:
        file.seek(120)
        file.write(b"\xff")
    again.journal.close()
    assert Committer(root, state).recover()[0] == []


def test_a_journal_that_outgrew_its_first_size_is_read_whole(place: tuple[str, str]) -> None:
    root, state = place
    committer = Committer(root, state)
    big = {f"f{n}.conf": os.urandom(700_000) for n in range(8)}
    for number, (name, data) in enumerate(big.items()):
        committer.commit(make(root, {name: data}, generation=number), EMPTY)
    committer.journal.close()
    assert len(Committer(root, state).recover()[0]) == 8


def test_kept_generations_are_pruned_but_never_a_divergence(place: tuple[str, str]) -> None:
    root, state = place
    write(root, "x.conf", b"local")
    committer = Committer(root, state)
    agreed = EMPTY
    for number in range(6):
        txn = make(root, {"x.conf": b"%d" % number}, generation=number)
        committer.commit(txn, agreed)
        agreed = agreed.changed(txn.puts)
    committer.settle()
    prune_kept(state, 2)
    assert sorted(os.listdir(os.path.join(state, "kept"))) == ["1.0", "1.4", "1.5"]


def test_an_unreadable_part_makes_the_whole_registry_unavailable(place: tuple[str, str]) -> None:
    root, _ = place
    with pytest.raises(RegistryUnavailable):
        scan_registry(root + "-not-there", EMPTY, {})


def test_a_roll_forward_leaves_a_later_edit_alone_and_repairs_what_a_power_failure_emptied(place: tuple[str, str]) -> None:
    root, state = place
    write(root, "edited.conf", b"1")
    write(root, "torn.conf", b"1")
    committer = Committer(root, state)
    for number in (2, 3):
        text = b"%d" % number
        committer.commit(make(root, {"edited.conf": text, "torn.conf": text, "done.conf": text}, generation=number), EMPTY)
    committer.journal.close()
    write(root, "edited.conf", b"later edit")
    write(root, "torn.conf", b"")
    done, report = Committer(root, state).recover()
    assert len(done) == 2
    assert "edited.conf" in report.skipped and "torn.conf" not in report.skipped
    contents = {}
    for name in ("edited.conf", "torn.conf", "done.conf"):
        with open(os.path.join(root, name), "rb") as file:
            contents[name] = file.read()
    assert contents == {"edited.conf": b"later edit", "torn.conf": b"3", "done.conf": b"3"}
