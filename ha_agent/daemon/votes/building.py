"""Builds the votes of one group: none without a witness. Wiring alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ha_agent.adapters.files import read_note, write_note
from ha_agent.adapters.keeper import KeeperClient
from ha_agent.adapters.peer_votes import LinkVotes
from ha_agent.adapters.ssh import PeerLink
from ha_agent.adapters.witness import Witness
from ha_agent.core.holder import Holder, Identity
from ha_agent.core.vote_note import parse_note
from ha_agent.core.witness_settings import WitnessSettings
from ha_agent.daemon.votes.asking import Asking
from ha_agent.daemon.votes.votes import NoVotes, Votes, VotesPorts


@dataclass(frozen=True, slots=True)
class VotesParts:
    """What the votes stand on. ``life`` tells this boot from every other. ``note``: the path of the note. The rest is as for
    ``VotesPorts``."""

    node: str
    peer: str
    life: str
    note: str
    link: PeerLink
    keeper: KeeperClient
    make_witness: Callable[[WitnessSettings], Witness]
    find_kill_path: Callable[[], str | None]
    clock: Callable[[], float]
    wake: Callable[[], None]
    wake_in: Callable[[float], None]


def build_votes(settings: WitnessSettings, parts: VotesParts) -> NoVotes:
    """The votes as an agent of this boot left them. Asks nobody yet."""
    if not settings.kind:
        return NoVotes()
    raw = read_note(parts.note)
    note = parse_note(raw.decode("utf-8", "replace")) if raw is not None else None
    who = Identity(parts.node, parts.peer, parts.life, secrets.token_hex(8))
    holder = Holder(who, settings.terms, parts.clock(), note)
    witness = parts.make_witness(settings)
    peer = LinkVotes(parts.link)

    def keep_note(text: str) -> None:
        write_note(parts.note, text.encode(), 0o600)

    def make_asking(on_heard: Callable[[], None]) -> Asking:
        return Asking(holder, witness, peer, keep_note, parts.clock, on_heard)

    ports = VotesPorts(
        keeper=parts.keeper,
        clock=parts.clock,
        find_kill_path=parts.find_kill_path,
        is_linked=lambda: parts.link.is_up,
        wake=parts.wake,
        wake_in=parts.wake_in,
    )
    has_note = note is not None and note.boot == parts.life
    return Votes(holder, make_asking, witness, ports, kind=settings.kind, is_required=settings.required, has_note=has_note)
