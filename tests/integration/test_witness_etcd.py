"""The witness's record in a real etcd: one member and three, with TLS and a user, frozen, killed, wiped and gone back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ha_agent.adapters.witness import NoAnswer
from ha_agent.adapters.witness_etcd import EtcdAccess, EtcdWitness
from ha_agent.core.witness_record import NOTHING_THERE, Record, Sight
from ha_agent.core.witness_watch import Outcome
from tests.etcd import HOST, Etcd

KEY = "ha-agent/pair-1/votes"
ANSWER_S = 2.0
"""Longer than the default, so that a busy machine is no failure. What is over its time is tried with a shorter one."""


def record(counter: int, holder: str = "node-a") -> Record:
    return Record(holder, "start-1", counter, 1, 3000)


_opened: list[EtcdWitness] = []


def opened(how: EtcdAccess) -> EtcdWitness:
    """A client that is closed when the test is over."""
    made = EtcdWitness(how)
    _opened.append(made)
    return made


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture
def etcd(tmp_path: pathlib.Path) -> Iterator[Etcd]:
    made = Etcd(tmp_path)
    made.up()
    yield made
    made.down()


@pytest.fixture
def three(tmp_path: pathlib.Path) -> Iterator[Etcd]:
    made = Etcd(tmp_path, 3)
    made.up()
    yield made
    made.down()


def read(witness: EtcdWitness, timeout_s: float = ANSWER_S) -> Sight:
    return asyncio.run(witness.read(timeout_s))


def swap(witness: EtcdWitness, expected: Sight, new: Record, timeout_s: float = ANSWER_S) -> tuple[Outcome, Sight | None]:
    return asyncio.run(witness.swap(expected, new, timeout_s))


def access(etcd: Etcd, **more: str) -> EtcdAccess:
    return EtcdAccess(endpoints=etcd.endpoints, key=KEY, **more)


def test_a_record_is_made_changed_and_refused_to_who_saw_an_older_one(etcd: Etcd) -> None:
    one, two = opened(access(etcd)), opened(access(etcd))
    assert read(one) == NOTHING_THERE
    outcome, first = swap(one, NOTHING_THERE, record(1))
    assert outcome is Outcome.DONE and first is not None and read(two) == first
    assert swap(two, NOTHING_THERE, record(1, "node-b")) == (Outcome.OTHER, first)
    outcome, second = swap(two, first, record(2, "node-b"))
    assert outcome is Outcome.DONE and second is not None and second.revision > first.revision
    assert swap(one, first, record(2)) == (Outcome.OTHER, second)
    assert read(one) == second


def test_of_many_writers_at_once_one_is_done(etcd: Etcd) -> None:
    async def race() -> list[Outcome]:
        writers = [opened(access(etcd)) for _ in range(8)]
        calls = [w.swap(NOTHING_THERE, record(n + 1), 10.0) for n, w in enumerate(writers)]
        return [outcome for outcome, _ in await asyncio.gather(*calls)]

    outcomes = asyncio.run(race())
    assert outcomes.count(Outcome.DONE) == 1 and outcomes.count(Outcome.OTHER) == 7


def test_the_text_counts_as_well_as_the_revision(etcd: Etcd) -> None:
    """A store that went back to old data counts its revisions from there again."""
    witness = opened(access(etcd))
    _, seen = swap(witness, NOTHING_THERE, record(1))
    assert seen is not None
    assert swap(witness, Sight(seen.revision, record(7)), record(8)) == (Outcome.OTHER, seen)


def test_an_etcd_that_is_frozen_gives_no_answer_in_time_and_a_write_to_it_is_unknown(etcd: Etcd) -> None:
    witness = opened(access(etcd))
    _, seen = swap(witness, NOTHING_THERE, record(1))
    assert seen is not None
    etcd.signal(0, signal.SIGSTOP)
    began = time.monotonic()
    assert swap(witness, seen, record(2), 0.4) == (Outcome.UNKNOWN, None)
    with pytest.raises(NoAnswer):
        read(witness, 0.4)
    assert time.monotonic() - began < 3.0 and "no answer" in witness.problem
    etcd.signal(0, signal.SIGCONT)
    etcd.wait()
    found = read(witness, 5.0)
    assert found.record in (record(1), record(2)), "it may be done when the freeze ends: unknown, not failed"
    assert witness.problem == ""


def test_an_etcd_that_is_not_there_is_said(etcd: Etcd) -> None:
    witness = opened(access(etcd))
    etcd.down()
    with pytest.raises(NoAnswer, match="refused"):
        read(witness)
    assert swap(witness, NOTHING_THERE, record(1))[0] is Outcome.UNKNOWN


def test_a_member_that_was_killed_and_comes_back_has_the_record(etcd: Etcd) -> None:
    witness = opened(access(etcd))
    _, seen = swap(witness, NOTHING_THERE, record(1))
    etcd.signal(0, signal.SIGKILL)
    etcd.start(0)
    etcd.wait()
    assert read(witness) == seen


def test_a_wiped_and_a_restored_store_show_what_they_have(etcd: Etcd, tmp_path: pathlib.Path) -> None:
    witness = opened(access(etcd))
    _, first = swap(witness, NOTHING_THERE, record(1))
    assert first is not None
    etcd.signal(0, signal.SIGTERM)
    assert etcd.members[0] is not None and etcd.members[0].wait(10) is not None
    shutil.copytree(etcd.data_dir(0), tmp_path / "backup")
    etcd.start(0)
    etcd.wait()
    _, second = swap(witness, first, record(2))
    assert second is not None
    for state, expected in ((None, NOTHING_THERE), (tmp_path / "backup", first)):
        etcd.signal(0, signal.SIGKILL)
        shutil.rmtree(etcd.data_dir(0))
        if state is not None:
            shutil.copytree(state, etcd.data_dir(0))
        etcd.start(0)
        etcd.wait()
        assert read(witness) == expected
        assert swap(witness, second, record(3)) == (Outcome.OTHER, expected)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_of_three_members_one_may_be_frozen_or_dead(three: Etcd, lost: int) -> None:
    witness = opened(access(three))
    outcome, seen = swap(witness, NOTHING_THERE, record(1))
    assert outcome is Outcome.DONE and seen is not None
    for number, what in enumerate((signal.SIGSTOP, signal.SIGKILL)):
        three.signal(lost, what)
        until = time.monotonic() + 20
        new = record(10 + number)
        while time.monotonic() < until:
            outcome, found = swap(witness, seen, new)
            if outcome is Outcome.DONE or (found is not None and found.record == new):
                break
        assert found is not None and found.record == new
        seen = found


def test_without_a_majority_of_the_members_nothing_is_read_or_written(three: Etcd) -> None:
    witness = opened(access(three))
    _, seen = swap(witness, NOTHING_THERE, record(1))
    assert seen is not None
    for number in (1, 2):
        three.signal(number, signal.SIGKILL)
    with pytest.raises(NoAnswer):
        read(witness, 1.0)
    assert swap(witness, seen, record(2), 1.0) == (Outcome.UNKNOWN, None)


def test_tls_with_a_client_certificate(tmp_path: pathlib.Path) -> None:
    etcd = Etcd(tmp_path, tls=True)
    etcd.up()
    try:
        trusted = access(etcd, ca_file=etcd.ca_file, cert_file=etcd.ca_file, cert_key_file=etcd.key_file)
        assert swap(opened(trusted), NOTHING_THERE, record(1))[0] is Outcome.DONE
        stranger = opened(access(etcd))
        with pytest.raises(NoAnswer, match="certificate verify failed"):
            read(stranger)
        with pytest.raises(NoAnswer):
            read(opened(access(etcd, ca_file=etcd.ca_file)))
    finally:
        etcd.down()


def test_a_user_with_a_password_whose_token_is_lost_in_a_restart(etcd: Etcd, tmp_path: pathlib.Path) -> None:
    etcd.add_user("pair-1", "secret", KEY)
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    witness = opened(access(etcd, user="pair-1", password_file=str(tmp_path / "password")))
    outcome, seen = swap(witness, NOTHING_THERE, record(1))
    assert outcome is Outcome.DONE and seen is not None
    etcd.signal(0, signal.SIGKILL)
    etcd.start(0)
    until = time.monotonic() + 20
    found: Sight | None = None
    while found is None and time.monotonic() < until:
        try:
            found = read(witness)
        except NoAnswer:
            time.sleep(0.1)
    assert found == seen, witness.problem
    with pytest.raises(NoAnswer, match="user name is empty"):
        read(opened(access(etcd)))
    elsewhere = EtcdAccess(endpoints=etcd.endpoints, key="other", user="pair-1", password_file=str(tmp_path / "password"))
    with pytest.raises(NoAnswer, match="permission denied"):
        read(opened(elsewhere))
    (tmp_path / "password").write_text("wrong", encoding="utf-8")
    wrong = opened(access(etcd, user="pair-1", password_file=str(tmp_path / "password")))
    with pytest.raises(NoAnswer, match="authentication failed"):
        read(wrong)


def test_what_is_no_record_is_said_and_not_written_over(etcd: Etcd) -> None:
    key = base64.b64encode(KEY.encode()).decode()
    etcd.post("/v3/kv/put", {"key": key, "value": base64.b64encode(b"hello").decode()})
    witness = opened(access(etcd))
    with pytest.raises(NoAnswer, match="not JSON"):
        read(witness)
    assert swap(witness, NOTHING_THERE, record(1)) == (Outcome.UNKNOWN, None)
    assert "not JSON" in witness.problem


@pytest.mark.parametrize("words", [b"HTTP/1.1 200 OK\r\n", b"x" * 70000, b""])
def test_whoever_takes_a_connection_and_says_nothing_or_rubbish_costs_the_time_of_one_answer(words: bytes) -> None:
    """No etcd at all: the deadline is of the call, not of each read."""
    listener = socket.create_server((HOST, 0))
    listener.settimeout(5)
    over = threading.Event()

    def talk() -> None:
        with listener.accept()[0] as taken, contextlib.suppress(OSError):
            while not over.wait(0.05):
                taken.sendall(words)

    thread = threading.Thread(target=talk)
    thread.start()
    witness = opened(EtcdAccess(endpoints=(f"http://{HOST}:{listener.getsockname()[1]}",), key=KEY))
    began = time.monotonic()
    with pytest.raises(NoAnswer):
        read(witness, 0.5)
    assert time.monotonic() - began < 2.0
    over.set()
    thread.join()
    listener.close()
