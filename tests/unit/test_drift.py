"""What differs of two nodes' payloads, in words: a table of differences, and what holds of any two."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.drift import Drift, count_compared, find_drifts, programs_of, say_compared
from ha_agent.core.payload import Kind, Mark, Named, Payload, ProgramPayload, UserMark, payload_message, read_payload
from ha_agent.core.payload_words import Part

GW = "/usr/local/bin/gateway"
FILE = Mark(Kind.FILE, "d1", 10, 100, 1000.0, 0o755, "root")


def node(
    marks: dict[str, Mark] | None = None,
    files: tuple[Named, ...] = (Named(Part.BINARY, "gateway", GW),),
    users: dict[str, UserMark] | None = None,
    program: str = "gateway",
    **more: object,
) -> Payload:
    """What a node tells that has one program."""
    one = ProgramPayload("c1", files, tuple(users or ()))
    return Payload({program: replace(one, **more)}, marks if marks is not None else {GW: FILE}, users or {})  # type: ignore[arg-type]


def said(own: Payload, peer: Payload, *ignore: str) -> list[str]:
    """What would be told of node-a (own) and node-b."""
    found = find_drifts(replace(own, ignore=ignore), peer, "node-a", "node-b")
    assert found == find_drifts(own, replace(peer, ignore=ignore), "node-a", "node-b")
    return [drift.say("node-b", "node-a") for drift in found]


def argument(path: str) -> tuple[Named, ...]:
    return (Named(Part.ARGUMENT, path, path),)


def test_two_nodes_with_the_same_have_no_drift() -> None:
    assert said(node(), node()) == [] == said(Payload(), node())
    assert count_compared(node(), node()) == (1, 1)
    assert say_compared(1, 3) == "the same on both nodes: 3 files of 1 program"


def test_another_build_is_told_with_where_it_changed_last() -> None:
    own = node({GW: replace(FILE, digest="d2", changed=2000.0)})
    assert said(own, node()) == [f"node-b would start another build of gateway: {GW} differs"]
    (drift,) = find_drifts(own, node(), "node-a", "node-b")
    assert drift.changed is not None and (drift.changed.changed_on, drift.changed.changed_at) == ("node-a", 2000.0)


@pytest.mark.parametrize(
    ("own", "peer", "expected"),
    [
        ({"/c": FILE}, {"/c": replace(FILE, digest="d2")}, "/c differs"),
        ({"/c": FILE}, {"/c": Mark(Kind.MISSING)}, "/c is missing on node-b"),
        ({"/c": FILE}, {}, None),
        ({"/c": FILE}, {"/c": Mark(Kind.UNREAD, problem="x")}, None),
        ({"/c": Mark(Kind.MISSING)}, {"/c": Mark(Kind.MISSING)}, None),
        ({"/c": replace(FILE, digest="")}, {"/c": replace(FILE, digest="", size=11)}, "/c differs in size"),
        (
            {"/c": replace(FILE, digest="")},
            {"/c": replace(FILE, digest="", mtime=5)},
            "/c has another time stamp (it is large, and compared by size and time alone)",
        ),
        ({"/c": FILE}, {"/c": replace(FILE, mtime=5, changed=7.0)}, None),
        ({"/c": FILE}, {"/c": replace(FILE, mode=0o644)}, "/c has mode 0755 on node-a and 0644 on node-b"),
        ({"/c": FILE}, {"/c": replace(FILE, owner="svc")}, "/c belongs to root on node-a and svc on node-b"),
        ({"/c": FILE}, {"/c": Mark(Kind.DIRECTORY)}, "/c is a file on node-a and a directory on node-b"),
    ],
)
def test_a_file_that_a_program_names(own: dict[str, Mark], peer: dict[str, Mark], expected: str | None) -> None:
    found = said(node(own, argument("/c")), node(peer, argument("/c")))
    assert found == ([f"node-b would start gateway otherwise than node-a: {expected}"] if expected else [])


def test_an_argument_that_is_a_file_on_one_node_alone_is_missing_on_the_other_one() -> None:
    own, peer = node({GW: FILE, "/c": FILE}, argument("/c")), node()
    assert said(own, peer) == ["node-b would start gateway otherwise than node-a: /c is missing on node-b"]
    assert said(peer, own) == ["node-b would start gateway otherwise than node-a: /c is missing on node-a"]
    assert said(own, node(is_whole=False)) == []


def test_a_binary_or_a_directory_that_is_missing_is_the_readiness_of_that_node() -> None:
    assert said(node(), node({GW: Mark(Kind.MISSING)})) == []


def test_a_binary_that_is_found_elsewhere_on_the_path_counts_where_it_is_another_one() -> None:
    files = (Named(Part.BINARY, "gateway", "/usr/bin/gateway"),)
    assert said(node(), node({"/usr/bin/gateway": FILE}, files)) == []
    (text,) = said(node(), node({"/usr/bin/gateway": replace(FILE, digest="d2")}, files))
    assert text.endswith(f"of gateway: gateway is {GW} on node-a and /usr/bin/gateway on node-b")


def test_a_version_link_is_named_and_not_what_lies_behind_it() -> None:
    run, conf = "/opt/app/current/run", "/opt/app/current/a.toml"
    files = (Named(Part.BINARY, run, run), *argument(conf), Named(Part.DIRECTORY, "", "/opt/app/current"))

    def side(target: str, digest: str) -> Payload:
        links = (("/opt/app/current", target, 2000.0 if target == "v2" else 5.0),)
        mark = replace(FILE, digest=digest, links=links)
        return node({run: mark, conf: mark, "/opt/app/current": Mark(Kind.DIRECTORY, links=links)}, files)

    assert said(side("v2", "d2"), side("v1", "d1")) == [
        "node-b would start another build of gateway: /opt/app/current points to v2 on node-a and v1 on node-b"
    ]
    (drift,) = find_drifts(side("v2", "d2"), side("v1", "d1"), "node-a", "node-b")
    assert drift.changed is not None and (drift.changed.changed_on, drift.changed.changed_at) == ("node-a", 2000.0)
    plain = node({run: FILE, conf: FILE, "/opt/app/current": Mark(Kind.DIRECTORY)}, files)
    assert said(side("v2", "d1"), plain) == [
        "node-b would start another build of gateway: /opt/app/current points to v2 on node-a and is no link on node-b"
    ]


def test_links_to_the_same_content_are_no_drift_of_a_file() -> None:
    own = node({GW: replace(FILE, links=((GW, "gateway-2", 1.0),))})
    assert said(own, node({GW: replace(FILE, links=((GW, "/opt/gateway", 2.0),))})) == []


def test_users_and_groups() -> None:
    def with_user(uid: int, **groups: int) -> Payload:
        return node(users={"svc": UserMark(uid, groups)})

    assert said(with_user(1001, svc=1001), with_user(1001, svc=1001)) == []
    assert said(with_user(1001, svc=7), with_user(1002, svc=8, video=44)) == [
        "node-b would start gateway otherwise than node-a: its user svc has uid 1001 on node-a and 1002 on node-b; "
        "its group svc has gid 7 on node-a and 8 on node-b; its user svc is in group video on node-b and not on node-a"
    ]
    assert said(with_user(1001), node()) == [
        "node-b would start gateway otherwise than node-a: its user is svc on node-a and not on node-b"
    ]


def test_programs_with_the_same_reasons_are_told_together_and_only_so_many_are_named() -> None:
    def many(digest: str) -> Payload:
        one = ProgramPayload("c", (Named(Part.BINARY, "python3", GW),))
        return Payload({f"p{n}": one for n in range(5)}, {GW: replace(FILE, digest=digest)})

    (drift,) = find_drifts(many("1"), many("2"), "node-a", "node-b")
    assert drift.subject == "p0, p1, p2 and 2 more" and programs_of([drift])["p4"] is drift


def test_more_than_three_reasons_are_counted() -> None:
    files = tuple(Named(Part.ARGUMENT, f"/f{n}", f"/f{n}") for n in range(5))
    own = node({f"/f{n}": FILE for n in range(5)}, files)
    (text,) = said(own, node({f"/f{n}": replace(FILE, digest="x") for n in range(5)}, files))
    assert text.endswith("/f0 differs; /f1 differs; /f2 differs; and 2 more")


def test_a_program_whose_conf_is_not_the_same_yet_is_not_compared() -> None:
    own = node({GW: replace(FILE, digest="d2")}, conf="c2")
    assert said(own, node()) == [] and count_compared(own, node()) == (0, 0)


def test_what_differs_on_purpose_is_ignored() -> None:
    own = node({"/etc/app/node.toml": replace(FILE, digest="d2")}, argument("/etc/app/node.toml"))
    peer = node({"/etc/app/node.toml": FILE}, argument("/etc/app/node.toml"))
    assert len(said(own, peer)) == 1 and said(own, peer, "/etc/app/*.toml") == []


PATHS = ("/opt/app/current/run", "/opt/app/x", GW)
MARKS = st.builds(
    Mark,
    st.sampled_from(Kind),
    st.sampled_from(["", "d1", "d2"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.floats(0, 3),
    st.sampled_from([0o644, 0o755]),
    st.sampled_from(["root", "svc"]),
    st.sampled_from([(), (("/opt/app/current", "v1", 1.5),), (("/opt/app/current", "v2", 0.0),)]),
)
NAMED = st.builds(Named, st.sampled_from(Part), st.sampled_from(["a", "b"]), st.sampled_from(PATHS))
PROGRAMS = st.builds(
    ProgramPayload,
    st.sampled_from(["c1", "c2"]),
    st.lists(NAMED, max_size=4).map(tuple),
    st.lists(st.sampled_from(["svc", "app"]), max_size=2, unique=True).map(tuple),
    st.booleans(),
)
USERS = st.builds(UserMark, st.integers(0, 3), st.dictionaries(st.sampled_from(["svc", "video"]), st.integers(0, 2)))
PAYLOADS = st.builds(
    Payload,
    st.dictionaries(st.sampled_from(["gateway", "web"]), PROGRAMS),
    st.dictionaries(st.sampled_from(PATHS), MARKS),
    st.dictionaries(st.sampled_from(["svc", "app"]), USERS),
    st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@given(PAYLOADS, PAYLOADS)
def test_both_nodes_tell_the_same_in_the_same_words(own: Payload, peer: Payload) -> None:
    here: list[Drift] = find_drifts(own, peer, "node-a", "node-b")
    assert here == find_drifts(peer, own, "node-b", "node-a")
    assert find_drifts(own, own, "node-a", "node-b") == []
    for drift in here:
        assert drift.reasons and set(drift.programs) <= own.programs.keys() & peer.programs.keys()
        assert len(set(drift.reasons)) == len(drift.reasons)


@given(PAYLOADS)
def test_a_payload_comes_over_the_link_as_it_was(payload: Payload) -> None:
    again = read_payload(payload_message(payload))
    assert payload_message(again) == payload_message(payload) and again.hash == payload.hash


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["files", "conf", "uid"]), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["programs", "marks", "users", "remarks", "ignore"]), JSON | st.dictionaries(st.text(), JSON)
    )
)
def test_anything_else_in_its_place_is_refused(raw: dict[str, object]) -> None:
    try:
        read_payload(raw)
    except ValueError:
        return
    assert {"programs", "marks", "users", "remarks", "ignore"} <= raw.keys()
