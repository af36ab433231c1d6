"""Every way in which the commands were once seen to say something wrong, by the name of its rule, and its tests.

An operator's review of commit 02aaa60 found twenty-two; each rule has a test that the code of that commit does not pass.
"""

from __future__ import annotations

import pytest

from tests.places_of_tests import is_test

ALERTING = "tests/unit/test_alerting.py"
COMMANDS = "tests/cluster/test_commands.py"
DEGRADED = "tests/cluster/test_degraded.py"
DOCTOR = "tests/unit/test_doctor.py"
JUDGED = f"{DEGRADED}::test_every_face_says_what_is_wrong_with_the_pair_and_none_is_green_meanwhile"
LAB = "tests/cluster/test_lab.py"
OF_STANDBY = f"{DEGRADED}::test_every_face_says_what_is_wrong_at_the_standby_and_none_is_green_meanwhile"
OPERATOR = "tests/cluster/test_operator.py"
PROBLEMS = "tests/unit/test_problems.py"
TRUTHS = "tests/cluster/test_truths.py"
WEB = "tests/cluster/test_web.py"

COUNTED = f"{TRUTHS}::test_a_conf_that_lacks_something_is_counted_once_and_named_by_every_face"
WHO_MAY = f"{TRUTHS}::test_who_may_not_see_everything_is_told_so_and_what_he_could_do_himself"

RULES: dict[str, tuple[str, ...]] = {
    "no-usable-standby-is-said-by-every-face": (
        OF_STANDBY,
        f"{PROBLEMS}::test_what_the_standby_cannot_load_is_asked_for_with_its_fitness",
    ),
    "maintenance-cannot-be-overridden-and-no-service-is-said": (
        f"{OPERATOR}::test_no_force_takes_the_service_away_from_a_pair_in_maintenance",
        f"{DEGRADED}::test_the_vip_without_the_programs_is_no_service",
    ),
    "one-agent-a-node": (f"{COMMANDS}::test_a_second_agent_by_hand_is_refused_and_touches_nothing_of_the_first",),
    "silence-is-unknown-and-names-its-cause": (
        f"{PROBLEMS}::test_silence_says_what_was_heard_last_and_since_when_and_what_its_cause_needs",
    ),
    "an-age-counts-from-the-last-word": (
        f"{PROBLEMS}::test_silence_says_what_was_heard_last_and_since_when_and_what_its_cause_needs",
        f"{OPERATOR}::test_with_the_standby_down_every_command_says_so_at_once_and_with_its_exit_status",
    ),
    "a-partition-leaves-its-mark": (f"{DEGRADED}::test_a_partition_is_told_while_it_lasts_and_afterwards",),
    "a-takeover-under-way-advises-no-parking": (
        f"{DEGRADED}::test_programs_that_a_takeover_has_still_to_start_are_no_stopped_ones",
    ),
    "held-deletions-name-the-way-out": (JUDGED,),
    "no-copy-of-a-conf-stays-in-tmp": (COUNTED,),
    "followed-history-goes-forward": (
        f"{COMMANDS}::test_the_history_is_chosen_and_followed_and_survives_agents_that_go_away",
    ),
    "one-takeover-is-one-number-on-both-nodes": (COUNTED,),
    "counts-add-up": (COUNTED,),
    "lint-sees-what-doctor-and-status-see": (COUNTED,),
    "a-browser-can-do-what-its-page-promises": (
        f"{WEB}::test_an_operator_sees_a_failover_live_and_stops_a_program_on_both_nodes",
    ),
    "a-phone-reaches-every-button": (f"{WEB}::test_a_reader_can_do_nothing_and_the_keyboard_and_a_phone_and_chinese_work",),
    "no-permission-is-no-dead-agent": (f"{DEGRADED}::test_who_may_not_ask_is_told_that_and_no_state",),
    "what-a-member-may-not-see-is-unknown-to-him": (WHO_MAY,),
    "what-was-not-done-is-not-noted-and-what-is-gone-is-no-alert": (
        WHO_MAY,
        f"{ALERTING}::test_a_program_that_is_down_and_is_unloaded_is_no_alert_any_more",
    ),
    "without-its-agent-a-node-is-still-told-of": (
        f"{DEGRADED}::test_a_node_without_its_agent_says_what_else_is_seen_of_it",
        "tests/integration/test_cli.py::test_without_an_agent_the_history_is_read_from_the_disk_and_said_to_be",
    ),
    "a-lab-is-its-own": (
        f"{LAB}::test_what_a_node_writes_is_its_own",
        f"{LAB}::test_what_the_lab_says_to_do_next_is_of_the_same_lab",
    ),
    "what-ends-in-a-usage-error-says-so": (
        f"{COMMANDS}::test_supzcli_answers_a_slip_with_what_it_may_have_been",
        "tests/integration/test_units.py::test_units_hook_and_commands_come_and_go",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_wrong_word_that_was_seen_has_its_test(rule: str) -> None:
    assert [place for place in RULES[rule] if not is_test(place)] == []
