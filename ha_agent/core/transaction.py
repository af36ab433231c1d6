"""The transaction: one atomic change of the standby's registry, and the pure rules of accepting it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.names import path_problem
from ha_agent.core.width import count_text
from ha_agent.core.words import OWNING_ROLES, Answer, Role

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STAGING_ID = re.compile(r"[0-9a-f]{16}")
MODE_MASK = 0o775
"""What everybody may write nobody may load: it would run as root."""


MOST_EPOCH = 2**62
MOST_JUMP = 2**20
"""More takeovers than a node can have missed: one every half minute for a year. Whoever holds a key can raise the epoch by
this much with each message, and would need years to use all numbers up."""


class BadTransaction(ValueError):
    """The message is not a transaction that may be applied; the text says which part and why."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The highest epoch that a node knows, and the node that claimed it."""

    epoch: int = 0
    claimed_by: str = ""


def is_jump(mark: Watermark, known: Watermark) -> bool:
    """Whether ``mark`` is so far above ``known`` that no number of takeovers explains it: such an epoch is not believed."""
    return mark.epoch - known.epoch > MOST_JUMP


def jump_text(mark: Watermark, known: Watermark) -> str:
    """What to say of a mark that is a jump."""
    return (
        f"epoch {mark.epoch} is more than {MOST_JUMP} above {known.epoch}, which is known here, and is not believed: "
        "somebody else may hold the peer's key (docs/operations.md)"
    )


@dataclass(frozen=True, slots=True)
class Transaction:
    """Everything that a receiver needs to know of one change.

    ``contents`` maps sha256 to bytes for what travels inline; what is missing there lies in the receiver's
    staging directory ``staging`` under its sha256. ``intent`` says that an operator asked for the deletions.
    """

    epoch: int
    claimed_by: str
    generation: int
    base: str
    result: str
    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]
    contents: dict[str, bytes]
    staging: str | None = None
    intent: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The transaction as a JSON-able object."""
        return {
            "epoch": self.epoch,
            "claimed_by": self.claimed_by,
            "generation": self.generation,
            "base": self.base,
            "result": self.result,
            "puts": [entry.to_row() for entry in self.puts],
            "deletes": list(self.deletes),
            "contents": {sha: base64.b64encode(data).decode("ascii") for sha, data in self.contents.items()},
            "staging": self.staging,
            "intent": self.intent,
        }


def parse_transaction(raw: Any) -> Transaction:
    """The transaction in ``raw``, every field and every inline digest checked. Raises ``BadTransaction``."""
    if not isinstance(raw, dict):
        raise BadTransaction("not an object")
    staging = raw.get("staging")
    if staging is not None and not (isinstance(staging, str) and _STAGING_ID.fullmatch(staging)):
        raise BadTransaction("staging is not an identifier of 16 hex digits")
    txn = Transaction(
        epoch=_number(raw, "epoch"),
        claimed_by=_text(raw, "claimed_by", 64),
        generation=_number(raw, "generation"),
        base=_digest(raw.get("base"), "base"),
        result=_digest(raw.get("result"), "result"),
        puts=tuple(_entries(raw.get("puts"))),
        deletes=tuple(_deletes(raw.get("deletes"))),
        contents=_contents(raw.get("contents")),
        staging=staging,
        intent=raw.get("intent") is True,
    )
    _check_paths(txn)
    return txn


def _number(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key)
    if type(value) is not int or not 0 <= value < MOST_EPOCH:
        raise BadTransaction(f"{key} is not a number from 0 to 2^62-1")
    return value


def _text(raw: dict[str, Any], key: str, longest: int) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadTransaction(f"{key} is not a text of 1 to {longest} characters")
    return value


def _digest(value: Any, what: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise BadTransaction(f"{what} is not a sha256 in hex")
    return value


def _good_path(value: Any) -> str:
    if not isinstance(value, str):
        raise BadTransaction("a path is not a text")
    problem = path_problem(value)
    if problem:
        raise BadTransaction(f"path {value!r:.200} refused: {problem}")
    return value


def _entries(value: Any) -> Iterable[Entry]:
    if not isinstance(value, list):
        raise BadTransaction("puts is not a list")
    for row in value:
        if not (isinstance(row, list) and len(row) == 3):
            raise BadTransaction("a put is not [path, mode, sha256]")
        path, mode, sha256 = row
        if type(mode) is not int or mode & ~MODE_MASK or mode < 0:
            raise BadTransaction(f"mode {mode!r:.20} of {path!r:.200} is not within 0775")
        yield Entry(_good_path(path), mode, _digest(sha256, "a put's digest"))


def _deletes(value: Any) -> Iterable[str]:
    if not isinstance(value, list):
        raise BadTransaction("deletes is not a list")
    return (_good_path(path) for path in value)


def _contents(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict):
        raise BadTransaction("contents is not an object")
    contents = {}
    for sha, text in value.items():
        if not isinstance(text, str):
            raise BadTransaction("a content is not base64 text")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadTransaction(f"a content is not base64: {error}") from None
        if hashlib.sha256(data).hexdigest() != sha:
            raise BadTransaction(f"content of {sha!r:.80} has another digest")
        contents[sha] = data
    return contents


def _check_paths(txn: Transaction) -> None:
    paths = [entry.path for entry in txn.puts] + list(txn.deletes)
    if len(set(paths)) != len(paths):
        raise BadTransaction("a path is named twice")
    files = {entry.path for entry in txn.puts}
    for path in files:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in files:
                raise BadTransaction(f"path {path!r:.200} is below another file of the transaction")


def is_mass_deletion(known: int, deleted: int, fraction: float, minimum: int) -> bool:
    """Whether ``deleted`` of ``known`` confs are too many to go without an operator's word. All of several always are."""
    if fraction >= 1.0:
        return False
    return (deleted >= minimum and deleted > known * fraction) or (deleted == known and known > 1)


@dataclass(frozen=True, slots=True)
class ReceiverView:
    """What the receiver's verdict depends on."""

    role: Role
    known: Watermark
    manifest: Manifest
    mass_fraction: float
    mass_minimum: int


def judge_transaction(txn: Transaction, view: ReceiverView) -> tuple[Answer, str]:
    """Whether the receiver may apply ``txn``: ``COMMITTED`` means it may, anything else is the refusal with its reason."""
    mark = Watermark(txn.epoch, txn.claimed_by)
    if is_jump(mark, view.known):
        return Answer.BAD, jump_text(mark, view.known)
    if (txn.epoch, txn.claimed_by) != (view.known.epoch, view.known.claimed_by):
        if txn.epoch <= view.known.epoch:
            return Answer.STALE, f"epoch {view.known.epoch} of {view.known.claimed_by} is known here"
    if view.role in OWNING_ROLES or view.role is Role.RELEASING:
        return Answer.ACTIVE, f"this node is {view.role.value}"
    if txn.base != view.manifest.hash:
        return Answer.NEED_FULL, "the registry here is not the base of this change"
    gone = sum(1 for path in txn.deletes if path in view.manifest)
    if not txn.intent and is_mass_deletion(len(view.manifest), gone, view.mass_fraction, view.mass_minimum):
        return Answer.HELD, f"would delete {gone} of {count_text(len(view.manifest), 'conf')}"
    if view.manifest.changed(txn.puts, txn.deletes).hash != txn.result:
        return Answer.BAD, "the changes do not lead to the announced manifest"
    return Answer.COMMITTED, ""
