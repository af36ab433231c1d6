"""``ha-agent lab``: the command line of the lab."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from ha_agent.adapters.status_screen import render_status
from ha_agent.core.width import pad
from ha_agent.core.words import Exit
from ha_agent.lab import examples, writes
from ha_agent.lab.control import Lab, LabFailed
from ha_agent.lab.layout import (
    BLOCKS,
    DEFAULT_NAME,
    MEMBERS,
    NODES,
    PREFIX,
    VIP,
    WITNESS,
    WITNESS_KINDS,
    default_root,
    lab_command,
)
from ha_agent.lab.network import MOST_PATHS
from ha_agent.lab.node_init import ETCD, KEEPER, UNITS

UNIT_NAMES = [unit.name for unit in (*UNITS, KEEPER, ETCD)]

SAMPLE_CONF = """\
[program:sample-{number}]
command=/bin/sleep infinity
autostart=true
autorestart=true
"""


def lab_name(text: str) -> str:
    """A name that is one folder below the root of labs, and fits into names of interfaces and hosts; for argparse."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be 1 to 32 letters, digits, '_' or '-'")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The grammar of ``ha-agent lab``."""
    parser = argparse.ArgumentParser(
        prog="ha-agent lab",
        description="A pair in namespaces on this machine: real keepalived, sshd, rsync, supervisord and the agent. "
        "Nothing of it is seen by the machine itself, and `down` leaves nothing behind.",
        epilog="example: ha-agent lab up; ha-agent lab exec node-a -- ha-agent status; ha-agent lab power-off node-a",
    )
    parser.add_argument(
        "--name", type=lab_name, default=DEFAULT_NAME, help="which lab; several can be up at once (default: lab)"
    )
    parser.add_argument("--root", default=default_root(), metavar="DIR", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="build the pair and boot both nodes")
    up.add_argument("--programs", type=int, default=3, metavar="N", help="sample programs in the registry (default 3)")
    up.add_argument("--paths", type=int, default=1, choices=range(1, MOST_PATHS + 1), help="networks between the nodes")
    vip_help = f"a virtual address, IPv4 or IPv6; again for several (default {VIP}/{PREFIX})"
    up.add_argument("--vip", action="append", default=[], metavar="ADDRESS/BITS", help=vip_help)
    up.add_argument(
        "--witness", choices=WITNESS_KINDS, default="", help="a third node as the witness of the votes, and the keepers"
    )
    with_help = f"shipped examples (docs/examples.md): {examples.ALL}, which is all of them, or one; again for several"
    up.add_argument(
        "--with", action="append", default=[], choices=(examples.ALL, *examples.EXAMPLES), dest="added", help=with_help
    )
    up.set_defaults(run=_up)
    commands.add_parser("down", help="end everything and remove it").set_defaults(run=_down)
    commands.add_parser("status", help="what both nodes say of the pair").set_defaults(run=_status)
    run = commands.add_parser("exec", help="run a command on a node", usage="ha-agent lab exec NODE -- CMD...")
    run.add_argument("node", choices=MEMBERS)
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    run.set_defaults(run=_exec)
    write = commands.add_parser("writes", help="write to the redis of the examples as a client, and say what was lost")
    write.add_argument("--for", type=float, default=10.0, dest="seconds", metavar="S", help="how long (default 10 s)")
    write.add_argument("--json", action="store_true", help="the account as one JSON object")
    write.set_defaults(run=_writes)
    commands.add_parser("ls", help="the labs that there are, and whether they are up").set_defaults(run=_ls)
    for name, text in (
        ("power-off", "cut a node's power: SIGKILL to everything, an empty /run afterwards"),
        ("power-on", "boot it again"),
        ("freeze", "stop all its processes (SIGSTOP), as a hypervisor or a dying disk does; its kernel still answers"),
        ("thaw", "let them continue"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("node", choices=MEMBERS)
        command.set_defaults(run=_power)
    for name, text, end in (
        ("cut", "pull a node's network cable, or have nothing get through between two", "nothing gets through to this one"),
        ("heal", "lift that", "of a cut between two"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("node", choices=MEMBERS)
        command.add_argument("other", nargs="?", choices=MEMBERS, help=f"{end}; its own cable stays in")
        command.add_argument("--one-way", action="store_true", help="only what NODE sends to OTHER")
        command.add_argument("--path", type=int, metavar="N", help="the cable of this path alone, from 1")
        command.set_defaults(run=_cut)
    block = commands.add_parser("block", help="drop one kind of traffic with the peer, or some of all; the carrier stays")
    unblock = commands.add_parser("unblock", help="lift that")
    block.add_argument("--path", type=int, metavar="N", help="on this path alone, from 1")
    for command, run_it in ((block, _block), (unblock, _unblock)):
        command.add_argument("node", choices=NODES)
        command.add_argument("what", choices=BLOCKS)
        command.set_defaults(run=run_it)
    block.add_argument("--percent", type=int, default=50, metavar="N", help="loss: how much is lost either way (default 50)")
    logs = commands.add_parser("logs", help="print a node's logs")
    logs.add_argument("node", choices=MEMBERS)
    logs.add_argument("unit", nargs="?", choices=[*UNIT_NAMES, "init"], default="ha-agent")
    logs.set_defaults(run=_logs)
    unit = commands.add_parser("unit", help="start, stop, restart or kill a unit of a node, or show them")
    unit.add_argument("node", choices=MEMBERS)
    unit.add_argument("action", choices=("start", "stop", "restart", "kill", "show"))
    unit.add_argument("unit", nargs="?", choices=UNIT_NAMES, default="ha-agent")
    unit.set_defaults(run=_unit)
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs one command of the lab; returns its exit status."""
    options = build_parser().parse_args(argv)
    lab = Lab(os.path.join(options.root, options.name))
    try:
        return int(options.run(lab, options))
    except LabFailed as error:
        print(f"ha-agent lab: {error}", file=sys.stderr)
        return Exit.FAILED
    except KeyboardInterrupt:
        return 130


def _up(lab: Lab, options: argparse.Namespace) -> int:
    began = time.monotonic()
    confs = {f"sample-{n}.conf": SAMPLE_CONF.format(number=n) for n in range(1, options.programs + 1)}
    if options.vip and options.added:
        raise LabFailed("the examples have the lab's own VIP in their settings: --with and --vip do not go together")
    added = examples.add_examples(lab, options.added)
    lab.up(
        confs={**confs, **added.confs},
        overrides=added.overrides,
        prepare=added.prepare,
        paths=options.paths,
        vips=options.vip,
        witness=options.witness,
    )
    nodes = " and ".join(NODES) + (f", {WITNESS} ({options.witness})" if options.witness else "")
    vips = ", ".join(vip.split("/")[0] for vip in options.vip) or VIP
    print(f"lab {lab.paths.name} is up after {time.monotonic() - began:.1f} s: {nodes}, VIP {vips}")
    print("".join(f"{line}\n" for line in added.words), end="")
    print(f"try: {lab_command(lab.paths.name)} exec {NODES[0]} -- ha-agent status")
    return Exit.DONE


def _down(lab: Lab, _options: argparse.Namespace) -> int:
    lab.down()
    return Exit.DONE


def _ls(_lab: Lab, options: argparse.Namespace) -> int:
    for name in sorted(os.listdir(options.root)) if os.path.isdir(options.root) else ():
        print(f"{pad(name, 12)} {_state_of(Lab(os.path.join(options.root, name)))}")
    return Exit.DONE


def _state_of(lab: Lab) -> str:
    try:
        up = [node for node in NODES if lab.is_on(node)]
    except LabFailed:
        return "being made or taken down"
    return "up: " + ", ".join(up) if up else "down"


def _status(lab: Lab, _options: argparse.Namespace) -> int:
    nodes: list[Any] = []
    for node in NODES:
        if not lab.is_on(node):
            nodes.append({"name": node, "reachable": False, "problem": "its power is off"})
            continue
        try:
            nodes.append(lab.status(node))
        except LabFailed as error:
            nodes.append({"name": node, "reachable": False, "problem": str(error)})
    print(render_status(nodes))
    return Exit.DONE


def _exec(lab: Lab, options: argparse.Namespace) -> int:
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        print("ha-agent lab exec: no command; usage: ha-agent lab exec NODE -- CMD...", file=sys.stderr)
        return Exit.USAGE
    return subprocess.call(lab.words_inside(options.node, words))


def _writes(lab: Lab, options: argparse.Namespace) -> int:
    words = [sys.executable, "-m", "ha_agent.lab.writes", VIP, str(examples.REDIS_PORT), str(options.seconds)]
    done = subprocess.run(lab.words_in_switch(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return Exit.FAILED
    print(done.stdout.strip() if options.json else writes.render(json.loads(done.stdout)))
    return Exit.DONE


def _power(lab: Lab, options: argparse.Namespace) -> int:
    getattr(lab, options.command.replace("-", "_"))(options.node)
    return Exit.DONE


def _cut(lab: Lab, options: argparse.Namespace) -> int:
    node, far = options.node, options.other
    if far is None:
        getattr(lab, options.command)(node, options.path)
        return Exit.DONE
    for source, target in ((node, far), *(() if options.one_way else ((far, node),))):
        (lab.sever if options.command == "cut" else lab.join)(source, target)
    return Exit.DONE


def _block(lab: Lab, options: argparse.Namespace) -> int:
    lab.block(options.node, options.what, options.percent, options.path)
    return Exit.DONE


def _unblock(lab: Lab, options: argparse.Namespace) -> int:
    lab.unblock(options.node, options.what)
    return Exit.DONE


def _logs(lab: Lab, options: argparse.Namespace) -> int:
    try:
        with open(lab.paths.log(options.node, options.unit), encoding="utf-8", errors="replace") as file:
            sys.stdout.write(file.read())
    except FileNotFoundError:
        print(f"ha-agent lab: {options.node} has no log of {options.unit}", file=sys.stderr)
        return Exit.FAILED
    return Exit.DONE


def _unit(lab: Lab, options: argparse.Namespace) -> int:
    print(json.dumps(lab.unit(options.node, options.action, options.unit, 9)))
    return Exit.DONE
