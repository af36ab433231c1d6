"""``ha-agent pair``: the agents' keys and host keys: exchanged, made again, and taken over where one has changed."""

from __future__ import annotations

import argparse
import base64
import binascii
import subprocess
import time
from collections.abc import Callable
from typing import Any

from ha_agent.adapters.control import CommandFailed, NoDaemon
from ha_agent.adapters.files import read_or_none, write_atomic
from ha_agent.adapters.settings_file import load_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.adapters.terminal import complain, is_yes, read_line
from ha_agent.cli.nodes import Nodes
from ha_agent.cli.options import Commands
from ha_agent.cli.remote import fingerprint
from ha_agent.cli.setup_node import SetupFailed
from ha_agent.cli.setup_sides import Ask, add_way, both_sides, changes_of, guarded, make_keys, show_diffs
from ha_agent.core.settings import Settings
from ha_agent.core.setup_plan import PENDING_KEY, find_host_key, is_public_key, pin_host_key
from ha_agent.core.visible import visible
from ha_agent.core.words import Exit

SCAN_S = 15.0
LINK_S = 40.0
OTHERS = {"own": "peer", "peer": "own"}
ROTATE_AGAIN = "the keys that are in use are let in on both nodes: run the same again"


def add_parser(commands: Commands) -> None:
    """Adds the command's grammar."""
    summary = "exchange keys with the other node, a part of setup; make new ones; take over a host key that has changed"
    parser = commands.add("pair", summary, "ha-agent pair node-b --rotate", run)
    parser.add_argument("peer", metavar="HOST", help="the other node: a name or an address that ssh reaches")
    add_way(parser)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--rotate", action="store_true", help="make both agents' keys anew, and forget the old ones")
    chosen.add_argument("--host-key", action="store_true", help="show the host key that the peer has now, and pin it")
    parser.add_argument("--dry-run", action="store_true", help="show everything, change nothing")
    parser.add_argument("--yes", action="store_true", help="do it without asking; --host-key needs --fingerprint then")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    if options.host_key:
        return guarded(lambda: _pin_host_key(options), "nothing was changed")
    if options.rotate:
        return guarded(lambda: _rotate(options), ROTATE_AGAIN)
    return guarded(lambda: _exchange(options))


def _exchange(options: argparse.Namespace) -> int:
    """Both agents' keys under their forced command, both host keys pinned; nothing else."""
    with both_sides(options.peer, options) as sides:
        facts = {side: ask("facts", {}) for side, ask in sides.items()}
        requests = {
            side: {"peer_key": fact["key"] or PENDING_KEY, "peer_host_key": fact["host_key"], "peer_name": fact["name"]}
            for side, fact in (("own", facts["peer"]), ("peer", facts["own"]))
        }
        due = {side: [c for c in changes_of(ask("plan", requests[side])) if c.is_due] for side, ask in sides.items()}
        show_diffs(facts, due)
        if not any(due.values()):
            print("both nodes know each other's keys")
            return Exit.DONE
        if options.dry_run:
            print("nothing was changed")
            return Exit.DONE
        if not options.yes and not is_yes("Write this on both nodes?"):
            complain("nothing was changed; --yes does it without asking")
            return Exit.REFUSED
        make_keys(sides, requests)
        for side, ask in sides.items():
            ask("apply", requests[side])
    print("both nodes know each other's keys; ha-agent doctor --peer tries the way in both directions")
    return Exit.DONE


# ---- new keys ---------------------------------------------------------------------------------------------------


def _rotate(options: argparse.Namespace) -> int:
    settings = load_settings(DEFAULT_PATH)
    with both_sides(options.peer, options) as sides:
        seen = {side: ask("keys", {"step": "look"}) for side, ask in sides.items()}
        check_pair(seen)
        for side in sides:
            print(visible(f"{seen[side]['name']}: {_print_of(seen[side]['key'])} is made again"))
        if options.dry_run:
            print("nothing was changed")
            return Exit.DONE
        if not options.yes and not is_yes("Make the keys of both agents anew?"):
            complain("nothing was changed; --yes does it without asking")
            return Exit.REFUSED
        rotate_keys(sides, seen)
    await_link(Nodes(settings), settings.peer.name)
    print("both agents have new keys, the old ones are let in nowhere, and the link is up")
    if settings.witness.kind == "ssh" and settings.witness.key_file == settings.link.key_file:
        print(visible(f"the witness knows the old ones: ha-agent witness install {settings.witness.host} --replace"))
    return Exit.DONE


def check_pair(seen: dict[str, dict[str, Any]]) -> None:
    """Whether the two are each other's peers, with keys that are in use. Raises ``SetupFailed``."""
    for side, other in OTHERS.items():
        if seen[side]["peer"] != seen[other]["name"]:
            said = f"{seen[side]['name']} has {seen[side]['peer']} for its peer, and this is {seen[other]['name']}"
            raise SetupFailed(f"{said}: is that the right machine?")
        if " ".join(seen[side]["key"].split()[:2]) not in seen[other]["trusted"]:
            name = seen[other]["name"]
            raise SetupFailed(f"{name} does not let the key of {seen[side]['name']} in: ha-agent pair HOST exchanges them")


def rotate_keys(sides: dict[str, Ask], seen: dict[str, dict[str, Any]]) -> None:
    """Makes, lets in, tries and puts to use a new key on either node, and forgets the old ones. Raises ``SetupFailed``.

    What ends it in the middle has left both nodes with keys that the other one lets in, and it can be done again.
    """
    keys = {side: ask("keys", {"step": "make"})["key"] for side, ask in sides.items()}
    for side, other in OTHERS.items():
        sides[side]("keys", {"step": "trust", "key": keys[other]})
    _try_both(sides, seen, present=False)
    for ask in sides.values():
        ask("keys", {"step": "use"})
    _try_both(sides, seen, present=True)
    for side, other in OTHERS.items():
        sides[side]("keys", {"step": "forget", "key": keys[other]})


def _try_both(sides: dict[str, Ask], seen: dict[str, dict[str, Any]], *, present: bool) -> None:
    for side, other in OTHERS.items():
        tried = sides[side]("keys", {"step": "try", "present": present})
        if not tried["taken"]:
            says = visible(str(tried["said"]))
            raise SetupFailed(
                f"{seen[other]['name']} does not take the new key of {seen[side]['name']} ({says}); {ROTATE_AGAIN} "
                "when that is right"
            )


def _print_of(public: str) -> str:
    """The fingerprint of a public key as OpenSSH writes it."""
    try:
        return fingerprint(base64.b64decode(public.split()[1], validate=True))
    except (IndexError, binascii.Error):
        return "no key"


def await_link(nodes: Nodes, peer: str) -> None:
    """Waits until the peer's agent answers over the link. Raises ``SetupFailed``."""
    deadline = time.monotonic() + LINK_S
    while time.monotonic() < deadline:
        try:
            if all(node["reachable"] for node in nodes.status()):
                return
        except (NoDaemon, CommandFailed, TimeoutError):
            pass
        time.sleep(0.3)
    raise SetupFailed(f"{peer} does not answer over the link within {LINK_S:g} s; ha-agent doctor says why")


# ---- a host key that has changed --------------------------------------------------------------------------------


def _pin_host_key(options: argparse.Namespace) -> int:
    settings = load_settings(DEFAULT_PATH)
    peer, known_hosts = settings.peer, settings.link.known_hosts
    if options.peer not in (peer.name, peer.address):
        raise SetupFailed(f"the peer is {peer.name} at {peer.address} ({DEFAULT_PATH}), not {options.peer}")
    present = _scan(settings)
    text = (read_or_none(known_hosts) or b"").decode("utf-8", "surrogateescape")
    pinned = find_host_key(text, peer.name)
    shown = _print_of(present)
    print(f"pinned for {peer.name}: {_print_of(pinned) if pinned else 'none'} ({known_hosts})")
    print(f"{peer.name} ({peer.address} port {peer.ssh_port}) has: {shown}")
    if present == pinned:
        print("that is the pinned one; nothing was changed")
        return Exit.DONE
    if options.dry_run:
        print("nothing was changed")
        return Exit.DONE
    if (refused := why_not_confirmed(options, peer.name, shown)) is not None:
        complain(f"nothing was changed: {refused}")
        return Exit.REFUSED
    write_atomic(known_hosts, pin_host_key(text, peer.name, present).encode("utf-8", "surrogateescape"), 0o600)
    print(f"pinned; the agent connects within {settings.link.retry_max_s:g} s")
    return Exit.DONE


def why_not_confirmed(
    options: argparse.Namespace, name: str, shown: str, ask: Callable[[str], str] = read_line
) -> str | None:
    """Why ``shown`` is not taken for the right host key; None where somebody has said so."""
    if options.fingerprint is not None:
        return None if options.fingerprint == shown else f"that is not {options.fingerprint}: is that the right machine?"
    print(f"Whoever stands between the two could have sent it. Compare it on the console of {name}:")
    print("    ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    if ask("Is it the same? Type yes: ").strip() == "yes":
        return None
    return f"nobody said yes; in a script: --fingerprint {shown}"


def _scan(settings: Settings) -> str:
    """Type and key of the ed25519 host key that the peer's sshd shows. Raises ``SetupFailed``."""
    peer = settings.peer
    words = ["ssh-keyscan", "-T", "5", "-t", "ed25519", "-p", str(peer.ssh_port), "--", peer.address]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SCAN_S)
    except FileNotFoundError:
        raise SetupFailed("ssh-keyscan is missing: apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"{peer.address} port {peer.ssh_port}: no answer within {SCAN_S:g} s") from None
    rows = [line.split() for line in done.stdout.splitlines() if line[:1] not in ("#", "")]
    keys = [" ".join(row[1:3]) for row in rows if len(row) >= 3]
    if not keys or not is_public_key(keys[0]):
        said = (done.stderr.strip().splitlines() or ["no host key of type ed25519; ssh-keygen -A there makes one"])[-1]
        raise SetupFailed(f"{peer.address} port {peer.ssh_port}: {said}")
    return keys[0]
