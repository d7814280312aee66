"""Multi-index hashing finds what comparing with every entry finds."""

import numpy as np
import pytest

from medssl.reduction.hash_index import HashIndex
from medssl.reduction.hashing import hamming


def found(index, queries, threshold):
    return {
        (int(query), int(entry), int(distance))
        for pairs in index.within(queries, threshold)
        for query, entry, distance in zip(*pairs, strict=True)
    }


def expected(entries, queries, threshold):
    distances = hamming(queries[:, None], entries)
    return {(int(q), int(e), int(distances[q, e])) for q, e in np.argwhere(distances <= threshold)}


def near(entries, rng, flips):
    queries = entries[rng.integers(0, len(entries), 300)].copy()
    for query in range(300):
        for bit in rng.permutation(64)[: flips + query % 2]:
            queries[query] ^= np.uint64(1) << np.uint64(bit)
    return queries


@pytest.mark.parametrize("threshold", [0, 3, 4, 6, 7, 8, 12])
def test_all_pairs_are_found_also_at_the_threshold_itself(threshold):
    rng = np.random.default_rng(threshold)
    entries = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    queries = near(entries, rng, flips=threshold)
    pairs = found(HashIndex(entries), queries, threshold)
    assert pairs == expected(entries, queries, threshold)
    assert threshold in {distance for _, _, distance in pairs}


@pytest.mark.parametrize("mask", [0, 0xFF, 0x00003C3C3C3C0000, 0xFFFF000000000000])
def test_crowded_tables_lose_nothing(mask):
    rng = np.random.default_rng(1)
    entries = rng.integers(0, 2**64, 500, dtype=np.uint64) & np.uint64(mask)
    queries = near(entries, rng, flips=5)
    assert found(HashIndex(entries), queries, 6) == expected(entries, queries, 6)


def test_batches_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    entries = rng.integers(0, 2**64, 500, dtype=np.uint64) & np.uint64(0x0F0F0F0F0F0F0F0F)
    queries = near(entries, rng, flips=5)
    whole = found(HashIndex(entries), queries, 6)
    monkeypatch.setattr("medssl.reduction.hash_index._MOST_PAIRS", 50)
    assert found(HashIndex(entries), queries, 6) == whole


def test_an_empty_index_finds_nothing():
    assert found(HashIndex(np.array([], np.uint64)), np.array([1, 2], np.uint64), 6) == set()
