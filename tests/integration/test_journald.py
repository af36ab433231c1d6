"""Entries of systemd's journal, at a socket like its own."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

from ha_agent.adapters.journald import JournalSink, encode_entry


def test_an_entry_is_what_the_journal_s_protocol_says() -> None:
    assert encode_entry({"MESSAGE": "a=b", "PRIORITY": "5"}) == b"MESSAGE=a=b\nPRIORITY=5\n"
    assert encode_entry({"MESSAGE": "a\nb"}) == b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"


def test_entries_arrive_and_a_journal_that_is_away_or_full_holds_nobody_up(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "socket")
    sink = JournalSink(path)
    assert sink.send("nobody listens", 5) is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        assert sink.send("here", 4, HA_AGENT_CODE="takeover-done")
        got = journal.recv(4096).decode().splitlines()
        assert got[0] == "MESSAGE=here"
        assert set(got[1:]) == {"PRIORITY=4", "SYSLOG_IDENTIFIER=ha-agent", "HA_AGENT_CODE=takeover-done"}
        assert not all(sink.send("x" * 1000, 5) for _ in range(100_000)), "a full queue is no reason to wait"
    sink.close()


def test_only_a_process_whose_errors_go_to_the_journal_sends_entries(tmp_path: pathlib.Path) -> None:
    code = "import sys; from ha_agent.adapters.journald import runs_under_journal; sys.exit(runs_under_journal())"
    with open(tmp_path / "log", "w", encoding="ascii") as log:
        info = os.fstat(log.fileno())
        for stream, expected in ((f"{info.st_dev}:{info.st_ino}", 1), ("1:2", 0), ("", 0)):
            env = {**os.environ, "JOURNAL_STREAM": stream}
            assert subprocess.run([sys.executable, "-c", code], env=env, stderr=log).returncode == expected
