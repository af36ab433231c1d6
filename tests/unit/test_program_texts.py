"""What supzcli prints, from the agent's answers."""

from __future__ import annotations

from typing import Any

from ha_agent.core import program_texts as texts


def info(name: str, state: str, group: str | None = None, exitstatus: int = 0) -> dict[str, Any]:
    description = {"name": name, "group": group or name, "statename": state, "exitstatus": exitstatus}
    return {**description, "description": "pid 1, uptime 0:00:01" if state == "RUNNING" else "Nov 21 05:11 PM"}


ANSWER: dict[str, Any] = {
    "processes": [
        info("web", "RUNNING"),
        info("db", "STOPPED"),
        info("job", "EXITED"),
        info("crashed", "EXITED", exitstatus=2),
        info("listener", "STOPPED"),
        info("w_00", "RUNNING", "w"),
        info("w_01", "STOPPED", "w"),
        info("half", "STOPPED", "grp"),
        info("lazy", "STOPPED"),
    ],
    "local": ["listener"],
    "autostart": ["web", "db", "job", "crashed", "w", "half"],
    "parked": [
        {"name": "old", "group": "old", "path": "old.conf.parked", "since": 0.0},
        {"name": "half", "group": "grp", "path": "half.conf.parked", "since": None},
    ],
}


def test_what_the_next_failover_would_do_is_said_where_it_is_not_what_runs() -> None:
    rows = {row.name: row for row in texts.status_rows(ANSWER)}
    says = {name for name, row in rows.items() if texts.NEXT_FAILOVER in row.text}
    assert says == {"db", "crashed", "w:w_01"}
    assert rows["old"].state == rows["grp:half"].state == "PARKED"
    assert not rows["old"].counts and rows["db"].counts and rows["listener"].counts
    assert list(rows) == sorted(rows)


def test_what_waits_is_shown_with_what_has_not_come() -> None:
    names = ["redis", "tcp://127.0.0.1:1"]
    wait = {"group": "g", "programs": ["g:x", "g:y"], "waits_for": names, "since": 88.0, "given_up": None}
    lost = {"group": "z", "programs": ["z"], "waits_for": ["redis"], "since": 88.0, "given_up": 99.0}
    rows = {row.name: row for row in texts.status_rows({**ANSWER, "waits": [wait, lost], "at": 100.0})}
    assert (rows["g:x"].state, rows["g:y"].text) == ("WAITING", "waits for redis, tcp://127.0.0.1:1 since 12 s")
    assert (rows["z"].state, rows["z"].text) == ("STOPPED", "not started: redis did not come in time")
    assert rows["z"].counts and not rows["g:x"].counts


def test_the_columns_are_those_of_supervisorctl() -> None:
    lines = texts.format_rows(texts.status_rows(ANSWER))
    assert lines[-1] == "web                              RUNNING   pid 1, uptime 0:00:01"


def test_rows_are_chosen_as_supervisorctl_chooses_them_and_by_a_group_alone() -> None:
    rows = texts.status_rows(ANSWER)

    def names(*words: str) -> list[str]:
        return [row.name for row in texts.select_rows(rows, words)[0]]

    assert len(names()) == len(names("all")) == len(rows)
    assert names("w:*") == names("w") == ["w:w_00", "w:w_01"] and names("w:w_01") == ["w:w_01"]
    assert names("old") == ["old"] and names("grp:half") == ["grp:half"]
    assert texts.select_rows(rows, ["x", "y:*", "w:z"])[1] == [
        "x: ERROR (no such process)",
        "y: ERROR (no such group)",
        "w:z: ERROR (no such process)",
    ]


def test_a_change_that_the_peer_lacks_says_what_that_means_now() -> None:
    answer = {"node": "node-a", "peer": "node-b", "ack": {"on_peer": False, "reason": "node-b cannot be reached (x)"}}
    assert texts.places(answer) == "node-a only"
    said = texts.missing_on_peer(answer, "it starts web")
    assert (
        said is not None and said.startswith("node-b cannot be reached (x); if node-b takes over") and "starts web" in said
    )
    assert texts.missing_on_peer({**answer, "ack": {"on_peer": True}}, "") is None
    assert texts.missing_on_peer({**answer, "ack": None}, "") is None


def test_a_log_is_followed_by_what_came_since() -> None:
    assert texts.appended("", "abc") == "abc" and texts.appended("abc", "abcdef") == "def"
    old, new = "x" * 10 + "line 1\nline 2\n", "line 1\nline 2\nline 3\n"
    assert texts.appended(old[-14:], new) == "line 3\n"
    long = "".join(f"{n}\n" for n in range(1000))
    assert texts.appended(long[:3000][-2000:], long[:3500][-2000:]) == long[3000:3500]
    assert texts.appended("all gone", "new file\n") == "new file\n"


def test_names_are_listed_as_people_do() -> None:
    assert [texts.names_text(n) for n in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
