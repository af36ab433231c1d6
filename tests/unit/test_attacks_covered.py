"""Every attack that was tried on a pair, and the test that does it again: none is without one.

The first part worked once; the second never did. SECURITY.md says what each of them must not get.
"""

from __future__ import annotations

import pathlib
import re

import pytest

from tests.faults_doc import read_docstrings
from tests.places_of_tests import is_test

ROOT = pathlib.Path(__file__).parents[2]

HOSTILE_CONFS = "tests/cluster/test_hostile_confs.py"
MEMBERS = "tests/cluster/test_hostile_members.py"
NODE = "tests/unit/test_operations_node.py"
PARSER = "tests/integration/test_hostile_confs.py"
PEER_KEY = "tests/integration/test_peer_key.py"
READERS = "tests/cluster/test_hostile_readers.py"
SENDER = "tests/integration/test_alert_sender.py"
SUPZCLI = "tests/cluster/test_supzcli.py"
WEB = "tests/integration/test_web_attacks.py"

WORKED: dict[str, tuple[str, ...]] = {
    # Members of group ha-agent.
    "root-by-restore": (
        f"{MEMBERS}::test_a_kept_copy_makes_nobody_root",
        f"{SUPZCLI}::test_no_message_to_the_agent_gets_around_the_guard",
        f"{NODE}::test_a_restored_conf_has_the_copys_mode_and_nothing_that_others_may_write",
        f"{HOSTILE_CONFS}::test_confs_that_supervisord_would_read_otherwise_change_nothing_for_the_others",
    ),
    "root-by-withdrawn-conf": (f"{SUPZCLI}::test_what_root_has_withdrawn_is_brought_back_by_root_alone_and_as_it_was",),
    "root-registers-foreign-ini": (
        f"{SUPZCLI}::test_a_folder_can_not_take_over_what_is_not_its_own",
        "tests/unit/test_operations_programs.py::test_a_file_that_another_user_wrote_has_that_users_rights"
        "_unless_root_says_otherwise",
    ),
    "local-program-replaced": (
        "tests/cluster/test_local_names.py::test_a_registration_under_a_local_programs_name_is_refused",
    ),
    "forged-events": (
        f"{SUPZCLI}::test_no_message_to_the_agent_gets_around_the_guard",
        "tests/unit/test_guard.py::test_what_a_program_reads_is_written_by_root_and_by_its_own_user",
        "tests/unit/test_events.py::test_what_is_no_event_is_refused",
    ),
    "forged-history": (
        "tests/cluster/test_alerts.py::test_what_a_member_or_a_program_says_stops_no_alert_and_forges_no_line",
        "tests/unit/test_visible.py::test_an_event_forges_no_line_of_the_history",
    ),
    "endless-fault": (
        f"{MEMBERS}::test_every_fault_has_an_end_from_the_beginning",
        f"{MEMBERS}::test_no_member_overrides_what_the_settings_forbid",
        "tests/unit/test_frames.py::test_what_is_no_number_is_no_frame",
        f"{SUPZCLI}::test_no_message_to_the_agent_gets_around_the_guard",
    ),
    "poisoned-sink": (f"{SENDER}::test_a_text_of_others_neither_stops_a_sink_nor_forges_a_line_in_it",),
    "poisoned-mail": (f"{SENDER}::test_a_text_of_others_forges_no_header_of_a_mail",),
    "kept-destroyed": (
        f"{MEMBERS}::test_a_member_destroys_no_kept_copy_here_or_there",
        f"{NODE}::test_young_copies_are_removed_by_root_of_this_node_alone",
        f"{SUPZCLI}::test_what_root_has_withdrawn_is_brought_back_by_root_alone_and_as_it_was",
    ),
    # What a conf holds, and how it is called.
    "long-name": (f"{HOSTILE_CONFS}::test_a_conf_with_a_long_name_runs_and_keeps_no_other_one_from_running",),
    "name-collision": (f"{HOSTILE_CONFS}::test_two_confs_whose_names_look_alike_both_run",),
    "secret-in-run": (f"{HOSTILE_CONFS}::test_a_conf_that_root_alone_reads_is_shown_to_nobody_below_run",),
    "hidden-section": (
        f"{HOSTILE_CONFS}::test_confs_that_supervisord_would_read_otherwise_change_nothing_for_the_others",
        f"{PARSER}::test_what_supervisord_would_read_otherwise_or_choke_on_is_a_problem_of_that_conf_alone",
    ),
    "parser-memory": (
        f"{PARSER}::test_memory_and_time_that_confs_take_are_bounded_and_the_parser_lives_on",
        "tests/integration/test_oom.py::test_a_child_does_not_inherit_the_agents_score",
    ),
    # Readers, of group ha-agent-read.
    "reader-runs-both": (f"{READERS}::test_a_reader_holds_up_no_release_and_no_takeover",),
    "reader-blocks-replication": (f"{READERS}::test_a_reader_at_the_standby_holds_up_no_acknowledgement",),
    "reader-kills-agent": (f"{READERS}::test_a_readers_frames_keep_no_agent_from_its_work",),
    "reader-memory": (f"{READERS}::test_a_reader_who_reads_no_answer_fills_no_memory",),
    "reader-evicts-operators": (f"{READERS}::test_a_reader_with_as_many_connections_as_he_likes_cuts_nobody_off",),
    "reader-fills-log": (
        f"{READERS}::test_a_reader_fills_no_log",
        "tests/unit/test_visible.py::test_many_lines_of_one_kind_are_counted_and_not_written",
    ),
    "secret-in-problem": (
        "tests/unit/test_settings.py::test_no_message_repeats_the_url_of_a_webhook",
        f"{SENDER}::test_a_url_that_is_none_is_not_repeated",
    ),
    # Somebody in no group.
    "stranger-fences": (
        "tests/cluster/test_escapes.py::test_a_strangers_processes_are_left_alone_whatever_their_numbers_and_marks_say",
    ),
    # Whoever reaches the network, or runs its other end.
    "mail-to-anybody": (f"{SENDER}::test_the_password_goes_to_no_mail_server_that_nobody_vouches_for",),
    "redirected-webhook": (f"{SENDER}::test_a_webhook_that_sends_on_has_not_taken_the_alert",),
    "web-silent": (
        f"{WEB}::test_connections_that_say_half_of_something_take_the_port_from_nobody",
        f"{WEB}::test_a_tls_handshake_that_never_ends_takes_the_port_from_nobody",
    ),
    "web-burst": (f"{WEB}::test_guesses_at_once_are_as_few_as_one_after_another",),
    "web-csrf": (f"{WEB}::test_a_cookie_needs_its_token_whatever_other_header_comes_with_it",),
    "web-streams": (f"{WEB}::test_a_reader_cannot_take_everybodys_live_pages",),
    "web-deep": (f"{WEB}::test_json_that_is_none_or_nested_without_end_is_a_bad_request",),
    "web-far-pair": (f"{WEB}::test_a_far_pair_that_answers_nonsense_is_followed_on",),
    # Whoever has the peer's key, or had it.
    "poisoned-epoch": (f"{PEER_KEY}::test_an_epoch_that_cannot_be_is_learnt_from_nobody_and_outlives_no_key",),
    "undo-revoked-key": ("tests/unit/test_setup_node.py::test_an_undo_brings_no_revoked_key_back",),
}

HELD: dict[str, tuple[str, ...]] = {
    "held-peer-key": (
        f"{PEER_KEY}::test_any_other_command_is_refused",
        f"{PEER_KEY}::test_forwarding_and_a_terminal_are_refused",
        f"{PEER_KEY}::test_rsync_reaches_the_staging_directory_alone",
    ),
    "held-peer-settings": (
        f"{PEER_KEY}::test_no_command_file_or_place_of_agent_toml_is_set_or_seen_with_the_peers_key",
        "tests/unit/test_settings_operations.py::test_what_the_peers_key_must_not_set_is_refused_and_nothing_has_changed",
    ),
    "held-program-ini": (
        "tests/unit/test_program_ini.py::test_a_value_can_not_bring_in_another_key_or_section",
        "tests/unit/test_fuzz.py::test_no_input_of_a_stranger_does_more_than_be_refused",
    ),
    "held-frames": (
        f"{SUPZCLI}::test_who_may_look_only_gets_no_further_by_way_of_the_peer",
        "tests/unit/test_operations_table.py::test_whatever_a_message_says_of_itself_a_reader_changes_nothing",
    ),
    "held-web": (
        "tests/cluster/test_web.py::test_forms_of_others_wrong_tokens_and_guesses_are_refused",
        "tests/unit/test_fuzz.py::test_no_input_of_a_stranger_does_more_than_be_refused",
    ),
}


@pytest.mark.parametrize("attack", sorted(WORKED | HELD))
def test_every_attack_has_a_test_that_does_it(attack: str) -> None:
    places = (WORKED | HELD)[attack]
    assert places
    for place in places:
        assert is_test(place), f"{attack}: {place} is no test any more"


def test_no_attack_was_dropped() -> None:
    assert (len(WORKED), len(HELD)) == (33, 5)
    assert not WORKED.keys() & HELD.keys()


def test_an_attack_that_a_test_names_is_one_of_these() -> None:
    """A docstring that begins with "The rule of `x`" names its attack."""
    named = set()
    for _, _, text in read_docstrings(" of `"):
        if text.startswith(("The rule of `", "The rules of `")):
            named |= set(re.findall(r"`([^`]+)`", text.partition("\n")[0]))
    assert named and named <= WORKED.keys() | HELD.keys()
