"""Who gets into the dashboard, for how long, and how often somebody may guess."""

from __future__ import annotations

import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.guard import Access
from ha_agent.web import users as users_module
from ha_agent.web.sessions import FREE_TRIES, LONGEST_WAIT_S, MOST_SESSIONS, Gate, Places, Sessions, is_csrf
from ha_agent.web.users import NOBODY, Account, UserFile, UsersDamaged, hash_password, is_password

ALICE = Account("alice", Access.OPERATE, "stamp")


def everybody(name: str) -> Account | None:
    return ALICE if name == "alice" else None


def test_a_login_ends_by_its_age_by_idleness_and_by_hand() -> None:
    sessions = Sessions(100.0, 250.0)
    token, session = sessions.begin(ALICE, 0.0)
    assert sessions.find(token, 90.0, everybody) is session
    assert sessions.find(token, 180.0, everybody) is session
    assert sessions.find(token, 251.0, everybody) is None
    token, _ = sessions.begin(ALICE, 0.0)
    assert sessions.find(token, 101.0, everybody) is None
    token, _ = sessions.begin(ALICE, 0.0)
    sessions.end(token)
    assert sessions.find(token, 1.0, everybody) is None and sessions.find("made up", 1.0, everybody) is None


@pytest.mark.parametrize(
    "now", [None, Account("alice", Access.OPERATE, "new password"), Account("alice", Access.READ, "stamp")]
)
def test_a_login_ends_when_its_user_changes(now: Account | None) -> None:
    sessions = Sessions(100.0, 250.0)
    token, _ = sessions.begin(ALICE, 0.0)
    assert sessions.find(token, 1.0, lambda _name: now) is None
    assert sessions.find(token, 2.0, everybody) is None, "and it does not come back"


def test_logins_do_not_fill_the_memory_and_their_tokens_differ() -> None:
    sessions = Sessions(1e9, 1e9)
    tokens = [sessions.begin(ALICE, float(n))[0] for n in range(MOST_SESSIONS + 5)]
    assert len(set(tokens)) == len(tokens)
    assert sessions.find(tokens[0], 2000.0, everybody) is None
    last = sessions.find(tokens[-1], 2000.0, everybody)
    assert last is not None and is_csrf(last, last.csrf) and not is_csrf(last, "") and not is_csrf(last, "é")


def test_guessing_costs_more_and_more_time_up_to_a_bound_and_is_forgiven_by_success() -> None:
    gate, keys, now = Gate(), ("user a", "address 1"), 0.0
    waits = []
    for _ in range(30):
        wait = gate.wait_s(keys, now)
        waits.append(wait)
        now += wait
        gate.count(keys, now)
    assert waits[:FREE_TRIES] == [0.0] * FREE_TRIES and waits[FREE_TRIES] == 1.0
    assert waits == sorted(waits) and waits[-1] == LONGEST_WAIT_S
    assert gate.wait_s(("user b", "address 1"), now) > 0 and gate.wait_s(("user b", "address 2"), now) == 0
    gate.succeeded(keys)
    assert gate.wait_s(keys, now) == 0


def test_places_are_bounded_in_all_and_for_each_and_come_back() -> None:
    places = Places(3, 2)
    assert [places.take(name) for name in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    places.give_back("a")
    assert places.take("c") and not places.take("a")


def test_tries_that_are_not_known_yet_count() -> None:
    gate, keys = Gate(), ("user a",)
    for _ in range(FREE_TRIES):
        assert gate.wait_s(keys, 0.0) == 0
        gate.count(keys, 0.0)
    assert gate.wait_s(keys, 0.0) > 0


@given(st.lists(st.tuples(st.integers(0, 20_000), st.floats(0, 10)), max_size=50))
def test_a_gate_never_waits_longer_than_its_bound(tries: list[tuple[int, float]]) -> None:
    gate, now = Gate(), 0.0
    for number, pause in tries:
        now += pause
        gate.count((f"user {number}",), now)
        assert 0 <= gate.wait_s((f"user {number}",), now) <= LONGEST_WAIT_S


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_password_is_itself_and_no_other(one: str, other: str) -> None:
    kept = hash_password(one.encode("utf-8", "replace").decode(), 2)
    assert is_password(one.encode("utf-8", "replace").decode(), kept)
    # HMAC fills a key up with NULs, so that those at its end do not count.
    if one.rstrip("\0") != other.rstrip("\0"):
        assert not is_password(other.encode("utf-8", "replace").decode(), kept)


@pytest.mark.parametrize("kept", ["", "x", "a$b$c$d", "md5$1$eA==$eA==", "pbkdf2-sha256$x$eA==$eA=="])
def test_what_is_no_hash_lets_nobody_in(kept: str) -> None:
    assert not is_password("x", kept)


def test_somebody_who_does_not_exist_takes_as_long_as_somebody_who_does() -> None:
    assert NOBODY.split("$")[:2] == ["pbkdf2-sha256", str(users_module.ROUNDS)]


@pytest.fixture
def users(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> UserFile:
    made = UserFile(str(tmp_path / "users.json"))
    made.load()
    return made


def test_users_and_tokens_are_kept_without_their_secrets(users: UserFile, tmp_path: pathlib.Path) -> None:
    assert users.is_empty
    users.set_user("alice", "correct horse", Access.OPERATE)
    token = users.add_token("deploy", Access.READ)
    text = (tmp_path / "users.json").read_text(encoding="ascii")
    assert "correct horse" not in text and token not in text
    assert os.stat(tmp_path / "users.json").st_mode & 0o777 == 0o640
    again = UserFile(str(tmp_path / "users.json"))
    again.load()
    found = again.check_password("alice", "correct horse")
    assert found is not None and found.access is Access.OPERATE and again.account("alice") == found
    assert again.check_password("alice", "wrong horse") is None and again.check_password("bob", "correct horse") is None
    account = again.check_token(token)
    assert account is not None and (account.name, account.access) == ("deploy", Access.READ)
    assert again.check_token("x") is None and again.check_token("") is None
    assert users.remove("alice", token=False) and not users.remove("alice", token=False)
    again.load()
    assert again.account("alice") is None and again.tokens() == {"deploy": Access.READ}


@pytest.mark.parametrize(
    ("name", "password"), [("", "long enough"), ("a b", "long enough"), ("../x", "long enough"), ("bob", "short")]
)
def test_bad_names_and_short_passwords_are_refused(users: UserFile, name: str, password: str) -> None:
    with pytest.raises(ValueError):
        users.set_user(name, password, Access.READ)
    assert users.is_empty


def test_a_token_is_not_made_twice(users: UserFile) -> None:
    users.add_token("a", Access.READ)
    with pytest.raises(ValueError, match="already"):
        users.add_token("a", Access.READ)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"users": {}}', '{"users": {"a": {"access": "god", "hash": "x"}}, "tokens": {}}']
)
def test_a_damaged_file_lets_nobody_in_and_says_so(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(json.dumps({"users": {}, "tokens": {}}), encoding="ascii")
    users = UserFile(str(path))
    users.load()
    path.write_text(content, encoding="ascii")
    with pytest.raises(UsersDamaged, match="cannot be used"):
        users.load()
