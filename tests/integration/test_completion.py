"""Completion as a hand gets it: real shells on a terminal, a key that completes, and the command line that comes out."""

from __future__ import annotations

import os
import pathlib
import pty
import select
import shutil
import subprocess
import time

import pytest

SHARE = pathlib.Path(__file__).parents[2] / "share"
LIMIT_S = 20.0

FAKE = """\
#!/bin/sh
case "$*" in
"names kept") printf 'node-b:3.17/redis.conf\\nnode-a:4.1/web.conf\\n' ;;
"names programs") printf 'billing\\ngateway\\n' ;;
"names words") printf 'active set\\nepoch\\n' ;;
"names nodes") printf 'node-a\\nnode-b\\n' ;;
names*) ;;
status) printf 'billing   RUNNING pid 1\\nweb:api   PARKED\\n' ;;
*) printf '%s %s\\n' "${0##*/}" "$*" >>"$HOME/called" ;;
esac
"""

SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "PS1=; . '{share}/bash-completion/ha-agent'; . '{share}/bash-completion/supzcli'",
    ),
    "zsh": (["zsh", "-f", "-i"], "PS1=; fpath=('{share}/zsh' $fpath); autoload -U compinit; compinit -u -D"),
}

LINES = [
    ("ha-agent failover-t", "ha-agent failover-test"),
    ("ha-agent kept resto", "ha-agent kept restore"),
    ("ha-agent kept restore node-b", "ha-agent kept restore node-b:3.17/redis.conf"),
    ("ha-agent kept restore node-a:4", "ha-agent kept restore node-a:4.1/web.conf"),
    ("ha-agent edit bil", "ha-agent edit billing"),
    ("ha-agent history --program gat", "ha-agent history --program gateway"),
    ("ha-agent failover-test --mode keep", "ha-agent failover-test --mode keepalived-kill"),
    ("ha-agent explain ep", "ha-agent explain epoch"),
    ("supzcli dereg", "supzcli deregister"),
    ("supzcli stop bil", "supzcli stop billing"),
    ("supzcli stop --ke", "supzcli stop --keep"),
]


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A home with commands that say what may stand where, and note how else they were called."""
    (tmp_path / "bin").mkdir()
    for name in ("ha-agent", "supzcli"):
        fake = tmp_path / "bin" / name
        fake.write_text(FAKE, encoding="ascii")
        fake.chmod(0o755)
    return tmp_path


def environment(home: pathlib.Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def type_into(words: list[str], typed: str, home: pathlib.Path, wanted: int) -> list[str]:
    """Types into a shell on a terminal; returns how the commands were called, once that is ``wanted`` times."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, env=environment(home), cwd=home, start_new_session=True
    )
    os.close(slave)
    called, printed = home / "called", b""
    deadline = time.monotonic() + LIMIT_S
    try:
        for line in typed.splitlines(keepends=True):
            os.write(master, line.encode())
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.05)[0]:
                printed += os.read(master, 65536)
            if called.exists() and len(lines := called.read_text(encoding="utf-8").splitlines()) >= wanted:
                return [line.strip() for line in lines]
        raise AssertionError(
            f"called: {called.read_text() if called.exists() else ''}; printed: {printed.decode(errors='replace')}"
        )
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_key_completes_commands_options_and_names(shell: str, home: pathlib.Path) -> None:
    words, begin = SHELLS[shell]
    assert shutil.which(words[0]), f"{shell} is not here; make setup brings it"
    typed = begin.format(share=SHARE) + "\n" + "".join(f"{line}\t\n" for line, _ in LINES)
    assert type_into(words, typed, home, len(LINES)) == [line for _, line in LINES]


@pytest.mark.parametrize(("line", "wanted"), LINES)
def test_fish_offers_the_same(line: str, wanted: str, home: pathlib.Path) -> None:
    assert shutil.which("fish"), "fish is not here; make setup brings it"
    program = line.split()[0]
    script = f"source '{SHARE}/fish/{program}.fish'; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], env=environment(home), capture_output=True, text=True, timeout=LIMIT_S
    )
    offered = [row.split("\t")[0] for row in done.stdout.splitlines()]
    assert wanted.split()[-1] in offered and done.stderr == "", done
