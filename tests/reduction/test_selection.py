"""The greedy rule against its plain form, its properties, budgets and controls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.reduction.hashing import hamming
from medssl.reduction.selection import calibrated, chosen, evenly, greedy, greedy_hashes, most_different
from medssl.reduction.similarity import CosineMeasure, HammingMeasure


def walk(count, *, seed=0, flips=1.0, mask=2**64 - 1):
    """Hashes of neighbouring slices, synthetic: each differs from the last in a few bits; a new scan now and then."""
    rng = np.random.default_rng(seed)
    hashes, value = [], 0
    for index in range(count):
        if index % 150 == 0:
            value = int(rng.integers(0, 2**64, dtype=np.uint64))
        for bit in rng.integers(0, 64, rng.poisson(flips)):
            value ^= 1 << int(bit)
        hashes.append(value & mask)
    return np.array(hashes, dtype=np.uint64)


def plain(hashes, threshold, protected=()):
    """The published order of operations: keep the first, delete all near it, go on with the first left."""
    left = [int(value) for value in hashes]
    items, kept = [*protected, *(i for i in range(len(left)) if i not in protected)], []
    while items:
        first = items.pop(0)
        kept.append(first)
        items = [i for i in items if i in protected or (left[i] ^ left[first]).bit_count() > threshold]
    return kept


@pytest.mark.parametrize("threshold", [0, 2, 6, 7, 10, 64])
def test_blocks_keep_what_the_published_rule_keeps(threshold):
    hashes = walk(1200)
    assert greedy_hashes(hashes, threshold=threshold, block=100, recent=60).tolist() == plain(hashes, threshold)


@pytest.mark.parametrize("block", [1, 7, 512, 4096])
@pytest.mark.parametrize("recent", [1, 64, 4096])
def test_block_sizes_do_not_matter(block, recent):
    hashes = walk(600, seed=1)
    assert greedy_hashes(hashes, threshold=6, block=block, recent=recent).tolist() == plain(hashes, 6)


@given(st.integers(0, 2**32), st.integers(0, 9), st.floats(0.05, 4), st.sampled_from([2**64 - 1, 0xFF00FF, 0x3C3C3C]))
@settings(max_examples=60, deadline=None)
def test_the_fast_rule_is_the_plain_rule(seed, threshold, flips, mask):
    hashes = walk(200, seed=seed, flips=flips, mask=mask)
    protected = np.unique(np.random.default_rng(seed).integers(0, 200, seed % 4))
    fast = greedy_hashes(hashes, threshold=threshold, protected=protected, block=37, recent=20)
    assert fast.tolist() == plain(hashes, threshold, protected.tolist())


def test_an_indexed_group_is_explained_as_one_that_is_compared_one_by_one(monkeypatch):
    measure, protected = HammingMeasure(walk(900, seed=2, mask=0x00FFFFFFFFFFFF00)), np.array([5, 6, 700])
    slow = greedy(measure, threshold=6, protected=protected)
    monkeypatch.setattr("medssl.reduction.selection._SMALL_GROUP", 0)
    fast = greedy(measure, threshold=6, protected=protected)
    for name in ("kept", "removed_by", "removed_distance", "nearest", "nearest_distance"):
        assert np.array_equal(getattr(fast, name), getattr(slow, name), equal_nan=name.endswith("distance")), name


def test_kept_items_are_apart_and_dropped_ones_covered():
    hashes = walk(2500, seed=3)
    result = greedy(HammingMeasure(hashes), threshold=6)
    kept, dropped = np.flatnonzero(result.kept), np.flatnonzero(~result.kept)
    distances = hamming(hashes[kept][:, None], hashes[kept])
    assert distances[~np.eye(len(kept), dtype=bool)].min() > 6
    assert result.removed_distance[dropped].max() <= 6
    assert (result.removed_by[dropped] < dropped).all()
    assert (result.nearest_distance[dropped] <= result.removed_distance[dropped]).all()


def test_the_nearest_kept_item_is_the_nearest():
    hashes = walk(300, seed=4)
    result = greedy(HammingMeasure(hashes), threshold=6)
    for item in np.flatnonzero(~result.kept):
        assert result.nearest_distance[item] == hamming(hashes[item], hashes[result.kept]).min()


def test_reducing_twice_is_reducing_once():
    hashes = walk(2500, seed=5)
    once = hashes[greedy(HammingMeasure(hashes), threshold=6).kept]
    assert greedy(HammingMeasure(once), threshold=6).kept.all()


def test_the_threshold_is_near_for_hashes_and_not_for_similarities():
    assert greedy(HammingMeasure(np.array([0, 63], np.uint64)), threshold=6).kept.tolist() == [True, False]
    right_angle = CosineMeasure(np.eye(2))
    assert greedy(right_angle, threshold=1.0).kept.tolist() == [True, True]
    assert greedy(right_angle, threshold=1.001).kept.tolist() == [True, False]


def test_protected_items_stay_and_remove_others():
    hashes = np.array([0, 1, 3, 2**40 - 1], np.uint64)
    result = greedy(HammingMeasure(hashes), threshold=6, protected=np.array([1, 2]))
    assert result.kept.tolist() == [False, True, True, True]
    assert result.removed_by[0] == 1


def test_a_budget_keeps_the_first_and_then_always_the_farthest():
    hashes = np.array([0, 0b1, 0xFFFF, 0xFF, 2**64 - 1], np.uint64)
    for budget, expected in ((1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (4, [0, 2, 3, 4]), (9, [0, 1, 2, 3, 4])):
        result = most_different(HammingMeasure(hashes), budget=budget)
        assert np.flatnonzero(result.kept).tolist() == expected
    assert (most_different(HammingMeasure(hashes), budget=2).nearest == [-1, 0, 0, 0, -1]).all()


def test_the_farthest_points_match_a_plain_search():
    hashes = walk(120, seed=6)
    kept = [0]
    while len(kept) < 15:
        least = [min((int(hashes[i]) ^ int(hashes[k])).bit_count() for k in kept) for i in range(120)]
        kept.append(int(np.argmax(least)))
    assert np.flatnonzero(most_different(HammingMeasure(hashes), budget=15).kept).tolist() == sorted(kept)


def test_equal_items_still_fill_a_budget():
    result = most_different(HammingMeasure(np.zeros(5, np.uint64)), budget=3)
    assert result.kept.tolist() == [True, True, True, False, False]


def test_given_items_are_kept_and_the_others_named_a_neighbour():
    result = chosen(HammingMeasure(np.array([0, 1, 255, 256], np.uint64)), np.array([0, 2]))
    assert result.kept.tolist() == [True, False, True, False]
    assert result.nearest.tolist() == [-1, 0, -1, 0]
    assert result.removed_by.tolist() == [-1] * 4


@given(st.integers(1, 300), st.integers(1, 300))
def test_even_positions_are_distinct_sorted_and_within(count, budget):
    positions = evenly(count, budget)
    assert len(positions) == min(count, budget)
    assert (np.diff(positions) > 0).all() and positions[0] >= 0 and positions[-1] < count
    assert positions.tolist() == [int((j + 0.5) * count / len(positions)) for j in range(len(positions))]


def test_calibration_comes_as_close_as_any_of_its_thresholds():
    rng = np.random.default_rng(7)
    groups = [CosineMeasure(np.cumsum(rng.normal(size=(40, 6)), axis=0)) for _ in range(3)]
    threshold = calibrated(groups, target=30)

    def count(value):
        return sum(int(greedy(group, threshold=value).kept.sum()) for group in groups)

    largest = max(group.to(i).max() for group in groups for i in range(40))
    assert abs(count(threshold) - 30) == min(abs(count(largest * step / 50) - 30) for step in range(1, 51))
