"""Decide which items of a group stay: the published greedy rule, exact and fast, its controls, and budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.reduction.hash_index import HashIndex
from medssl.reduction.hashing import Hashes, hamming
from medssl.reduction.similarity import HammingMeasure, Measure

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

_BLOCK = 1024
_RECENT = 2048
# Groups up to this size are decided one by one: an index would cost more than it saves
_SMALL_GROUP = 2048
NOBODY = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """What became of the items (N,) of a group; indices are -1 and distances NaN where there is nothing to tell.

    Attributes:
        kept: Which items stay.
        removed_by: The first kept item within the threshold, which removed this one.
        removed_distance: How far it is.
        nearest: The nearest kept item of an item that was dropped; of several, the one kept first.
        nearest_distance: How far it is.
    """

    kept: Flags
    removed_by: Indices
    removed_distance: npt.NDArray[np.float64]
    nearest: Indices
    nearest_distance: npt.NDArray[np.float64]


class _Ledger:
    """Keeps one item after another and remembers, for all others, who is nearest and who removed them."""

    def __init__(self, measure: Measure, protected: Indices) -> None:
        self.measure, count = measure, len(measure)
        self.kept = np.zeros(count, dtype=bool)
        self._safe = np.zeros(count, dtype=bool)
        self._safe[protected] = True
        self.removed_by, self.nearest = np.full(count, NOBODY), np.full(count, NOBODY)
        self.removed_distance, self.nearest_distance = np.full(count, np.nan), np.full(count, np.inf)

    def keep(self, item: int, threshold: float | None = None) -> None:
        """Keep an item; with a threshold, remove what is near and not yet decided."""
        self.kept[item] = True
        distances = self.measure.to(item)
        closer = distances < self.nearest_distance
        self.nearest[closer], self.nearest_distance[closer] = item, distances[closer]
        if threshold is not None:
            near = distances <= threshold if self.measure.inclusive else distances < threshold
            near &= ~self.kept & ~self._safe & (self.removed_by == NOBODY)
            self.removed_by[near], self.removed_distance[near] = item, distances[near]

    def selection(self) -> Selection:
        """Close the book: what was kept has no neighbour to name."""
        nobody = self.kept | ~np.isfinite(self.nearest_distance)
        return Selection(
            kept=self.kept,
            removed_by=self.removed_by,
            removed_distance=self.removed_distance,
            nearest=np.where(nobody, NOBODY, self.nearest),
            nearest_distance=np.where(nobody, np.nan, self.nearest_distance),
        )


def greedy(measure: Measure, *, threshold: float, protected: Indices | None = None) -> Selection:
    """Keep an item if and only if it is not near any item kept before it.

    Args:
        measure: Distances of the group's items, in their order.
        threshold: Largest distance at which an item is near (hashes), or the smallest at which it is not (others).
        protected: Items that stay in any case; they are kept first, and may be near each other.

    Note:
        Source: the published rule keeps the first item, deletes all that are near it, and goes on with the first left;
        for hashes this is done here in blocks with an index, which gives the same items.
    """
    protected = np.array([], dtype=np.intp) if protected is None else np.sort(protected)
    hashes = measure.hashes if isinstance(measure, HammingMeasure) else None
    if hashes is not None and hashes.ndim == 1 and len(hashes) > _SMALL_GROUP:
        kept = greedy_hashes(hashes, threshold=int(threshold), protected=protected)
        return _explained(hashes, kept, threshold=int(threshold))
    ledger = _Ledger(measure, protected)
    for item in (*protected, *range(len(measure))):
        if not ledger.kept[item] and ledger.removed_by[item] == NOBODY:
            ledger.keep(int(item), threshold)
    return ledger.selection()


def greedy_hashes(
    hashes: Hashes, *, threshold: int, protected: Indices | None = None, block: int = _BLOCK, recent: int = _RECENT
) -> Indices:
    """Return the items that the greedy rule keeps, in the order in which it keeps them.

    The rule is applied to a block of items as if nothing had been kept before; what it keeps is then looked up among
    all kept before, and while something is near one of them, the rule is applied again without it. So few of the
    items are looked up, and time grows little more than with their number. Block sizes do not change the result.

    Args:
        hashes: Hashes (N,) in order.
        threshold: Bits, inclusive.
        protected: Items that stay in any case, and come first.
        block: Items decided at once.
        recent: Kept items that are compared one by one before they enter the index.
    """
    protected = np.array([], dtype=np.intp) if protected is None else np.sort(protected)
    undecided = np.ones(len(hashes), dtype=bool)
    undecided[protected] = False
    before = _KeptBefore(hashes[protected], threshold=threshold, recent=recent)
    kept: list[Indices] = [protected]
    for start in range(0, len(hashes), block):
        items = start + np.flatnonzero(undecided[start : start + block])
        known = np.zeros(len(items), dtype=bool)  # not near anything kept before
        while True:
            survivors = _one_by_one(hashes[items], threshold)
            asked = survivors[~known[survivors]]
            near = asked[before.near(hashes[items[asked]])]
            known[asked] = True
            if not len(near):
                break
            items, known = np.delete(items, near), np.delete(known, near)
        kept.append(items[survivors])
        before.add(hashes[items[survivors]])
    return np.concatenate(kept)


class _KeptBefore:
    """All hashes kept so far: the last ones in a row, the others in an index that is made anew now and then."""

    def __init__(self, hashes: Hashes, *, threshold: int, recent: int) -> None:
        self._threshold, self._recent = threshold, recent
        self._indexed, self._waiting = hashes, hashes[:0]
        self._index = HashIndex(hashes)

    def near(self, hashes: Hashes) -> Flags:
        """Tell which hashes (M,) lie within the threshold of one that was kept."""
        near = np.asarray((hamming(hashes[:, None], self._waiting) <= self._threshold).any(axis=1))
        far = np.flatnonzero(~near)
        for pairs in self._index.within(hashes[far], self._threshold):
            near[far[pairs.queries]] = True
        return near

    def add(self, hashes: Hashes) -> None:
        """Add hashes that were kept."""
        self._waiting = np.concatenate([self._waiting, hashes])
        if len(self._waiting) > self._recent:
            self._indexed = np.concatenate([self._indexed, self._waiting])
            self._index, self._waiting = HashIndex(self._indexed), hashes[:0]


def _one_by_one(hashes: Hashes, threshold: int) -> Indices:
    undecided, kept = np.arange(len(hashes)), []
    while len(undecided):
        kept.append(undecided[0])
        undecided = undecided[hamming(hashes[undecided], hashes[undecided[0]]) > threshold]
    return np.array(kept, dtype=np.intp)


def _explained(hashes: Hashes, kept: Indices, *, threshold: int) -> Selection:
    """Find, for each dropped hash, who removed it and who is nearest; both lie within the threshold."""
    size = len(hashes)
    flags = np.zeros(size, dtype=bool)
    flags[kept] = True
    dropped = np.flatnonzero(~flags)
    first, nearest = np.full(size, len(kept)), np.full(size, len(kept) * 256, dtype=np.int64)
    index = HashIndex(hashes[kept])
    for start in range(0, len(dropped), 8192):
        items = dropped[start : start + 8192]
        for pairs in index.within(hashes[items], threshold):
            np.minimum.at(first, items[pairs.queries], pairs.entries)
            # Distance first, then the order of keeping, in one number
            ranked = pairs.distances.astype(np.int64) * len(kept) + pairs.entries
            np.minimum.at(nearest, items[pairs.queries], ranked)
    removed_by, closest = np.full(size, NOBODY), np.full(size, NOBODY)
    removed_by[dropped], closest[dropped] = kept[first[dropped]], kept[nearest[dropped] % len(kept)]
    distance, closest_distance = np.full(size, np.nan), np.full(size, np.nan)
    distance[dropped] = hamming(hashes[dropped], hashes[removed_by[dropped]])
    closest_distance[dropped] = hamming(hashes[dropped], hashes[closest[dropped]])
    return Selection(
        kept=flags,
        removed_by=removed_by,
        removed_distance=distance,
        nearest=closest,
        nearest_distance=closest_distance,
    )


def most_different(measure: Measure, *, budget: int, protected: Indices | None = None) -> Selection:
    """Keep the first item, then again and again the one farthest from all that are kept, until there are `budget`.

    Args:
        measure: Distances of the group's items, in their order.
        budget: Items to keep; a group with fewer stays whole. Protected ones count.
        protected: Items that stay in any case, and come first.

    Note:
        Source: Gonzalez 1985, farthest-point clustering; of several equally far the first is taken.
    """
    protected = np.array([], dtype=np.intp) if protected is None else np.sort(protected)
    ledger = _Ledger(measure, protected)
    for item in protected:
        ledger.keep(int(item))
    for _ in range(len(protected), min(budget, len(measure))):
        ledger.keep(int(np.argmax(np.where(ledger.kept, -1.0, ledger.nearest_distance))))
    return ledger.selection()


def chosen(measure: Measure, kept: Indices) -> Selection:
    """Keep given items, and find for each other the nearest of them."""
    ledger = _Ledger(measure, kept)
    for item in kept:
        ledger.keep(int(item))
    return ledger.selection()


def evenly(count: int, budget: int) -> Indices:
    """Return `budget` of `count` positions at equal steps: floor((j + 0.5) count / budget), distinct and sorted."""
    budget = min(budget, count)
    return np.array([(2 * j + 1) * count // (2 * budget) for j in range(budget)], dtype=np.intp)


def calibrated(measures: list[Measure], *, target: int, steps: int = 50) -> float:
    """Return the threshold, of `steps` between 0 and the largest distance, that keeps closest to `target` items.

    Every threshold is tried, because a larger one may keep more. Takes all pairs within each group.

    Args:
        measures: Distances within each group.
        target: Items to keep over all groups.
        steps: Thresholds tried.
    """
    tables: list[npt.NDArray[Any]] = [np.stack([measure.to(i) for i in range(len(measure))]) for measure in measures]
    largest = max((float(table.max()) for table in tables), default=0.0)
    grid = [largest * (step + 1) / steps for step in range(steps)]
    counts = [sum(_kept_count(table, threshold) for table in tables) for threshold in grid]
    return grid[min(range(steps), key=lambda step: (abs(counts[step] - target), step))]


def _kept_count(table: npt.NDArray[Any], threshold: float) -> int:
    undecided, count = np.ones(len(table), dtype=bool), 0
    while undecided.any():
        item = int(np.argmax(undecided))
        undecided &= table[item] >= threshold
        undecided[item] = False
        count += 1
    return count
