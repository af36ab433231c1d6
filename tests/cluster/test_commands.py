"""What hands expect of the command line, on a real pair: short forms, one agent a node, history, logs, edit, bundle."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
import time
from typing import Any

import pytest

from ha_agent.core.width import width_of
from tests.lab_support import Pair, wait_for

THREE = {"p0", "p1", "p2"}


def up(pair: Pair, **options: Any) -> None:
    pair.up(**options)
    pair.lab.wait_settled()
    pair.await_runs("node-a", THREE)


@pytest.mark.shared_lab
def test_a_second_agent_by_hand_is_refused_and_touches_nothing_of_the_first(pair: Pair) -> None:
    """Somebody who looks for what is wrong runs `ha-agent daemon` on the active node.

    Fault: a second agent is started beside the running one.
    Answer: it names the first one's process id and ends with status 3; sockets, track file and programs stay the first's.
    Bound: none needed.
    """
    up(pair)
    before = pair.shell("node-a", "stat -c '%n %i %z' /run/ha-agent/*.sock /run/ha-agent/track")
    pid = pair.agent_pid("node-a")
    for _ in range(2):
        done = pair.ha("node-a", "daemon", timeout_s=20)
        assert done.returncode == 3 and f"an agent runs already (pid {pid})" in done.stderr
        assert done.stderr.count("\n") == 1 and "systemctl status ha-agent" in done.stderr
    pair.shell("node-a", "rm /run/ha-agent/agent.lock")
    wait_for("the lock is there again", lambda: "agent.lock" in pair.shell("node-a", "ls /run/ha-agent"), 10, 0.1)
    assert pair.ha("node-a", "daemon", timeout_s=20).returncode == 3
    assert pair.shell("node-a", "stat -c '%n %i %z' /run/ha-agent/*.sock /run/ha-agent/track") == before
    assert pair.ha("node-a", "status").returncode == 0 and pair.runs("node-a") == THREE
    # A restart by the service manager, a reload and an end by SIGKILL leave nothing locked.
    pair.kill_agent("node-a")
    pair.lab.unit("node-a", "restart", "ha-agent")
    wait_for("the agent is back", lambda: pair.is_whole("node-a"), 15, 0.1)
    # While it begins again it is the node's agent, too.
    pair.lab.unit("node-a", "kill", "ha-agent", signal.SIGHUP)
    refused = "for i in 1 2 3 4 5; do timeout 10 ha-agent daemon && echo 0 || echo $?; done 2> /dev/null"
    assert pair.shell("node-a", refused).split() == ["3"] * 5
    pair.lab.wait_settled()
    assert pair.ha("node-a", "daemon", timeout_s=20).returncode == 3


def test_an_agent_that_was_started_by_hand_holds_the_service_off_without_a_fence(pair: Pair) -> None:
    """`systemctl start ha-agent` while somebody's own `ha-agent daemon` runs.

    Fault: the service is started beside an agent that was started by hand.
    Answer: it waits for that one's end, and the node is not fenced; then it is the node's agent.
    Bound: none needed.
    """
    up(pair)
    pair.lab.unit("node-a", "stop", "ha-agent")
    pair.shell("node-a", "setsid ha-agent daemon > /tmp/byhand 2>&1 & sleep 0.1")
    wait_for("the agent answers", lambda: pair.is_whole("node-a"), 15, 0.2)
    pair.shell("node-a", "(timeout 60 systemctl start ha-agent > /tmp/started 2>&1 &) ; sleep 3")
    assert pair.ha("node-a", "status").returncode == 0 and pair.runs("node-a") == THREE
    pair.shell("node-a", "pkill -INT -f '[h]a-agent daemon$'")
    wait_for(
        "the service's agent", lambda: pair.agent_pid("node-a") and pair.ha("node-a", "status").returncode == 0, 15, 0.2
    )
    assert pair.runs("node-a") == THREE
    assert [e["code"] for e in pair.history("node-a")].count("agent-started") == 3


@pytest.mark.shared_lab
def test_what_hands_type_from_habit_is_understood(pair: Pair) -> None:
    up(pair)
    assert pair.ha("node-a", "list").stdout.splitlines()[:4] == pair.ha("node-a", "status").stdout.splitlines()[:4]
    shown = pair.ha("node-b", "maintenance")
    assert shown.returncode == 0 and shown.stdout == "node-b: not in maintenance\nnode-a: not in maintenance\n"
    paused = pair.ha("node-b", "pause", "--for", "5min", "--reason", "new switch")
    assert paused.returncode == 0 and paused.stdout.startswith("node-b and node-a: maintenance until "), paused
    document = json.loads(pair.ha("node-a", "maintenance", "--json").stdout)
    assert [(row["name"], row["on"], row["by"], row["reason"]) for row in document["nodes"]] == [
        ("node-a", True, "root", "new switch"),
        ("node-b", True, "root", "new switch"),
    ]
    assert "by root (new switch)" in pair.ha("node-a", "maintenance").stdout
    assert pair.ha("node-a", "resume").stdout == "node-a and node-b: maintenance is off\n"
    assert json.loads(pair.ha("node-a", "resume", "--json").stdout)["complete"] is True
    assert pair.ha("node-a", "alert").stdout == pair.ha("node-a", "alert", "list").stdout != ""
    assert pair.ha("node-a", "kept").stdout == pair.ha("node-a", "kept", "list").stdout != ""


def test_the_history_is_chosen_and_followed_and_survives_agents_that_go_away(pair: Pair) -> None:
    up(pair)
    assert pair.sup("node-a", "stop", "p1").returncode == 0
    about = json.loads(pair.ha("node-b", "history", "--program", "p1", "--json").stdout)["events"]
    assert {e["code"] for e in about} >= {"parked"} and all("p1" in e["text"] for e in about)
    done = pair.ha("node-a", "history", "--code", "agent-*", "--node", "node-b", "--json")
    assert [(e["code"], e["node"]) for e in json.loads(done.stdout)["events"]] == [("agent-started", "node-b")]
    for words in (("--node", "node-c"), ("--code", "park")):
        assert pair.ha("node-a", "history", *words).returncode == 2
    out = "/tmp/followed"
    pair.shell("node-a", f"timeout 120 ha-agent history -n 1 --follow --json > {out} 2> {out}.errors & sleep 2")

    def codes() -> list[str]:
        return [json.loads(line)["code"] for line in pair.shell("node-a", f"cat {out}").splitlines()]

    assert len(codes()) == 1, "what was not asked for does not come either"
    pair.lab.unit("node-b", "stop", "ha-agent")
    wait_for(
        "it is said", lambda: "its events are missing from now on" in pair.shell("node-a", f"cat {out}.errors"), 20, 0.3
    )
    pair.lab.unit("node-b", "start", "ha-agent")
    wait_for("its events come", lambda: "agent-started" in codes(), 20, 0.3, lambda: str(codes()))
    errors = pair.shell("node-a", f"cat {out}.errors").splitlines()
    assert len(errors) == 2 and errors[1] == "ha-agent: node-b answers again; what happened there meanwhile follows"
    pair.lab.unit("node-a", "stop", "ha-agent")
    wait_for("it goes on", lambda: "come from its disk now" in pair.shell("node-a", f"cat {out}.errors"), 20, 0.3)
    shown = pair.ha("node-a", "history")
    assert shown.returncode == 5 and "parked" in shown.stdout and "this is what the disk has" in shown.stderr
    stranger = pair.run_as("node-a", "alice", "ha-agent", "history")
    assert stranger.returncode == 5 and stranger.stdout == "" and "run this as root" in stranger.stderr
    pair.lab.unit("node-a", "start", "ha-agent")
    wait_for("the agent is back", lambda: "answers again" in pair.shell("node-a", f"tail -n 1 {out}.errors"), 20, 0.3)
    pair.shell("node-a", "pkill -f '[h]a-agent history'")


@pytest.mark.shared_lab
def test_cron_asks_whether_this_is_the_active_node(pair: Pair) -> None:
    up(pair)
    for node, code in (("node-a", 0), ("node-b", 1)):
        done = pair.ha(node, "is-active")
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
    assert pair.ha("node-b", "is-active", "-v").stdout == "node-b is standby\n"
    assert pair.run_as("node-a", "alice", "ha-agent", "is-active").returncode == 0
    stranger = pair.run_as("node-a", "carol", "ha-agent", "is-active")
    assert stranger.returncode == 3 and "no permission" in stranger.stderr, "a job that never runs must say why"
    assert pair.run_as("node-a", "carol", "ha-agent", "status").returncode == 3
    assert pair.ha("node-b", "is-active", "--wait", "1s").returncode == 1
    pair.shell("node-b", "(timeout 60 ha-agent is-active --wait; echo $? > /tmp/waited) > /dev/null 2>&1 & sleep 1")
    assert pair.ha("node-a", "switchover", "--yes").returncode == 0
    wait_for("the end of the wait", lambda: pair.shell("node-b", "cat /tmp/waited 2>/dev/null || true"), 15, 0.2)
    assert pair.shell("node-b", "cat /tmp/waited").strip() == "0"
    pair.lab.unit("node-b", "stop", "ha-agent")
    done = pair.ha("node-b", "is-active")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert "not known to be active" in pair.ha("node-b", "is-active", "-v").stdout


STUB = """\
#!/usr/bin/python3
# A journal of a lab node: one line a word of the file that is named as the unit.
import json, sys
unit = sys.argv[sys.argv.index("--unit") + 1]
for at, text in enumerate(open("/tmp/journal-" + unit).read().splitlines()):
    stamp, text = text.split(" ", 1)
    print(json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": text, "PRIORITY": "4", "__CURSOR": f"c{at}"}))
"""


def write_journal(pair: Pair, node: str, unit: str, lines: list[tuple[float, str]]) -> None:
    """Gives a node a journal: a lab has none."""
    text = "".join(f"{int(at * 1e6)} {line}\n" for at, line in lines)
    script = f"cat > /tmp/journalctl <<'END'\n{STUB}END\nchmod 755 /tmp/journalctl\n"
    script += f"cat > /tmp/journal-{unit} <<'END'\n{text}END\n"
    script += "grep -q /usr/bin/journalctl /proc/self/mountinfo || mount --bind /tmp/journalctl /usr/bin/journalctl"
    pair.shell(node, script)


def test_the_logs_of_both_agents_are_one_list_for_those_who_may(pair: Pair) -> None:
    up(pair)
    now = time.time()
    write_journal(pair, "node-a", "ha-agent", [(now - 3, "first"), (now - 1, "third \x1b[31m")])
    write_journal(pair, "node-b", "ha-agent", [(now - 2, "second")])
    for user in ("root", "alice"):
        shown = pair.run_as("node-a", user, "ha-agent", "logs")
        texts = [line.split(maxsplit=3)[2:] for line in shown.stdout.splitlines()]
        assert texts == [["node-a", "first"], ["node-b", "second"], ["node-a", "third \\x1b[31m"]], shown
    assert [row["text"] for row in json.loads(pair.ha("node-a", "logs", "node-b", "--json").stdout)["lines"]] == ["second"]
    assert pair.run_as("node-a", "bob", "ha-agent", "logs").returncode == 3
    assert pair.run_as("node-a", "alice", "ha-agent", "logs", "--unit", "keepalived").returncode == 3
    assert pair.ha("node-a", "logs", "node-c").returncode == 2
    out = "/tmp/logs"
    pair.shell("node-a", f"timeout 90 ha-agent logs -f > {out} 2> {out}.errors & sleep 2")
    write_journal(pair, "node-b", "ha-agent", [(now - 2, "second"), (time.time(), "fourth")])
    wait_for("what is new", lambda: "fourth" in pair.shell("node-a", f"cat {out}"), 10, 0.3)
    assert pair.shell("node-a", f"cat {out}").count("second") == 1
    pair.lab.unit("node-b", "stop", "ha-agent")
    wait_for("it is said", lambda: "are missing from now on" in pair.shell("node-a", f"cat {out}.errors"), 20, 0.3)
    pair.shell("node-a", "pkill -f '[h]a-agent logs'")
    assert pair.ha("node-a", "logs").returncode == 4
    pair.lab.unit("node-a", "stop", "ha-agent")
    assert "third" in pair.ha("node-a", "logs", "node-a").stdout, "root reads this node's own without an agent"
    assert pair.run_as("node-a", "alice", "ha-agent", "logs").returncode == 5


def bundle_of(pair: Pair, node: str, *words: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Runs ``bundle``; the texts of its archive by name, without the directory that they have in common."""
    pair.shell(node, "rm -f /tmp/pair.tar.gz")
    done = pair.ha(node, "bundle", "-o", "/tmp/pair.tar.gz", *words, timeout_s=200)
    raw = subprocess.run(pair.lab.words_inside(node, ["cat", "/tmp/pair.tar.gz"]), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert all(entry.mode == 0o600 and entry.isfile() for entry in archive)
        texts = {entry.name.partition("/")[2]: archive.extractfile(entry).read().decode() for entry in archive}  # type: ignore[union-attr]
    return done, texts


def test_a_bundle_has_what_is_known_of_the_pair_and_no_secret(pair: Pair) -> None:
    up(pair)
    secret = "Kx9-hunter2-Zq"
    with open(pair.path("node-a", "bill.conf"), "w", encoding="ascii") as file:
        file.write(f'[program:bill]\ncommand=/bin/sleep infinity {secret}\nenvironment=DB_URL="redis://u:{secret}@h/0"\n')
    pair.await_equal()
    for path, text in (
        ("/etc/ha-agent/agent.toml", f'[sinks.chat]\nkind = "webhook"\nurl = "http://127.0.0.1:9/{secret}"\n'),
        ("/etc/keepalived/keepalived.conf", f"! {secret}\nstatic {{ auth_type PASS auth_pass {secret} }}\n"),
        ("/etc/supervisor/supervisord.conf", f"[inet_http_server]\nport=127.0.0.1:9001\npassword = {secret}\n"),
    ):
        pair.shell("node-a", f"cat >> {path} <<'END'\n{text}END")
    write_journal(pair, "node-a", "ha-agent", [(time.time(), f"somebody wrote {secret} into the log")])
    done, texts = bundle_of(pair, "node-a")
    assert pair.shell("node-a", "stat -c %a /tmp/pair.tar.gz").strip() == "600"
    assert not [name for name, text in texts.items() if secret in text or secret in name]
    for name in (
        "status.txt",
        "status.json",
        "history.jsonl",
        "doctor.json",
        "versions.txt",
        "config/etc/ha-agent/agent.toml",
        "config/etc/keepalived/keepalived.conf",
        "config/etc/supervisor/supervisord.conf",
        "registry/bill.conf",
        "registry/p0.conf",
        "logs/node-a-ha-agent.txt",
        "kept-list-node-b.json",
        "MISSING.txt",
    ):
        assert name in texts, (sorted(texts), done.stderr)
    assert "auth_pass ***" in texts["config/etc/keepalived/keepalived.conf"]
    assert 'environment=DB_URL="***"' in texts["registry/bill.conf"] and "node-b" in texts["status.txt"]
    assert "somebody wrote *** into the log" in texts["logs/node-a-ha-agent.txt"]
    assert "node-b: ha-agent" in texts["versions-of-both.txt"]
    assert done.returncode == 7 and "node-a-keepalived" in texts["MISSING.txt"], texts["MISSING.txt"]
    again = pair.ha("node-a", "bundle", "-o", "/tmp/pair.tar.gz")
    assert again.returncode == 1 and "exists" in again.stderr, "nothing is overwritten"
    alice = pair.run_as("node-a", "alice", "ha-agent", "bundle", "-o", "/run/lab/alice/x.tar.gz")
    assert alice.returncode == 3 and "root" in alice.stderr
    pair.lab.power_off("node-b")
    wait_for("it is seen", lambda: pair.is_alone("node-a"), 15, 0.3)
    done, texts = bundle_of(pair, "node-a")
    assert done.returncode == 7 and "what node-b says of itself" in texts["MISSING.txt"] and "status.txt" in texts
    pair.lab.unit("node-a", "stop", "ha-agent")
    done, texts = bundle_of(pair, "node-a")
    assert done.returncode == 7 and "status: the agent is not running" in texts["MISSING.txt"]
    assert "agent-started" in texts["history.jsonl"] and "registry/bill.conf" in texts
    assert not [name for name, text in texts.items() if secret in text]
    pair.shell("node-a", f"echo 'broken = {secret}' >> /etc/ha-agent/agent.toml")
    done, texts = bundle_of(pair, "node-a")
    assert "registry/bill.conf" in texts and "config/etc/ha-agent/agent.toml" not in texts
    assert not [name for name, text in texts.items() if secret in text]


@pytest.mark.shared_lab
def test_a_conf_is_edited_checked_applied_and_loaded_on_both_nodes(pair: Pair) -> None:
    up(pair)

    def edit(how: str, *words: str, node: str = "node-a") -> subprocess.CompletedProcess[str]:
        return pair.run_as(node, "root", "env", f"EDITOR={how}", "ha-agent", "edit", *words)

    def seconds() -> str:
        return pair.shell("node-a", "pgrep -a -x sleep || true")

    before = pair.files("node-a")
    assert edit("true", "p0").stdout == "nothing was changed\n"
    assert edit("false", "p0").returncode == 1
    assert edit("sed -i s/infinity/5000/", "p0").returncode == 3, "without a terminal nothing is assumed"
    done = edit("sed -i s/startsecs=0/startsecs=l/", "p0", "--yes")
    assert done.returncode == 1 and "the conf has errors" in done.stderr and "wrong-type" in done.stdout
    assert edit("true", "p0", node="node-b").returncode == 3
    assert "did you mean p0" in edit("true", "p0p").stderr
    alice = pair.run_as("node-a", "alice", "ha-agent", "edit", "p0")
    assert alice.returncode == 3 and "supzcli register --update" in alice.stderr
    assert pair.files("node-a") == before and "5000" not in seconds()
    done = edit("sed -i s/infinity/5000/", "p0", "--yes")
    assert done.returncode == 0 and "+command=/bin/sleep 5000" in done.stdout, done
    assert "p0.conf: applied on node-a and node-b" in done.stdout and "sleep 5000" in seconds()
    pair.await_equal()
    assert "5000" in pair.files("node-b")["p0.conf"][1].decode()
    assert pair.shell("node-a", "ls /tmp | grep ha-agent-edit || true") == ""
    # Somebody else's edit meanwhile is not overwritten, and the own text is kept.
    done = edit('sh -c \'echo "; other" >> /etc/supervisor/conf.d/p1.conf; echo "; mine" >> $0\'', "p1", "--yes")
    assert done.returncode == 3 and "changed by somebody else" in done.stderr
    kept = done.stderr.strip().rsplit(" ", 1)[1]
    assert "; mine" in pair.shell("node-a", f"cat {kept}") and "; mine" not in pair.files("node-a")["p1.conf"][1].decode()

    line = "EDITOR='sed -i s/infinity/7000/' ha-agent edit p2 --yes --confirm"

    def on_terminal(typed: str, wait_s: float, confirm: str = "60s") -> str:
        """Edits p2 on a terminal, types a line after a while, and returns what was shown."""
        session = f'timeout 60 script -qec "{line} {confirm}" /dev/null'
        return pair.shell("node-a", f"(sleep {wait_s}; printf '{typed}') | {session} || true")

    assert "taken back" in on_terminal("n\\n", 4) and "sleep 7000" not in seconds()
    wait_for("the old text", lambda: pair.files("node-a")["p2.conf"] == before["p2.conf"], 10, 0.1)
    assert "taken back" in on_terminal("", 12, "3s") and "sleep 7000" not in seconds()
    assert "taken back" in on_terminal("\\003", 4) and "sleep 7000" not in seconds()
    pair.shell("node-a", f'(sleep 60 | script -qec "{line} 60s" /dev/null) > /tmp/gone 2>&1 & sleep 0.1')
    wait_for("the edit is loaded", lambda: "sleep 7000" in seconds(), 15, 0.2)
    pair.shell("node-a", "pkill -x script")
    wait_for("the terminal's end takes it back", lambda: "sleep 7000" not in seconds(), 15, 0.2)
    wait_for("the old text", lambda: pair.files("node-a")["p2.conf"] == before["p2.conf"], 10, 0.1)
    assert "taken back" not in on_terminal("y\\n", 4) and "sleep 7000" in seconds()
    pair.await_equal()


@pytest.mark.shared_lab
def test_supzcli_answers_a_slip_with_what_it_may_have_been(pair: Pair) -> None:
    up(pair)
    done = pair.sup("node-a", "frob")
    assert (done.returncode, done.stderr) == (2, "supzcli: no action 'frob'; supzcli help lists all\n")
    assert pair.sup("node-a", "statsu").stderr == "supzcli: no action 'statsu'; did you mean status?\n"
    done = pair.sup("node-a", "stop", "p00")
    assert "p00: ERROR (no such process)" in done.stdout and "there is no p00; did you mean p0?" in done.stderr
    assert pair.runs("node-a") == THREE
    session = pair.sup("node-a", typed="exit\n")
    assert session.returncode == 0 and session.stdout.endswith("GoodBye\n")
    with open(pair.path("node-a", "计费.conf"), "w", encoding="utf-8") as file:
        file.write("[program:计费]\ncommand=/bin/sleep infinity\nstartsecs=0\n")
    assert pair.sup("node-a", "update").returncode == 0
    rows = [line for line in pair.sup("node-a", "status").stdout.splitlines() if "RUNNING" in line]
    assert len({width_of(line[: line.index("RUNNING")]) for line in rows}) == 1 and any("计费" in line for line in rows)
    text = subprocess.run(
        pair.lab.words_inside("node-a", ["ha-agent", "setup-node", "facts"]), capture_output=True, text=True, input=""
    )
    assert text.returncode == 2 and text.stdout == "" and "run by ha-agent setup" in text.stderr
