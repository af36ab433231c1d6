"""What a user may take at once, by tables and properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.budgets import COST_BYTES, COST_S, MOST_COST, OPERATOR, READER, UNBOUNDED, Purse, Rate


def test_requests_under_way_and_unread_answers_are_waited_for_and_nothing_else() -> None:
    purse = Purse(OPERATOR, 0.0)
    for _ in range(OPERATOR.requests):
        assert purse.wait_s(0, 0.0) == 0.0
        purse.begin(0.0)
    assert purse.wait_s(0, 9.0) is None
    purse.end(10, 0.0, 9.0)
    assert purse.wait_s(OPERATOR.unsent_bytes - 1, 9.0) == 0.0 and purse.wait_s(OPERATOR.unsent_bytes, 9.0) is None


def test_a_large_answer_costs_as_much_as_the_requests_that_it_holds_up() -> None:
    assert READER.per_s is not None
    purse = Purse(READER, 0.0)
    purse.begin(0.0)
    purse.end(int(COST_BYTES * (READER.burst + READER.per_s)), 0.0, 0.0)
    wait = purse.wait_s(0, 0.0)
    assert wait is not None and 1.0 <= wait <= 1.1


def test_who_has_others_work_for_a_time_waits_for_a_multiple_of_it_but_not_for_what_only_waits() -> None:
    assert READER.per_s is not None
    purse, now, worked = Purse(READER, 0.0), 0.0, 0.0
    while now < 600.0:
        purse.begin(now)
        now, worked = now + 0.15, worked + 0.15
        purse.end(0, 0.15, now)
        now += purse.wait_s(0, now) or 0.0
    assert worked / now < 0.12, "supervisord is busy for a reader for a tenth of the time"
    purse = Purse(READER, 0.0)
    for _ in range(3):
        purse.begin(0.0)
        purse.end(0, 60.0, 0.0)
    wait = purse.wait_s(0, 0.0)
    assert wait is not None and wait < 1.0


REQUESTS = st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 1 << 22), st.floats(0.0, 3.0)), max_size=60)


@given(REQUESTS)
def test_nobody_gets_more_in_any_time_than_the_burst_and_the_rate(requests: list[tuple[float, int, float]]) -> None:
    assert READER.per_s is not None
    purse, now, cost, last = Purse(READER, 0.0), 0.0, 0.0, 0.0
    for pause, size, took in requests:
        now += pause
        wait = purse.wait_s(0, now)
        assert wait is not None
        now += wait
        purse.begin(now)
        purse.end(size, took, now)
        last = 1.0 + size / COST_BYTES + min(MOST_COST, took / COST_S)
        cost += last
    assert cost - last <= READER.burst + READER.per_s * now + 1e-6, "the last one may make a debt"


def test_a_rate_lets_a_number_in_at_once_and_the_others_one_after_another() -> None:
    rate, now = Rate(10.0, 5.0, 0.0), 0.0
    for _ in range(5):
        assert rate.wait_s(now) == 0.0
        rate.pay(1.0, now)
    rate.pay(1.0, now)
    assert 0.09 < rate.wait_s(now) < 0.11
    assert rate.wait_s(now + 0.2) == 0.0
    now += 1000.0
    for _ in range(6):
        rate.pay(1.0, now)
    assert rate.wait_s(now) > 0.0, "what was not used for long does not add up"


@given(REQUESTS)
def test_root_never_waits(requests: list[tuple[float, int, float]]) -> None:
    purse, now = Purse(UNBOUNDED, 0.0), 0.0
    for pause, _, _ in requests:
        now += pause
        purse.begin(now)
        assert purse.wait_s(1 << 40, now) == 0.0
