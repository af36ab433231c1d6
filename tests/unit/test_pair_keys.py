"""New keys for both agents: cut off at any step, each node still lets the other one's key in, and a further run ends it."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from ha_agent.cli.pair_cmd import OTHERS, check_pair, rotate_keys, why_not_confirmed
from ha_agent.cli.setup_node import SetupFailed
from ha_agent.cli.setup_sides import Ask
from ha_agent.core.setup_plan import MARK, add_peer_key, find_host_key, pin_host_key, trust_also, trusted_keys

ADMIN = "ssh-rsa AAAA admin\n"


class Cut(Exception):
    """The command is ended here."""


class Host:
    """One node: the key in use, the one that is to come, and its authorized_keys."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.key, self.new = f"ssh-ed25519 {name}0", ""
        self.made = 0
        self.authorized = ADMIN

    def ask(self, part: str, request: dict[str, Any]) -> dict[str, Any]:
        assert part == "keys"
        self.world.step()
        answer: dict[str, Any] = getattr(self, request["step"])(request)
        self.world.step()
        return answer

    def look(self, _request: dict[str, Any]) -> dict[str, Any]:
        peer = self.world.other(self)
        return {"name": self.name, "peer": peer.name, "key": self.key, "trusted": trusted_keys(self.authorized)}

    def make(self, _request: dict[str, Any]) -> dict[str, Any]:
        if not self.new:
            self.made += 1
            self.new = f"ssh-ed25519 {self.name}{self.made} ha-agent@{self.name}"
        return {"key": self.new}

    def trust(self, request: dict[str, Any]) -> dict[str, Any]:
        self.authorized = trust_also(self.authorized, request["key"])
        return {}

    def use(self, _request: dict[str, Any]) -> dict[str, Any]:
        self.key = self.new or self.key
        return {}

    def forget(self, request: dict[str, Any]) -> dict[str, Any]:
        self.authorized = add_peer_key(self.authorized, request["key"])
        self.new = ""
        return {}

    def lets_in(self, key: str) -> bool:
        return " ".join(key.split()[:2]) in trusted_keys(self.authorized)

    def __getattr__(self, name: str) -> Any:
        if name != "try":
            raise AttributeError(name)
        return self.attempt

    def attempt(self, request: dict[str, Any]) -> dict[str, Any]:
        key = self.key if request["present"] else self.new
        return {"taken": self.world.other(self).lets_in(key) and not self.world.refuses, "said": "Permission denied"}


class World:
    """Both nodes; ``cut``: after how many steps the command is ended."""

    def __init__(self, cut: int = 10**6) -> None:
        self.cut, self.refuses = cut, False
        self.hosts = {"own": Host("a", self), "peer": Host("b", self)}
        for side, other in OTHERS.items():
            self.hosts[side].authorized = add_peer_key(ADMIN, self.hosts[other].key)

    def other(self, host: Host) -> Host:
        return self.hosts["peer" if host is self.hosts["own"] else "own"]

    def step(self) -> None:
        for host in self.hosts.values():
            assert self.other(host).lets_in(host.key), "the link would be refused"
        self.cut -= 1
        if self.cut < 0:
            raise Cut

    def rotate(self) -> None:
        sides: dict[str, Ask] = {side: host.ask for side, host in self.hosts.items()}
        seen = {side: ask("keys", {"step": "look"}) for side, ask in sides.items()}
        check_pair(seen)
        rotate_keys(sides, seen)

    def check_done(self) -> None:
        for host in self.hosts.values():
            kept = trusted_keys(host.authorized)
            assert kept == [" ".join(self.other(host).key.split()[:2])] and host.authorized.startswith(ADMIN)
            assert not host.key.endswith("0") and host.new == ""


def test_both_keys_are_new_and_the_old_ones_are_let_in_nowhere() -> None:
    world = World()
    world.rotate()
    world.check_done()


@pytest.mark.parametrize("again", [0, 5, 11])
def test_cut_off_after_any_step_and_again_it_is_done(again: int) -> None:
    whole = World()
    whole.rotate()
    for cut in range(10**6 - whole.cut):
        world = World(cut)
        with pytest.raises(Cut):
            world.rotate()
        if again:
            world.cut = again
            with pytest.raises(Cut):
                world.rotate()
        world.cut = 10**6
        world.rotate()
        world.check_done()


def test_a_new_key_that_is_not_taken_is_not_used() -> None:
    world = World()
    world.refuses = True
    with pytest.raises(SetupFailed, match="does not take the new key"):
        world.rotate()
    assert [host.key for host in world.hosts.values()] == ["ssh-ed25519 a0", "ssh-ed25519 b0"]
    world.refuses = False
    world.rotate()
    world.check_done()


def test_another_machine_and_a_key_that_is_not_let_in_are_refused() -> None:
    world = World()
    seen = {side: host.look({}) for side, host in world.hosts.items()}
    with pytest.raises(SetupFailed, match="is that the right machine"):
        check_pair({**seen, "peer": {**seen["peer"], "name": "c"}})
    with pytest.raises(SetupFailed, match="does not let the key of a in"):
        check_pair({**seen, "peer": {**seen["peer"], "trusted": []}})


def test_authorized_keys_keeps_what_is_not_ours() -> None:
    text = f"# mine\nrestrict,{MARK} ssh-ed25519 OLD ha-agent@b\n{ADMIN}"
    both = trust_also(text, "ssh-ed25519 NEW ha-agent@b")
    assert both == text + f"restrict,{MARK} ssh-ed25519 NEW ha-agent@b\n"
    assert trust_also(both, "ssh-ed25519 NEW another comment") == both
    assert trusted_keys(both) == ["ssh-ed25519 OLD", "ssh-ed25519 NEW"]
    assert trust_also(None, "ssh-ed25519 NEW") == f"restrict,{MARK} ssh-ed25519 NEW\n"


def test_the_pinned_host_key_is_found_under_its_name_alone() -> None:
    text = pin_host_key("node-bb ssh-ed25519 X\nshort\n", "node-b", "ssh-ed25519 KEY comment")
    assert find_host_key(text, "node-b") == "ssh-ed25519 KEY"
    assert find_host_key(text, "node-c") is None and find_host_key(text, "short") is None


def test_a_host_key_needs_its_fingerprint_or_the_whole_word_yes() -> None:
    asked = argparse.Namespace(fingerprint=None, yes=True)
    said = str(why_not_confirmed(asked, "node-b", "SHA256:x", lambda _question: ""))
    assert "--fingerprint SHA256:x" in said, "--yes alone is not enough"
    named = argparse.Namespace(fingerprint="SHA256:x", yes=False)
    assert why_not_confirmed(named, "node-b", "SHA256:x") is None
    assert "is that the right machine" in str(why_not_confirmed(named, "node-b", "SHA256:y"))
    for typed, taken in (("yes", True), ("y", False), ("", False), ("YES", False)):
        found = why_not_confirmed(asked, "node-b", "SHA256:x", lambda _question, typed=typed: typed)  # type: ignore[misc]
        assert (found is None) is taken
