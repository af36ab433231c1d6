"""Votes: a pair with a witness never runs its programs twice, in a full partition either, and stops for no single loss."""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time

import pytest

from ha_agent.lab.keys import make_key_pair
from ha_agent.lab.layout import ADDRESSES, MEMBERS, NODES, WITNESS
from tests.lab_support import SLEEPER, Pair, stays, wait_for

THREE = {"p0", "p1", "p2"}

TTL_S = 3.0
"""``witness.ttl_s`` by default."""

A, B = NODES
LINKS = ((A, B), (A, WITNESS), (B, WITNESS))
SUBSETS = [cut for count in (1, 2, 3) for cut in itertools.combinations(LINKS, count)]


def begin(pair: Pair, kind: str = "ssh") -> None:
    """A pair with a witness, whose node-a is active and has all three votes."""
    pair.up(witness=kind)
    pair.await_runs(A, THREE)
    # A node that has just booted promises nothing for a while: the peer's vote comes after the programs.
    wait_for("all three votes", lambda: len(pair.lab.status(A)["votes"]["promised"]) == 3, 3 * TTL_S, 0.1)


def cut(pair: Pair, *links: tuple[str, str], way: str = "both") -> None:
    """Cuts the links: what goes from the first to the second of each ("there"), what comes back, or both."""
    for one, two in links:
        if way != "back":
            pair.lab.sever(one, two)
        if way != "there":
            pair.lab.sever(two, one)


def heal(pair: Pair) -> None:
    """Joins everybody with everybody."""
    for source, target in itertools.permutations(MEMBERS, 2):
        pair.lab.join(source, target)


def show(pair: Pair) -> dict[str, list[str]]:
    return {node: sorted(pair.runs(node)) for node in NODES}


def who_runs(pair: Pair) -> str:
    """The node that runs everything while the other one runs nothing; "" where there is none."""
    return next((n for n, m in (NODES, NODES[::-1]) if pair.runs(n) == THREE and not pair.runs(m)), "")


def await_one(pair: Pair, limit_s: float = 20.0) -> str:
    """Waits until exactly one node runs everything; returns which."""
    return wait_for("one node runs everything", lambda: who_runs(pair), limit_s, 0.05, lambda: show(pair))


@pytest.mark.parametrize("kind", ["ssh", "etcd"])
def test_a_witness_that_is_cut_off_stops_nothing_and_neither_does_a_peer(pair: Pair, kind: str) -> None:
    """Hazard 58.

    Fault: the witness is cut off from both nodes, and after it is back the standby's machine is switched off.
    Answer: two votes are left each time: nothing happens.
    Bound: none needed.
    """
    begin(pair, kind)
    cut(pair, (A, WITNESS), (B, WITNESS))
    stays("the programs run", lambda: pair.runs(A) == THREE, 3 * TTL_S, lambda: show(pair))
    heal(pair)
    time.sleep(TTL_S)
    pair.lab.power_off(B)
    stays("the programs run", lambda: pair.runs(A) == THREE, 3 * TTL_S, lambda: show(pair))


@pytest.mark.shared_lab("votes")
@pytest.mark.parametrize("kind", ["ssh", "etcd"])
def test_in_a_full_partition_nobody_runs_and_one_node_does_when_it_ends(pair: Pair, kind: str) -> None:
    """Hazard 58.

    Fault: none of the three reaches another one.
    Answer: the active node's programs are killed before its promises end; the standby starts none. Local programs and
    supervisord live on.
    Bound: witness.ttl_s without votes; never twice.
    """
    begin(pair, kind)
    before = pair.lab.unit(A, "show", "supervisord")["supervisord"]
    cut(pair, *LINKS)
    wait_for("nothing runs", lambda: not pair.runs(A) and not pair.runs(B), TTL_S + 0.5)
    stays("nothing runs", lambda: not pair.runs(A) and not pair.runs(B), 2 * TTL_S)
    assert pair.history(A, "votes-lost")
    assert pair.lab.unit(A, "show", "supervisord")["supervisord"] == before
    heal(pair)
    await_one(pair)


@pytest.mark.shared_lab("votes")
@pytest.mark.parametrize("way", ["both", "there", "back"])
def test_whatever_links_are_cut_one_node_runs_where_two_votes_can_meet(pair: Pair, way: str) -> None:
    """Hazard 58.

    Fault: each of the 7 sets of links between node-a, node-b and the witness is cut, in both directions or in one.
    Answer: exactly one node runs everything and has the VIP; none does where all three are cut.
    Bound: 15 s without the programs; never twice.
    """
    begin(pair)
    for links in SUBSETS:
        pair.lab.wait_settled()
        cut(pair, *links, way=way)
        time.sleep(TTL_S)
        if len(links) == len(LINKS):
            wait_for("nothing runs", lambda: not pair.runs(A) and not pair.runs(B), TTL_S)
            stays("nothing runs", lambda: not pair.runs(A) and not pair.runs(B), TTL_S)
        else:
            one = await_one(pair, 12.0)
            stays(f"{one} runs, without {links}", lambda one=one: who_runs(pair) == one, TTL_S, lambda: show(pair))  # type: ignore[misc]
            vips = {node: pair.lab.status(node)["vip"] for node in NODES}
            assert vips == {node: node == one for node in NODES}, (links, vips)
        heal(pair)
        await_one(pair)


@pytest.mark.shared_lab("votes")
def test_the_programs_move_to_the_node_that_the_witness_reaches(pair: Pair) -> None:
    """Hazard 58.

    Fault: the two nodes do not reach each other; then the active one does not reach the witness either.
    Answer: the active node goes on with two votes, and the standby gives up the VIP; then the standby takes over.
    Bound: three times witness.ttl_s without the programs; never twice.
    """
    begin(pair)
    cut(pair, (A, B))
    stays("the programs run where they ran", lambda: pair.runs(A) == THREE and not pair.runs(B), 3 * TTL_S)
    assert not pair.lab.status(B)["vip"], "the VIP follows the votes"
    cut(pair, (A, WITNESS))
    pair.await_runs(B, THREE, 3 * TTL_S)
    assert not pair.lab.status(A)["vip"]
    heal(pair)
    await_one(pair)


def test_an_agent_that_is_stopped_has_its_programs_killed_before_the_other_node_starts_them(pair: Pair) -> None:
    """Hazard 59.

    Fault: the active node's agent is stopped (SIGSTOP), and keepalived gives up MASTER.
    Answer: the keeper kills what it ran; the other node takes over when the promises have ended.
    Bound: three times witness.ttl_s; never twice.
    """
    begin(pair)
    pair.lab.unit(A, "kill", "ha-agent", signal.SIGSTOP)
    pair.lab.unit(A, "stop", "keepalived")
    pair.await_runs(B, THREE, 3 * TTL_S)
    assert not pair.runs(A)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("kind", ["ssh", "etcd"])
def test_a_witness_that_is_stopped_or_killed_stops_nothing(pair: Pair, kind: str, number: signal.Signals) -> None:
    """Hazard 59.

    Fault: the witness's processes are stopped (SIGSTOP), or killed and started again after a second.
    Answer: the other two votes are left.
    Bound: none needed.
    """
    begin(pair, kind)
    time.sleep(TTL_S)
    if number is signal.SIGSTOP:
        pair.lab.freeze(WITNESS)
    else:
        pair.shell(WITNESS, "cd /proc; for p in [0-9]*; do [ $p -eq 1 ] || [ $p -eq $$ ] || kill -KILL $p || true; done")
    stays("the programs run", lambda: pair.runs(A) == THREE, 3 * TTL_S)
    pair.lab.thaw(WITNESS)
    wait_for("the record is renewed", lambda: "witness" in promised(pair, A), 3 * TTL_S, 0.1)


def promised(pair: Pair, node: str) -> list[str]:
    """Who has promised ``node`` a vote, by its own word."""
    votes = pair.lab.status(node)["votes"]
    return list(votes["promised"]) if votes else []


def test_a_keeper_that_is_killed_or_an_agent_that_is_restarted_costs_nothing(pair: Pair) -> None:
    """Hazard 59.

    Fault: the active node's keeper is killed, then its agent, then both.
    Answer: each is back before the promises end, and goes on.
    Bound: none needed.
    """
    begin(pair)
    time.sleep(TTL_S)
    for units in (["keeper"], ["ha-agent"], ["keeper", "ha-agent"]):
        for unit in units:
            pair.lab.unit(A, "kill", unit, signal.SIGKILL)
        stays("the programs run", lambda: pair.runs(A) == THREE, 2 * TTL_S)


def test_a_keeper_that_is_stopped_moves_the_programs_to_the_other_node(pair: Pair) -> None:
    """Hazard 59.

    Fault: the active node's keeper is stopped (SIGSTOP).
    Answer: nothing runs beyond what the keeper has confirmed: the node releases, gives up the VIP, and the other one takes
    over. The keeper, continued after its deadline, kills nothing of the other node.
    Bound: three times witness.ttl_s; never twice.
    """
    begin(pair)
    time.sleep(TTL_S)
    pair.lab.unit(A, "kill", "keeper", signal.SIGSTOP)
    pair.await_runs(B, THREE, 4 * TTL_S)
    assert not pair.runs(A)
    pair.lab.unit(A, "kill", "keeper", signal.SIGCONT)
    stays("the programs run there", lambda: pair.runs(B) == THREE, TTL_S)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("unit", ["ha-agent", "keeper"])
@pytest.mark.parametrize("after_s", [0.3, 1.5, 2.6])
def test_a_takeover_by_votes_bears_the_loss_of_agent_and_keeper(
    pair: Pair, unit: str, number: signal.Signals, after_s: float
) -> None:
    """Hazard 59.

    Fault: the active node's power is cut; while the other one waits for its votes, or starts its programs, its agent or its
    keeper is killed, or stopped for 5 s.
    Answer: it starts them when it is back.
    Bound: 30 s; no program twice on one node either.
    """
    begin(pair)
    time.sleep(TTL_S)
    pair.lab.power_off(A)
    time.sleep(after_s)
    pair.lab.unit(B, "kill", unit, number)
    if number is signal.SIGSTOP:
        time.sleep(5.0)
        pair.lab.unit(B, "kill", unit, signal.SIGCONT)
    pair.await_runs(B, THREE, 30)
    stays("the programs run", lambda: pair.runs(B) == THREE, TTL_S)
    assert not pair.probe.doubles


SLOW = "/bin/bash -c 'trap \"\" TERM; while :; do sleep 0.1; done'"


@pytest.mark.parametrize("fault", ["none", "partition", "stop-agent", "kill-agent", "kill-keeper"])
def test_programs_that_stop_slowly_stop_under_votes(pair: Pair, fault: str) -> None:
    """Hazard 59.

    Fault: keepalived gives up MASTER on a node with a program that needs 6 s to stop; meanwhile nothing else, or all links
    are cut, or its agent is stopped for good or killed, or its keeper is killed.
    Answer: the other node waits for the votes, which are renewed as long as something runs; where they end, what runs is
    killed before.
    Bound: 6 s and twice witness.ttl_s, and the time of the fault; never twice.
    """
    pair.up(
        {"slow.conf": SLEEPER.format(name="slow").replace("/bin/sleep infinity", SLOW).replace("=3", "=6")}, witness="ssh"
    )
    pair.await_runs(A, {"slow"})
    time.sleep(TTL_S)
    pair.shell(A, "echo 1 > /run/ha-agent/track")
    wait_for("it releases", lambda: pair.role(A) == "releasing", 5, 0.02)
    time.sleep(0.5)
    if fault == "partition":
        cut(pair, *LINKS)
        wait_for("it is killed", lambda: not pair.runs(A), TTL_S)
        heal(pair)
    elif fault == "stop-agent":
        pair.lab.unit(A, "kill", "ha-agent", signal.SIGSTOP)
    elif fault != "none":
        pair.lab.unit(A, "kill", "ha-agent" if fault == "kill-agent" else "keeper", signal.SIGKILL)
    began = time.monotonic()
    if fault == "kill-agent":
        # Its successor knows nothing of the hand-written 1 in the track file: either node may be MASTER then.
        wait_for("one node", lambda: sorted(len(pair.runs(n)) for n in NODES) == [0, 1], 6 + 4 * TTL_S, 0.05)
        stays("one node", lambda: sum(len(pair.runs(n)) for n in NODES) < 2, TTL_S)
    else:
        pair.await_runs(B, {"slow"}, 6 + 4 * TTL_S)
    if fault == "none":
        assert time.monotonic() - began > 4.0, "it was not killed before its time"


def test_a_planned_move_hands_the_votes_over(pair: Pair) -> None:
    """Moves with a witness.

    Fault: none; keepalived gives up MASTER.
    Answer: the votes go with the programs, without a wait.
    Bound: 1.5 s; 0.2 s in the lab at rest.
    """
    begin(pair)
    time.sleep(TTL_S)
    pair.shell(A, "echo 1 > /run/ha-agent/track")
    wait_for("the programs leave", lambda: pair.runs(A) != THREE, 3.0)
    began = time.monotonic()
    pair.await_runs(B, THREE, 5)
    assert time.monotonic() - began < 1.5
    epochs = [int(pair.shell(node, "setpriv --reuid=65534 cat /run/ha-agent/epoch").partition("=")[2]) for node in NODES]
    assert epochs[1] > epochs[0] > 0, "every program may know the number of the takeover, which grows"


def test_a_fence_that_succeeds_saves_the_wait_for_the_promises(pair: Pair) -> None:
    """Votes of a fenced peer.

    Fault: the active node's power is cut; fence_command succeeds.
    Answer: what the fenced machine counted is void, so the other node has two votes at once.
    Bound: 2 s; without a fence the rest of witness.ttl_s.
    """
    pair.up(witness="ssh", overrides={"takeover": {"fence_command": ["/bin/true"]}})
    pair.await_runs(A, THREE)
    time.sleep(TTL_S)
    pair.lab.power_off(A)
    began = time.monotonic()
    pair.await_runs(B, THREE, 10)
    assert time.monotonic() - began < 2.0
    assert pair.history(B, "interlock-settled")[-1]["fence_exit"] == 0


def test_the_faces_say_which_vote_is_missing(pair: Pair) -> None:
    """Votes on every face.

    Fault: the witness is cut off from both nodes.
    Answer: status, doctor, an alert and ``ha-agent witness`` say so on both nodes.
    Bound: 15 s.
    """
    begin(pair)
    wait_for("all votes", lambda: len(promised(pair, A)) == 3, 3 * TTL_S, 0.1)
    for node in NODES:
        assert pair.ha(node, "witness", "status").returncode == 0
        tried = pair.ha(node, "witness", "test")
        assert tried.returncode == 0 and "the record is node-a's" in tried.stdout, tried.stdout + tried.stderr
    assert "3 of 3: self, node-b, witness" in pair.ha(B, "status").stdout
    for node in NODES:
        looked = pair.ha(node, "doctor", "--all", "--json")
        found = {f["code"]: f for f in json.loads(looked.stdout)["nodes"][0]["findings"]}
        ours = ("witness", "witness-answers", "witness-way", "clock-rate", "votes-kill")
        assert [found[code]["severity"] for code in ours] == ["ok"] * len(ours), found
        assert not found.keys() & {"keeper-unarmed", "keeper-down"}, found
    assert stays_quiet(pair), "a connection of its own leaves the agent's alone"
    cut(pair, (A, WITNESS), (B, WITNESS))
    wait_for("both tell of it", lambda: all("vote-missing" in pair.ha(n, "alert", "list").stdout for n in NODES), 20, 0.3)
    said = pair.ha(A, "witness", "status")
    assert said.returncode == 1 and "votes 2 of 3: self, node-b; witness silent for" in said.stdout
    assert pair.ha(B, "witness", "test").returncode == 1
    assert "WARNING" in pair.ha(A, "status").stdout.splitlines()[0]
    assert json.loads(pair.ha(A, "witness", "status", "--json").stdout)["nodes"][0]["votes"]["witness_silent_s"] > TTL_S
    assert "witness silent" in pair.ha(B, "doctor").stdout


def stays_quiet(pair: Pair) -> bool:
    """Whether no node has an alert of votes or keeper."""
    return not any(word in pair.ha(n, "alert", "list").stdout for n in NODES for word in ("vote-missing", "keeper-down"))


def test_a_witness_is_added_to_a_pair_at_work_and_taken_away_without_a_stop(pair: Pair) -> None:
    """A witness for a pair at work.

    Fault: none; agent.toml names a witness, and later none, and each agent is restarted, the standby's first.
    Answer: no program stops or starts; the node holds votes after a moment, and none in the end.
    Bound: 15 s.
    """
    pair.up(witness="ssh", overrides={"witness": {"kind": ""}})
    pair.await_runs(A, THREE)
    pair.await_in_sync(A)
    before = pair.shell(A, "supervisorctl pid all")
    for kind, old in (("ssh", ""), ("", "ssh")):
        for node in (B, A):
            pair.shell(node, f'sed -i \'s/^kind = "{old}"/kind = "{kind}"/\' /etc/ha-agent/agent.toml')
            pair.kill_agent(node)
            time.sleep(1.0)
        if kind:
            wait_for("votes are used", lambda: (pair.lab.status(A)["votes"] or {"used": False})["used"], 15, 0.1)
        stays("the programs run", lambda: pair.runs(A) == THREE and not pair.runs(B), 2 * TTL_S)
        assert pair.shell(A, "supervisorctl pid all") == before
    assert pair.lab.status(A)["votes"] is None


# ---- witness install ---------------------------------------------------------------------------------------------

OPERATOR = """\
sed -i -e /^KexAlgorithms/d -e 's/^PermitRootLogin .*/PermitRootLogin prohibit-password/' \\
    -e 's|^AuthorizedKeysFile .*|AuthorizedKeysFile {files}|' /etc/ssh/sshd_config
echo 'SetEnv PATH={path}' >> /etc/ssh/sshd_config
mkdir -p -m 700 /run/lab/home/.ssh /root/.ssh
cat > {home}/.ssh/authorized_keys
chmod 600 {home}/.ssh/authorized_keys
kill -HUP $(cat /run/sshd.pid)
"""
"""Has a lab node's sshd let an operator in as root, as an ordinary machine's does, and root's commands find ha-agent."""


def let_operator_in(pair: Pair) -> dict[str, str]:
    """Gives node-a's root a key of his own that all three let in; returns each machine's fingerprint."""
    private, public = make_key_pair("operator")
    home = "/run/lab/home"
    pair.shell(A, f"umask 077; mkdir -p {home}/.ssh; echo '{private}' > {home}/.ssh/id_ed25519")
    for member in MEMBERS:
        ours = f"{sys.prefix}/bin:" if member != WITNESS else ""
        path = f"{ours}/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = "/etc/ssh/ha-agent_authorized_keys" if member != WITNESS else ""
        # The key of the peer's agent stands first on the nodes; the witness is a machine as it was installed.
        files = f"{own} .ssh/authorized_keys".strip()
        script = OPERATOR.format(files=files, path=path, home=home).replace("cat >", f"echo '{public}' >")
        pair.shell(member, script)
        pair.shell(member, "ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key > /etc/ssh/ssh_host_ed25519_key.pub")
    words = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    return {member: pair.shell(member, words).split()[1] for member in MEMBERS}


def test_a_witness_is_installed_on_a_third_host_over_ssh_and_taken_back(pair: Pair) -> None:
    """Witness install.

    Fault: none; a third host has sshd and python3, and nothing else.
    Answer: one command on one node makes it the witness of both: a user, one file, two keys, the host key pinned; nothing is
    changed before it is shown; a second run changes nothing; --remove leaves no trace.
    Bound: none needed.
    """
    pair.up(witness="ssh", overrides={"witness": {"kind": "", "host": "", "ssh_user": "ha-agent-witness"}})
    pair.await_runs(A, THREE)
    prints = let_operator_in(pair)
    host = ADDRESSES[WITNESS]
    pair.shell(WITNESS, "rm -f /etc/ssh/ha-agent_authorized_keys")
    # What a lab has of /usr can only be read.
    pair.shell(WITNESS, "mount -t tmpfs none /usr/local/lib")
    for node in NODES:
        pair.shell(node, f"sed -i '/^{host}/d' /etc/ha-agent/ssh/known_hosts")
    words = ["witness", "install", host, "--fingerprint", prints[WITNESS], "--peer-fingerprint", prints[B]]
    files = "cat /etc/ha-agent/agent.toml /etc/ha-agent/ssh/known_hosts"
    before = {node: pair.shell(node, files) for node in NODES}

    shown = pair.run_as(A, "root", "ha-agent", *words, "--dry-run")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "nothing was changed" in shown.stdout and '+kind = "ssh"' in shown.stdout and "+restrict,command=" in shown.stdout
    assert {node: pair.shell(node, files) for node in NODES} == before
    assert "ha-agent-witness" not in pair.shell(WITNESS, "cat /etc/passwd")
    known = ("--fingerprint", prints[B], *words[5:])
    refused = pair.run_as(A, "root", "ha-agent", "witness", "install", ADDRESSES[B], *known, "--yes")
    assert refused.returncode == 1 and "is a node of the pair" in refused.stderr, refused.stderr

    done = pair.run_as(A, "root", "ha-agent", *words, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "node-a: the witness (ssh) answers" in done.stdout and "node-b: the witness (ssh) answers" in done.stdout
    for node in NODES:
        tried = pair.ha(node, "witness", "test")
        assert tried.returncode == 0 and "it keeps no record yet" in tried.stdout, tried.stdout
    again = pair.run_as(A, "root", "ha-agent", *words, "--yes")
    assert again.returncode == 0 and "already" in again.stdout and "+++" not in again.stdout, again.stdout
    for node in (B, A):
        pair.lab.unit(node, "restart", "ha-agent")
        wait_for("it holds or knows the votes", lambda n=node: pair.lab.status(n)["votes"] is not None, 15, 0.1)  # type: ignore[misc]
    wait_for("all three votes", lambda: len(promised(pair, A)) == 3, 15, 0.1)
    assert pair.runs(A) == THREE

    refused = pair.run_as(A, "root", "ha-agent", *words, "--yes", "--remove")
    assert refused.returncode == 3 and "works with this witness" in refused.stderr, refused.stderr
    for node in (B, A):
        pair.shell(node, 'sed -i \'s/^kind = "ssh"/kind = ""/\' /etc/ha-agent/agent.toml')
        pair.lab.unit(node, "restart", "ha-agent")
        wait_for("no votes", lambda n=node: pair.lab.status(n)["votes"] is None, 15, 0.1)  # type: ignore[misc]
    pair.lab.wait_settled()
    gone = pair.run_as(A, "root", "ha-agent", *words, "--yes", "--remove")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert host not in pair.shell(A, "cat /etc/ha-agent/ssh/known_hosts")
    assert "ha-agent-witness" not in pair.shell(WITNESS, "cat /etc/passwd"), gone.stdout
    places = "/var/lib/ha-agent-witness /usr/local/lib/ha-agent-witness"
    assert pair.shell(WITNESS, f"find {places} -mindepth 1 2>/dev/null || true") == "", gone.stdout
