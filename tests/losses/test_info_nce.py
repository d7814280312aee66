"""InfoNCE against a plain loop, and its behaviour at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from medssl.losses.info_nce import info_nce


def _rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _loop(queries, keys, negatives, temperature: float) -> float:
    queries, keys, negatives = (normalize(rows, dim=1) for rows in (queries, keys, negatives))
    terms = []
    for query, key in zip(queries, keys, strict=True):
        pulled = math.exp(float(query @ key) / temperature)
        pushed = sum(math.exp(float(query @ negative) / temperature) for negative in negatives)
        terms.append(-math.log(pulled / (pulled + pushed)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_the_loss_equals_a_plain_loop(temperature: float) -> None:
    rows = _rows(5, 1), _rows(5, 2), _rows(11, 3)
    assert float(info_nce(*rows, temperature=temperature)) == pytest.approx(_loop(*rows, temperature), rel=1e-12)


def test_the_gradient_is_right() -> None:
    queries, keys, negatives = (_rows(count, seed).requires_grad_() for count, seed in ((3, 1), (3, 2), (4, 3)))
    assert torch.autograd.gradcheck(info_nce, (queries, keys, negatives))


def test_without_negatives_nothing_is_learnt() -> None:
    queries = _rows(3, 1).requires_grad_()
    loss = info_nce(queries, _rows(3, 2), _rows(0, 3))
    loss.backward()
    assert float(loss) == 0.0
    assert not queries.grad.any()


def test_one_point_has_the_loss_of_a_collapse() -> None:
    point = _rows(1, 1)
    loss = info_nce(point.expand(4, -1), point.expand(4, -1), point.expand(9, -1))
    assert float(loss) == pytest.approx(math.log(10))


def test_half_precision_is_computed_in_float32() -> None:
    rows = [_rows(4, seed).half() for seed in (1, 2, 3)]
    assert info_nce(*rows, temperature=0.01).dtype is torch.float32


def test_the_own_key_among_the_negatives_is_none() -> None:
    """Two kept keys and those of the batch: each query is pushed from all but its own."""
    queries, keys, kept = _rows(4, 1), _rows(4, 2), _rows(2, 3)
    own = 2 + torch.arange(4)
    plain = [
        _loop(queries[row : row + 1], keys[row : row + 1], torch.cat([kept, keys[:row], keys[row + 1 :]]), 0.2)
        for row in range(4)
    ]
    found = info_nce(queries, keys, torch.cat([kept, keys]), own=own)
    assert float(found) == pytest.approx(sum(plain) / 4, rel=1e-12)


def test_a_batch_of_one_has_no_negative_and_no_gradient() -> None:
    queries, keys = _rows(1, 1).requires_grad_(), _rows(1, 2)
    loss = info_nce(queries, keys, keys, own=torch.zeros(1, dtype=torch.long))
    loss.backward()
    assert float(loss) == 0.0
    assert torch.equal(queries.grad, torch.zeros_like(queries))
