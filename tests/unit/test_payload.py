"""Payload: what may be named, what a list may hold, and plans that are safe wherever they are cut off."""

from __future__ import annotations

import dataclasses
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.payload_list import BadListing, Kind, Listing, PayloadEntry, decode_listing, judge_listing
from ha_agent.core.payload_plan import Act, DeleteLimits, Move, PayloadPlan, Running, find_held, find_in_use, plan_payload
from ha_agent.core.payload_rules import Limits, PayloadRules, find_fault
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings import check_settings

RULES = PayloadRules(("/opt/app",), ("*.log",))
SHA = {letter: letter * 64 for letter in "0123456789abcdef"}


def folder(path: str, mode: int = 0o755) -> PayloadEntry:
    return PayloadEntry(path, Kind.DIR, mode, "root", "root")


def plain(path: str, letter: str, mode: int = 0o644, size: int = 1) -> PayloadEntry:
    return PayloadEntry(path, Kind.FILE, mode, "app", "app", SHA[letter], size)


def link(path: str, target: str) -> PayloadEntry:
    return PayloadEntry(path, Kind.LINK, 0o777, "root", "root", target)


# ---- what may be named --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        *("/", "/*", "/etc", "/etc/*", "/usr", "/usr/bin", "/usr/*", "/proc", "/proc/1", "/sys/x", "/dev/null", "/run/app"),
        *("/etc/ssh/sshd_config", "/root/.ssh", "/home/alice/.ssh/authorized_keys", "/opt/app/.ssh", "/home", "/home/*"),
        *("/etc/profile.d/x.sh", "/etc/logrotate.d", "/etc/udev/rules.d", "/etc/rc.local", "/root/.bashrc"),
        *("/etc/shadow", "/etc/sudoers.d/x", "/etc/cron.d/x", "/etc/supervisor/conf.d", "/etc/keepalived/keepalived.conf"),
        *("/var/lib/ha-agent/staging", "/etc/ha-agent/agent.toml", "/e*c/ssh", "/opt/../etc", "opt/app", "/opt//app"),
        *("/opt/app/", "/srv/registry", "/srv/registry/x.conf", "/srv", "/etc/s?adow", "/lib/systemd/system/x.service"),
    ],
)
def test_places_of_the_machine_and_of_the_pair_are_never_payload(pattern: str) -> None:
    assert find_fault(pattern, ("/srv/registry",)) is not None


@pytest.mark.parametrize(
    "pattern",
    [
        "/opt",
        "/opt/app",
        "/etc/app",
        "/usr/local/bin/gateway",
        "/srv/releases-*",
        "/home/app/releases",
        "/var/lib/app",
        "/usr/local/lib/app",
    ],
)
def test_files_of_programs_may_be_payload(pattern: str) -> None:
    assert find_fault(pattern, ("/srv/registry",)) is None


def test_all_that_is_wrong_with_a_file_is_told_at_once() -> None:
    raw = {
        "node": {"name": "a", "address": "192.0.2.1"},
        "peer": {"name": "b", "address": "192.0.2.2"},
        "vrrp": {"vip": "192.0.2.10/24"},
        "payload": {"paths": ["/etc", "/opt/app", "x"], "conf_files_below": ["/"], "exclude": ["a/b"]},
    }
    with pytest.raises(SettingsError) as refused:
        check_settings(raw)
    assert [(p.key, p.found) for p in refused.value.problems] == [
        ("payload.paths", "'/etc'"),
        ("payload.paths", "'x'"),
        ("payload.conf_files_below", "'/'"),
        ("payload.exclude", "'a/b'"),
    ]


@pytest.mark.parametrize(
    ("path", "held"),
    [
        ("/opt/app", True),
        ("/opt/app/bin/x", True),
        ("/opt/app2", False),
        ("/opt", False),
        ("/opt/app/x.log", False),
        ("/opt/app/a.log/b", False),
        ("/opt/app/.ssh/x", False),
        ("/opt/app/.ha-agent-payload-1", False),
    ],
)
def test_a_pattern_covers_what_it_matches_and_all_below(path: str, held: bool) -> None:
    assert RULES.may_hold(path) is held


# ---- lists ----------------------------------------------------------------------------------------------------------

TREE = [folder("/opt/app"), plain("/opt/app/x", "a"), link("/opt/app/current", "v1"), folder("/opt/app/v1")]


def test_a_list_travels_as_it_is() -> None:
    listing = Listing(TREE, ["/opt/app/secret"])
    read = decode_listing(listing.encode())
    assert list(read) == list(listing)
    assert read.hash == listing.hash
    assert read.left_out == {"/opt/app/secret"}


def test_a_touched_file_is_the_same() -> None:
    touched = [dataclasses.replace(e, mtime_ns=7) for e in TREE]
    assert Listing(touched).hash == Listing(TREE).hash


@given(st.text(max_size=200))
def test_any_text_that_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(BadListing):
        decode_listing(text)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (plain("/etc/shadow", "a"), "not below payload.paths"),
        (plain("/opt/app/x.log", "a"), "excluded"),
        (plain("/opt/app/x", "a", mode=0o4755), "setuid"),
        (plain("/opt/app/x", "a", size=2 << 30), "max_file_bytes"),
        (plain("/opt/app/no/x", "a"), "no directory"),
    ],
)
def test_a_list_with_what_this_node_does_not_take_is_refused(entry: PayloadEntry, why: str) -> None:
    assert why in str(judge_listing(Listing([folder("/opt/app"), entry]), RULES))


@pytest.mark.parametrize("path", ["opt", "/", "/opt/../etc", "/opt//x", "/opt/x/", "//opt", "/a\0b"])
def test_a_list_with_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(BadListing):
        decode_listing(Listing([plain(path, "a")]).encode())


def test_nothing_lies_behind_a_link() -> None:
    listing = Listing([folder("/opt/app"), link("/opt/app/l", "/etc"), plain("/opt/app/l/shadow", "a")])
    assert "no directory" in str(judge_listing(listing, RULES))


def test_limits_of_the_whole_are_kept() -> None:
    small = PayloadRules(("/opt/app",), limits=Limits(10, 15, 3))
    assert "max_total_bytes" in str(
        judge_listing(
            Listing([folder("/opt/app"), plain("/opt/app/a", "a", size=9), plain("/opt/app/b", "b", size=9)]), small
        )
    )
    assert "max_entries" in str(judge_listing(Listing(TREE), small))


# ---- plans ----------------------------------------------------------------------------------------------------------


def acts(plan: PayloadPlan) -> list[tuple[Act, str]]:
    return [(move.act, move.path) for move in plan.moves]


def test_a_deployed_version_appears_whole_and_its_link_moves_before_the_old_one_goes() -> None:
    old = [folder("/opt/app"), folder("/opt/app/v1"), plain("/opt/app/v1/bin", "1"), link("/opt/app/current", "v1")]
    new = [folder("/opt/app"), folder("/opt/app/v2"), plain("/opt/app/v2/bin", "2"), link("/opt/app/current", "v2")]
    plan = plan_payload(Listing(new), Listing(old), {e.path for e in old})
    assert acts(plan) == [
        (Act.TREE, "/opt/app/v2"),
        (Act.LINK, "/opt/app/current"),
        (Act.DELETE, "/opt/app/v1/bin"),
        (Act.REMOVE, "/opt/app/v1"),
    ]
    assert plan.wants == {SHA["2"]: 1}


def test_what_was_never_agreed_on_is_not_deleted() -> None:
    old = [*TREE, plain("/opt/app/data", "d")]
    plan = plan_payload(Listing(TREE), Listing(old), {e.path for e in TREE})
    assert plan.is_done
    assert plan.foreign == ("/opt/app/data",)


def test_what_the_peer_is_silent_about_stays() -> None:
    plan = plan_payload(Listing([folder("/opt/app")], ["/opt/app/v1"]), Listing(TREE), {"/opt/app/v1", "/opt/app/x"})
    assert acts(plan) == [(Act.DELETE, "/opt/app/x")]


@pytest.mark.parametrize("scope", [PayloadRules(("/opt/other",)), PayloadRules(("/opt/app",), ("x",))])
def test_what_the_active_node_names_no_more_or_excludes_stays(scope: PayloadRules) -> None:
    wanted = decode_listing(Listing([folder("/opt/app")] if scope.exclude else [], (), scope).encode())
    plan = plan_payload(wanted, Listing([folder("/opt/app"), plain("/opt/app/x", "a")]), {"/opt/app", "/opt/app/x"})
    assert plan.is_done


def test_a_directory_makes_room_for_nothing_by_itself() -> None:
    plan = plan_payload(Listing([folder("/opt/app"), link("/opt/app/v1", "v2")]), Listing(TREE), ())
    assert plan.blocked == ("/opt/app/v1",)
    assert not plan.moves


def test_a_content_that_is_here_under_another_name_does_not_travel() -> None:
    plan = plan_payload(Listing([*TREE, plain("/opt/app/y", "a")]), Listing(TREE), ())
    assert acts(plan) == [(Act.FILE, "/opt/app/y")]
    assert plan.wants == {}


@pytest.mark.parametrize(("count", "whole", "held"), [(2, 2, False), (3, 6, False), (4, 6, True), (3, 3, True)])
def test_deletions_of_most_files_of_a_root_are_held(count: int, whole: int, held: bool) -> None:
    files = [plain(f"/opt/app/{n}", "a") for n in range(whole)]
    here = Listing([folder("/opt/app"), *files])
    plan = plan_payload(Listing([folder("/opt/app"), *files[count:]]), here, {e.path for e in here})
    assert (find_held(plan, here, RULES, DeleteLimits()) is not None) is held


@pytest.mark.parametrize(
    ("process", "used"),
    [
        (Running(7, "x", "/opt/app/x", "/"), True),
        (Running(7, "python3", "/usr/bin/python3", "/", ("/opt/app/x",)), True),
        (Running(7, "x", "/usr/bin/x", "/opt/app/v1/sub"), True),
        (Running(7, "x", "/opt/app/y", "/opt/app"), False),
    ],
)
def test_what_runs_from_a_file_that_would_be_replaced_is_found(process: Running, used: bool) -> None:
    here = Listing([*TREE, folder("/opt/app/v1/sub")])
    new = Listing([folder("/opt/app"), plain("/opt/app/x", "b"), link("/opt/app/current", "v2")])
    plan = plan_payload(new, here, {e.path for e in here})
    assert (find_in_use(plan, [process]) is not None) is used


NAMES = st.sampled_from(["a", "b", "v1"])


@st.composite
def trees(draw: st.DrawFn) -> dict[str, PayloadEntry]:
    """A directory with what may lie in it, two levels deep."""
    found = {"/opt/app": folder("/opt/app", draw(st.sampled_from([0o755, 0o750])))}
    for name in draw(st.sets(NAMES)):
        path = f"/opt/app/{name}"
        kind = draw(st.sampled_from(Kind))
        if kind is Kind.DIR:
            found[path] = folder(path)
            for inner in draw(st.sets(NAMES)):
                below = f"{path}/{inner}"
                found[below] = draw(st.sampled_from([plain(below, "a"), plain(below, "b"), link(below, "x"), folder(below)]))
        else:
            found[path] = plain(path, draw(st.sampled_from("ab"))) if kind is Kind.FILE else link(path, draw(NAMES))
    return found


def apply(state: dict[str, PayloadEntry], move: Move, wanted: dict[str, PayloadEntry]) -> dict[str, PayloadEntry]:
    """What a step leaves, by its meaning alone."""
    new = dict(state)
    if move.act is Act.TREE:
        new.update({p: e for p, e in wanted.items() if p == move.path or p.startswith(move.path + "/")})
    elif move.act is Act.DELETE:
        del new[move.path]
    elif move.act is Act.REMOVE:
        if not any(posixpath.dirname(path) == move.path for path in new):
            del new[move.path]
    else:
        new[move.path] = wanted[move.path]
    return new


@given(trees(), trees(), st.data())
def test_wherever_a_plan_ends_all_is_old_or_new_and_the_next_one_finishes(
    old: dict[str, PayloadEntry], new: dict[str, PayloadEntry], data: st.DataObject
) -> None:
    agreed = data.draw(st.sets(st.sampled_from(sorted(old)))) if data.draw(st.booleans()) else set(old)
    wanted = Listing(new.values())
    plan = plan_payload(wanted, Listing(old.values()), agreed)
    state = dict(old)
    for done in range(len(plan.moves) + 1):
        for path in old.keys() | new.keys():
            assert state.get(path) in (old.get(path), new.get(path))
        put = [m for m in plan.moves if m.act < Act.LINK]
        if any(m.act is Act.LINK for m in plan.moves[:done]):
            assert all(state.get(m.path) == new[m.path] for m in put), "a link moved before what it may lead to was there"
        if any(old.get(path) and state.get(path) is None for path in old):
            moves = [m for m in plan.moves if m.act < Act.DELETE]
            assert all(state.get(m.path) == new[m.path] for m in moves), "something went before all the rest had come"
        assert all(posixpath.dirname(p) in state or p == "/opt/app" for p in state), "something lies in no directory"
        again = plan_payload(wanted, Listing(state.values()), agreed)
        end = dict(state)
        for move in again.moves:
            end = apply(end, move, new)
        if not again.blocked:
            assert {p: e for p, e in end.items() if p in new} == new
            assert all(p in new or p not in agreed or any(q.startswith(p + "/") for q in end) for p in end)
            assert not plan_payload(wanted, Listing(end.values()), agreed & end.keys() - again_kept(end, new)).moves
        if done < len(plan.moves):
            state = apply(state, plan.moves[done], new)


def again_kept(end: dict[str, PayloadEntry], new: dict[str, PayloadEntry]) -> set[str]:
    """Directories that stay because something of this node's own lies in them."""
    return {p for p in end if p not in new}
