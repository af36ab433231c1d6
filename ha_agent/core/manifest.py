"""The manifest: which files a registry holds, as (path, mode, sha256), with a hash of the whole.

A manifest is an immutable value. Entries live in 256 buckets by the CRC of their path, and the manifest's
hash is taken over the buckets' hashes (a Merkle tree of two levels), so that changing one entry among ten
thousand rehashes some forty entries and not ten thousand, and so that two manifests of which one was made
from the other are compared bucket by bucket, mostly by identity.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path below the registry, its permission bits, the sha256 of its content in hex."""

    path: str
    mode: int
    sha256: str

    def to_row(self) -> list[Any]:
        """The entry as a JSON-able row."""
        return [self.path, self.mode, self.sha256]


def _bucket_of(path: str) -> int:
    return zlib.crc32(path.encode("utf-8", "surrogateescape")) % BUCKETS


def _bucket_hash(bucket: Mapping[str, Entry]) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(bucket):
        entry = bucket[path]
        raw = path.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%s %o %s\n" % (len(raw), raw, entry.mode, entry.sha256.encode()))
    return digest.digest()


_NOTHING: Mapping[str, Entry] = {}
_NOTHING_HASH = _bucket_hash(_NOTHING)


class Manifest:
    """An immutable set of entries, at most one a path. Equal content means equal ``hash``."""

    __slots__ = ("_buckets", "_hashes", "_size", "hash")

    def __init__(self, buckets: tuple[Mapping[str, Entry], ...], hashes: tuple[bytes, ...], size: int) -> None:
        self._buckets = buckets
        self._hashes = hashes
        self._size = size
        self.hash = hashlib.sha256(b"".join(hashes)).hexdigest()

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        """The manifest of ``entries``; of two with the same path the last one counts."""
        buckets: list[dict[str, Entry]] = [{} for _ in range(BUCKETS)]
        for entry in entries:
            buckets[_bucket_of(entry.path)][entry.path] = entry
        hashes = tuple(_bucket_hash(b) if b else _NOTHING_HASH for b in buckets)
        return cls(tuple(buckets), hashes, sum(map(len, buckets)))

    @classmethod
    def from_rows(cls, rows: Iterable[Any]) -> Manifest:
        """The inverse of ``to_rows``. Raises ``ValueError`` for rows of another shape."""
        entries = []
        for row in rows:
            if not (isinstance(row, list) and len(row) == 3):
                raise ValueError(f"not a manifest row: {row!r:.100}")
            path, mode, sha256 = row
            if not (isinstance(path, str) and isinstance(mode, int) and isinstance(sha256, str)):
                raise ValueError(f"not a manifest row: {row!r:.100}")
            entries.append(Entry(path, mode, sha256))
        return cls.of(entries)

    def to_rows(self) -> list[list[Any]]:
        """All entries as JSON-able rows, sorted by path."""
        return [entry.to_row() for entry in self]

    def find(self, path: str) -> Entry | None:
        """The entry of ``path``, or None."""
        return self._buckets[_bucket_of(path)].get(path)

    def changed(self, puts: Iterable[Entry], deletes: Iterable[str] = ()) -> Manifest:
        """The manifest with ``puts`` added or replaced and ``deletes`` gone; itself where nothing differs."""
        fresh: dict[int, dict[str, Entry]] = {}
        for entry in puts:
            index = _bucket_of(entry.path)
            if self._buckets[index].get(entry.path) != entry or index in fresh:
                fresh.setdefault(index, dict(self._buckets[index]))[entry.path] = entry
        for path in deletes:
            index = _bucket_of(path)
            if path in fresh.get(index, self._buckets[index]):
                del fresh.setdefault(index, dict(self._buckets[index]))[path]
        if not fresh:
            return self
        buckets, hashes = list(self._buckets), list(self._hashes)
        size = self._size
        for index, bucket in fresh.items():
            size += len(bucket) - len(self._buckets[index])
            buckets[index] = bucket
            hashes[index] = _bucket_hash(bucket)
        return Manifest(tuple(buckets), tuple(hashes), size)

    def __iter__(self) -> Iterator[Entry]:
        merged = {path: entry for bucket in self._buckets for path, entry in bucket.items()}
        return (merged[path] for path in sorted(merged))

    def __len__(self) -> int:
        return self._size

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self.find(path) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"<Manifest {self._size} entries {self.hash[:12]}>"

    def _differing_buckets(self, other: Manifest) -> Iterator[tuple[Mapping[str, Entry], Mapping[str, Entry]]]:
        for index in range(BUCKETS):
            if self._hashes[index] != other._hashes[index]:
                yield self._buckets[index], other._buckets[index]


EMPTY = Manifest((_NOTHING,) * BUCKETS, (_NOTHING_HASH,) * BUCKETS, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """What turns one manifest into another: entries to write and paths to delete, both sorted."""

    puts: tuple[Entry, ...]
    deletes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)

    def __len__(self) -> int:
        return len(self.puts) + len(self.deletes)


NO_DIFFERENCE = Difference((), ())


def diff_manifests(base: Manifest, wanted: Manifest) -> Difference:
    """What must be done to ``base`` to make it ``wanted``. Costs 256 comparisons plus the buckets that differ."""
    if base.hash == wanted.hash:
        return NO_DIFFERENCE
    puts: list[Entry] = []
    deletes: list[str] = []
    for old, new in base._differing_buckets(wanted):  # noqa: SLF001 (of this module)
        puts.extend(entry for path, entry in new.items() if old.get(path) != entry)
        deletes.extend(path for path in old if path not in new)
    return Difference(tuple(sorted(puts, key=lambda e: e.path)), tuple(sorted(deletes)))
