"""Setup's files: cut off at every step, continued, undone. Nothing of what somebody wrote is lost on the way."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest

from ha_agent.adapters.setup_changes import ADOPTING, SetupChanges
from ha_agent.core.setup_plan import FileChange, add_peer_key

KEY = "ssh-ed25519 AAAAC3Nz ha-agent@node-b"


class CutOff(Exception):
    """A kill, a power cut, a full disk."""


class Node:
    """A node's files below a directory, as they were before setup, and what setup makes of them."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / "conf.d").mkdir(parents=True)
        (root / "deploy").mkdir()
        for name, text in (
            ("main.conf", "theirs\n"),
            ("keepalived.conf", "their VIP\n"),
            ("conf.d/old.conf", "[program:old]\n"),
            ("deploy/app.conf", "[program:app]\n"),
            ("authorized_keys", "ssh-rsa AAAA admin\n"),
        ):
            (root / name).write_text(text, encoding="utf-8")
        os.chmod(root / "main.conf", 0o600)
        (root / "conf.d/app.conf").symlink_to("../deploy/app.conf")
        self.before = self.files()

    def files(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file() and not name.startswith(("state/", "aside/")):
                found[name] = f"{path.stat().st_mode & 0o777:o} {path.read_text(encoding='utf-8')}"
        return found

    def changes(self) -> list[FileChange]:
        def change(name: str, new: str | None, *, target: str = "") -> FileChange:
            path = self.root / name
            old = path.read_text(encoding="utf-8") if path.exists() else None
            return FileChange(str(path), old, new, 0o644, target, name.startswith("conf.d/"))

        keys = (self.root / "authorized_keys").read_text(encoding="utf-8")
        link = self.root / "conf.d/app.conf"
        found = [
            change("agent.toml", "ours\n"),
            change("authorized_keys", add_peer_key(keys, KEY)),
            change("conf.d/app.conf", "[program:app]\n", target="../deploy/app.conf" if link.is_symlink() else ""),
            change("conf.d/moved.conf", "[program:moved]\n"),
            change("main.conf", "theirs, and ours\n"),
            change("keepalived.conf", "their VIP, and ours\n"),
        ]
        old = self.root / "conf.d/old.conf"
        if old.exists():
            found += [change("conf.d/old.conf.parked", "[program:old]\n"), change("conf.d/old.conf", None)]
        return found

    def setup(self, step: Callable[[str], None] = lambda what: None) -> SetupChanges:
        return SetupChanges(str(self.root / "state/setup.json"), str(self.root / "aside"), step)

    def leftovers(self) -> list[str]:
        return [name for name in self.files() if "before-ha-agent" in name or "/.ha-agent" in name]


def cut_off_at(number: int) -> Callable[[str], None]:
    left = [number]

    def step(_what: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise CutOff

    return step


def steps_of(work: Callable[[Callable[[str], None]], object]) -> int:
    seen: list[str] = []
    work(seen.append)
    return len(seen)


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Node:
    return Node(tmp_path / "node")


def made(root: pathlib.Path) -> dict[str, str]:
    fresh = Node(root)
    fresh.setup().apply(fresh.changes(), peer_name="node-b", adopting="main.conf")
    return fresh.files()


def test_what_setup_makes_is_undone_to_the_byte_the_mode_and_the_link(node: Node) -> None:
    node.setup().apply(node.changes(), peer_name="node-b", adopting="main.conf")
    after = node.files()
    assert after["main.conf"] == "600 theirs, and ours\n" and not (node.root / "conf.d/app.conf").is_symlink()
    assert "conf.d/old.conf" not in after and after["conf.d/old.conf.parked"] == "644 [program:old]\n"
    assert node.setup().apply(node.changes()) == [], "once is enough"
    assert node.setup().kept(str(node.root / "main.conf")) == b"theirs\n"
    done = node.setup().undo("")
    assert node.files() == node.before and done.aside == () and not os.listdir(node.root / "state")


def test_cut_off_at_any_step_it_continues_and_is_undone(tmp_path: pathlib.Path) -> None:
    wanted = made(tmp_path / "whole")
    first = Node(tmp_path / "count")
    count = steps_of(lambda step: first.setup(step).apply(first.changes(), peer_name="node-b", adopting="main.conf"))
    assert count > 10
    for number in range(count):
        for then in ("continue", "undo"):
            node = Node(tmp_path / f"{then}-{number}")
            with pytest.raises(CutOff):
                node.setup(cut_off_at(number)).apply(node.changes(), peer_name="node-b", adopting="main.conf")
            if then == "continue":
                node.setup().apply(node.changes(), peer_name="node-b", adopting="main.conf")
                assert node.files() == wanted, number
            done = node.setup().undo("node-b")
            unrecorded = not done.restored
            found = {name: text for name, text in node.files().items() if not (unrecorded and "before-ha-agent" in name)}
            assert found == node.before and done.aside == (), (number, then)


def test_an_undo_cut_off_at_any_step_continues_or_is_set_up_again_and_undone(tmp_path: pathlib.Path) -> None:
    first = Node(tmp_path / "count")
    first.setup().apply(first.changes(), peer_name="node-b", adopting="main.conf")
    count = steps_of(lambda step: first.setup(step).undo(""))
    for number in range(count):
        for then in ("undo", "set up"):
            node = Node(tmp_path / f"{then}-{number}")
            node.setup().apply(node.changes(), peer_name="node-b", adopting="main.conf")
            with pytest.raises(CutOff):
                node.setup(cut_off_at(number)).undo("")
            if then == "set up":
                node.setup().apply(node.changes(), peer_name="node-b", adopting="main.conf")
            node.setup().undo("node-b")
            assert node.files() == node.before, (number, then)


def test_what_somebody_has_edited_since_is_put_aside_and_never_deleted(node: Node) -> None:
    node.setup().apply(node.changes(), peer_name="node-b")
    edited = ("agent.toml", "conf.d/moved.conf", "main.conf", "conf.d/app.conf", "conf.d/old.conf.parked")
    for name in edited:
        with open(node.root / name, "a", encoding="utf-8") as file:
            file.write("; edited\n")
    done = node.setup().undo("")
    assert node.files() == node.before
    assert sorted(os.path.basename(path) for path in done.aside) == sorted(os.path.basename(name) for name in edited)
    for path in done.aside:
        assert pathlib.Path(path).read_text(encoding="utf-8").endswith("; edited\n")


def test_two_undos_keep_both_edits(node: Node) -> None:
    for number in (1, 2):
        node.setup().apply(node.changes(), peer_name="node-b")
        (node.root / "conf.d/moved.conf").write_text(f"edit {number}\n", encoding="utf-8")
        node.setup().undo("")
    assert (node.root / "aside/moved.conf").read_text(encoding="utf-8") == "edit 1\n"
    assert (node.root / "aside/moved.conf.1").read_text(encoding="utf-8") == "edit 2\n"


def test_an_unparked_conf_is_the_former_one_again(node: Node) -> None:
    node.setup().apply(node.changes(), peer_name="node-b")
    os.rename(node.root / "conf.d/old.conf.parked", node.root / "conf.d/old.conf")
    assert node.setup().undo("").aside == () and node.files() == node.before


def test_a_word_of_the_record_comes_and_goes_and_no_undo_is_due_for_it_alone(node: Node) -> None:
    node.setup().apply(node.changes(), adopting="main.conf")
    assert node.setup().read()[ADOPTING] == "main.conf"
    node.setup().note(ADOPTING, None)
    assert ADOPTING not in node.setup().read()
