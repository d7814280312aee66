"""The queue keeps the last embeddings, whatever the batches, and survives a resume."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import CheckpointError, ConfigError
from medssl.methods.slice_contrast import EmbeddingQueue


def _batch(first: int, count: int) -> torch.Tensor:
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(-1, 2)


def test_it_keeps_the_last_embeddings_of_each_view() -> None:
    queue = EmbeddingQueue(length=5, dimensions=2, views=2)
    for first, count in ((0, 3), (3, 3), (6, 1)):
        queue.add([_batch(first, count), 10 + _batch(first, count)])
    assert sorted(queue.rows(0)[:, 0].tolist()) == [2, 3, 4, 5, 6]
    assert sorted(queue.rows(1)[:, 0].tolist()) == [12, 13, 14, 15, 16]


def test_it_starts_empty_and_fills() -> None:
    queue = EmbeddingQueue(length=4, dimensions=2)
    assert (len(queue), len(queue.rows()), queue.is_full) == (0, 0, False)
    queue.add([_batch(0, 9)])
    assert queue.is_full
    assert sorted(queue.rows()[:, 0].tolist()) == [5, 6, 7, 8]


def test_half_the_slices_are_the_limit() -> None:
    assert EmbeddingQueue(length=100, dimensions=2, data=range(31)).length == 15


def test_rows_in_use_do_not_change_when_others_are_added() -> None:
    queue = EmbeddingQueue(length=2, dimensions=2)
    queue.add([_batch(0, 2)])
    used = queue.rows()
    queue.add([_batch(5, 2)])
    assert used[:, 0].tolist() == [0, 1]


def test_its_state_is_restored() -> None:
    first, second = (EmbeddingQueue(length=4, dimensions=2) for _ in range(2))
    first.add([_batch(0, 3)])
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.add([_batch(7, 2)])
    assert torch.equal(first.rows(), second.rows())
    with pytest.raises(CheckpointError, match="queue"):
        EmbeddingQueue(length=5, dimensions=2).load_state_dict(first.state_dict())


def test_no_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        EmbeddingQueue(length=0, dimensions=2)
