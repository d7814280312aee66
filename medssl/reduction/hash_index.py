"""Find all hashes within a Hamming distance without comparing with each: multi-index hashing, exact."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medssl.reduction.hashing import HASH_BITS, Hashes, hamming

_CHUNKS = 4
_KEYS = 1 << (HASH_BITS // _CHUNKS)
_MOST_PAIRS = 1 << 21
# Looking up more than this share of all entries costs more than comparing with every one
_CROWDED_SHARE = 1 / 8
_FARTHEST_FLIP = 1

# Background leaves whole rows of bits empty: each chunk takes bits of every row and column, so that no chunk is empty
_BIT_ORDER = np.argsort([(bit // 8 + bit % 8) % _CHUNKS for bit in range(HASH_BITS)], kind="stable")


class Pairs(NamedTuple):
    """Which query is near which entry, and how far; a pair may be listed more than once."""

    queries: npt.NDArray[np.intp]
    entries: npt.NDArray[np.integer[Any]]
    distances: npt.NDArray[np.uint8]


class HashIndex:
    """Hashes that can be asked for all within a distance.

    Two hashes that differ in at most 7 bits differ in at most one bit of one of four 16-bit chunks (pigeonhole
    principle), so 17 keys in each of four tables hold every candidate; these are then compared. Queries whose tables
    are crowded, and thresholds above 7, are compared with every entry instead: the result is the same.

    Args:
        hashes: Entries (N,).
    """

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = hashes
        self._tables = []
        for keys in _chunk_keys(hashes).T:
            ends = np.cumsum(np.bincount(keys, minlength=_KEYS)).astype(np.int32)
            starts = np.concatenate([np.zeros(1, dtype=np.int32), ends])
            # 16-bit keys are sorted by radix
            self._tables.append((starts, np.argsort(keys.astype(np.uint16), kind="stable").astype(np.int32)))

    def __len__(self) -> int:
        return len(self._hashes)

    def within(self, queries: Hashes, threshold: int) -> list[Pairs]:
        """Return, in parts, all pairs of a query (M,) and an entry at a distance of at most `threshold` bits.

        Args:
            queries: Any hashes.
            threshold: Bits, inclusive.
        """
        flips = threshold // _CHUNKS
        if flips > _FARTHEST_FLIP or not len(self):
            return self._compared(queries, np.arange(len(queries)), threshold)
        probes = _chunk_keys(queries)[:, :, None] ^ _masks(flips)[None, None, :]
        counts = [starts[probes[:, c] + 1] - starts[probes[:, c]] for c, (starts, _) in enumerate(self._tables)]
        candidates = sum(count.sum(axis=1) for count in counts)
        crowded = candidates > max(64, _CROWDED_SHARE * len(self))
        pairs = self._compared(queries, np.flatnonzero(crowded), threshold)
        for rows in _batches(np.flatnonzero(~crowded), candidates):
            for chunk, (starts, order) in enumerate(self._tables):
                first, count = starts[probes[rows, chunk]].ravel(), counts[chunk][rows]
                asked = np.repeat(rows, count.sum(axis=1))
                found = order[_ranges(first, count.ravel())]
                pairs.append(_near(queries, asked, self._hashes, found, threshold))
        return pairs

    def _compared(self, queries: Hashes, rows: npt.NDArray[np.intp], threshold: int) -> list[Pairs]:
        pairs = []
        step = max(1, _MOST_PAIRS // max(1, len(self)))
        for start in range(0, len(rows), step):
            asked = rows[start : start + step]
            distances = hamming(queries[asked][:, None], self._hashes[None, :])
            row, entry = np.nonzero(distances <= threshold)
            pairs.append(Pairs(asked[row], entry, distances[row, entry]))
        return pairs


def _near(
    queries: Hashes, asked: npt.NDArray[np.intp], entries: Hashes, found: npt.NDArray[np.integer[Any]], threshold: int
) -> Pairs:
    distances = hamming(queries[asked], entries[found])
    near = distances <= threshold
    return Pairs(asked[near], found[near], distances[near])


def _chunk_keys(hashes: Hashes) -> npt.NDArray[np.int64]:
    """Return the four 16-bit keys (N, 4) of hashes (N,)."""
    octets = np.ascontiguousarray(hashes, dtype=">u8").view(np.uint8).reshape(len(hashes), 8)
    mixed = np.ascontiguousarray(np.packbits(np.unpackbits(octets, axis=1)[:, _BIT_ORDER], axis=1))
    return mixed.view(np.uint16).astype(np.int64)


def _masks(flips: int) -> npt.NDArray[np.int64]:
    """Return all 16-bit numbers with at most `flips` bits set."""
    bits = HASH_BITS // _CHUNKS
    return np.array(
        [sum(1 << bit for bit in chosen) for n in range(flips + 1) for chosen in combinations(range(bits), n)]
    )


def _ranges(starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return start, start + 1, ... of each range, one after another."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _batches(rows: npt.NDArray[np.intp], candidates: npt.NDArray[np.int64]) -> list[npt.NDArray[np.intp]]:
    """Cut rows into batches that bring at most about two million candidates each."""
    if not len(rows):
        return []
    totals = np.cumsum(candidates[rows])
    return np.split(rows, np.flatnonzero(np.diff(totals // _MOST_PAIRS)) + 1)
