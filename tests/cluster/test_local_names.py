"""Names that supervisord has outside the registry: no registration and no conf of the registry takes one."""

from __future__ import annotations

import pytest

from tests.lab_support import Pair, wait_for

LOCAL = "[program:cronlike]\ncommand=/bin/sleep infinity\nstartsecs=0\n"
CONF = "/etc/supervisor/local.d/cronlike.conf"


def add_local(pair: Pair, node: str) -> str:
    """Adds the local program; returns its process id."""
    pair.shell(node, f"cat >{CONF} <<'END'\n{LOCAL}END")
    pair.shell(node, "supervisorctl update cronlike")
    return pair.shell(node, "supervisorctl pid cronlike").strip()


def test_a_conf_with_a_local_programs_name_is_named_by_both_nodes_and_replaces_nothing(pair: Pair) -> None:
    """The rule of `local-program-replaced`: a conf of the registry has a program that is local on one node.

    Fault: node-b has a local program of that name.
    Answer: node-b names the conf beforehand; after a switchover the local program runs on there, and the others are loaded.
    Bound: named within 2 s.
    """
    pair.up()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    before = add_local(pair, "node-b")
    with open(pair.path("node-a", "cronlike.conf"), "w", encoding="utf-8") as file:
        file.write(LOCAL.replace("infinity", "1000"))
    wait_for("node-b's verdict", lambda: "cronlike.conf" in pair.lab.status("node-b")["readiness"]["problems"], 2, 0.1)
    pair.hand_over("node-b")
    pair.await_runs("node-b", {"p0", "p1", "p2", "cronlike"})
    assert pair.shell("node-b", "supervisorctl pid cronlike").strip() == before
    assert "local program" in pair.ha("node-b", "status").stdout


@pytest.mark.parametrize(
    ("name", "where"), [("ha-agent-listener", "node-a"), ("cronlike", "node-a"), ("cronlike", "node-b")]
)
def test_a_registration_under_a_local_programs_name_is_refused(pair: Pair, name: str, where: str) -> None:
    """The rule of `local-program-replaced`: a member registers a program under the name of one that is root's own.

    Fault: a program.ini in a folder of that name, for a program that is local here or there, with a priority before it.
    Answer: the registration is refused with the name and the node; nothing is written; the local program runs on.
    Bound: at once.
    """
    pair.up()
    pair.await_runs("node-a", {"p0", "p1", "p2"})
    pair.await_in_sync("node-a")
    before = add_local(pair, where) if name == "cronlike" else pair.shell(where, f"supervisorctl pid {name}").strip()
    assert int(before) > 0
    made = f"mkdir {name} && printf '[program:{name}]\\ncommand=/bin/sleep 1000\\npriority=0\\n' >{name}/program.ini"
    assert pair.run_as("node-a", "alice", "sh", "-euc", made).returncode == 0
    refused = pair.run_as("node-a", "alice", "supzcli", "register", name)
    assert refused.returncode != 0 and f"{name} is the name of a local program" in refused.stderr, refused
    assert ("at node-b" in refused.stderr) is (where == "node-b")
    assert f"{name}.conf" not in pair.files("node-a") and pair.runs("node-a") - {name} == {"p0", "p1", "p2"}
    assert pair.shell(where, f"supervisorctl pid {name}").strip() == before
