"""Every promise that a pair was once seen to break, by the name of its rule, and the tests that try to break it again.

A harness of somebody else's did 212 faults to pairs of commit 02aaa60; two more came from reading. Each rule has a test
that fails with that commit's daemon. docs/guarantees.md has the promises themselves.
"""

from __future__ import annotations

import pytest

from tests.places_of_tests import is_test

ADDRESSES = "tests/cluster/test_addresses.py"
ESCAPES = "tests/cluster/test_escapes.py"
EVERY_AWAIT = "tests/unit/test_every_await.py"
HELD_NOW = "tests/cluster/test_held_now.py"
HOSTILE_CONFS = "tests/integration/test_hostile_confs.py"
INOTIFY = "tests/integration/test_inotify.py"
NOTES = "tests/cluster/test_notes.py"
PARTITIONS = "tests/cluster/test_partitions.py"
REACH = "tests/integration/test_reach.py"

LOST_NOTES = f"{NOTES}::test_what_is_lost_of_the_run_directory_is_made_again_and_nothing_moves"

RULES: dict[str, tuple[str, ...]] = {
    # One copy, on one node.
    "a-reload-leaves-no-second-copy": (
        f"{ESCAPES}::test_a_reload_of_supervisord_leaves_no_second_copy",
        f"{ESCAPES}::test_a_reload_that_nobody_tells_of_is_seen_by_the_new_socket",
    ),
    "no-word-beside-a-supervisord-that-lives": (f"{ESCAPES}::test_a_supervisord_that_lost_its_socket_is_no_dead_one",),
    "no-word-without-a-look-at-processes": (
        f"{ESCAPES}::test_a_node_that_lost_every_note_and_its_agent_gives_no_word_over_what_runs",
        f"{ESCAPES}::test_an_agent_that_has_lost_its_notes_releases_what_runs",
        f"{ESCAPES}::test_a_standby_on_which_the_registry_runs_gives_its_word_only_when_that_was_ended",
    ),
    "a-lost-packet-is-no-dead-machine": (
        f"{REACH}::test_half_of_the_packets_lost_either_way_make_no_machine_look_dead",
        f"{PARTITIONS}::test_lost_packets_are_no_dead_machine",
    ),
    "hold-holds-whatever-the-reason": (f"{PARTITIONS}::test_hold_starts_nothing_on_a_dead_peers_behalf_and_says_so",),
    "a-second-copy-by-another-hand-is-told": (
        f"{ESCAPES}::test_what_runs_beside_its_program_is_told_and_ended_by_a_restart_through_the_agent[the shell dies]",
        f"{ESCAPES}::test_what_runs_beside_its_program_is_told_and_ended_by_a_restart_through_the_agent[a plain restart]",
    ),
    "strangers-are-left-alone": (
        f"{ESCAPES}::test_a_strangers_processes_are_left_alone_whatever_their_numbers_and_marks_say",
    ),
    # Somebody is active, and has the VIP.
    "a-lost-report-stops-nothing": (
        f"{LOST_NOTES}[spool emptied]",
        f"{LOST_NOTES}[everything emptied]",
        f"{LOST_NOTES}[reports of the future]",
    ),
    "a-nodes-own-address-stays": (f"{ADDRESSES}::test_a_nodes_own_address_goes_and_comes_back",),
    "a-fenced-node-has-no-vip": (
        f"{NOTES}::test_a_fenced_node_has_no_keepalived_that_could_not_be_told",
        f"{NOTES}::test_a_keepalived_that_cannot_be_told_to_give_up_is_stopped_and_started_again",
    ),
    "a-vip-on-both-nodes-is-told-and-taken-off": (
        f"{ADDRESSES}::test_the_vip_on_both_nodes_is_said_and_taken_off_the_standby",
    ),
    # The agent lives, and can be spoken with.
    "a-broken-link-ends-no-agent": (
        f"{HELD_NOW}::test_an_agent_whose_link_breaks_as_soon_as_it_reads_thousands_of_confs_goes_on",
        f"{HELD_NOW}::test_an_agent_whose_link_breaks_while_it_reads_many_confs_goes_on",
        f"{EVERY_AWAIT}::test_replication_can_be_disturbed_at_every_await",
    ),
    "an-agent-has-its-sockets": (f"{LOST_NOTES}[everything removed]", f"{LOST_NOTES}[sockets removed]"),
    "a-lost-socket-is-named-with-what-helps": (f"{ESCAPES}::test_a_supervisord_that_lost_its_socket_is_no_dead_one",),
    "a-killed-agent-leaves-no-traceback": (
        f"{HOSTILE_CONFS}::test_a_parser_whose_agent_is_killed_ends_without_a_word[in the middle of its question]",
    ),
    # Both registries are one.
    "in-sync-is-what-the-peer-holds": (
        f"{HELD_NOW}::test_sync_does_not_say_in_sync_of_a_standby_that_was_just_edited",
        f"{HELD_NOW}::test_a_standby_that_was_edited_holds_the_active_nodes_confs_again_before_it_is_needed",
    ),
    "a-word-for-deletions-is-for-those-that-are-due": (f"{HELD_NOW}::test_deletions_cannot_be_accepted_ahead_of_time",),
    "a-lost-hint-is-noticed": (f"{INOTIFY}::test_a_queue_that_ran_over_is_noticed_whatever_watchdog_there_is",),
}


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_promise_that_was_broken_has_a_test_that_breaks_it_again(rule: str) -> None:
    assert RULES[rule]
    for place in RULES[rule]:
        assert is_test(place), f"{rule}: {place} is no test any more"


def test_no_rule_was_dropped() -> None:
    assert len(RULES) == 18


@pytest.mark.parametrize(
    ("place", "is_there"),
    [
        (f"{LOST_NOTES}[spool emptied]", True),
        (f"{LOST_NOTES}[spool burnt]", False),
        (f"{NOTES}::test_nothing", False),
        ("tests/unit/test_nothing.py::test_nothing", False),
        (NOTES, False),
    ],
)
def test_what_is_no_test_is_found_out(place: str, is_there: bool) -> None:
    assert is_test(place) is is_there
