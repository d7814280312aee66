"""Assignments and swapped prediction against plain float64 loops in the form of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.losses.swav import sinkhorn_assignments, swapped_prediction


def _scores(count: int = 7, prototypes: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, prototypes, dtype=torch.float64, generator=generator) * 2 - 1


def _published(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    codes = (scores / epsilon).exp().T
    prototypes, samples = codes.shape
    codes = codes / codes.sum()
    for _ in range(iterations):
        codes = codes / codes.sum(1, keepdim=True) / prototypes
        codes = codes / codes.sum(0, keepdim=True) / samples
    return (codes * samples).T


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_assignments_equal_the_published_scaling(iterations: int) -> None:
    found = sinkhorn_assignments(_scores(), iterations=iterations)
    assert torch.allclose(found, _published(_scores(), 0.05, iterations), atol=1e-12)


def test_rows_are_distributions_and_prototypes_are_used_alike() -> None:
    found = sinkhorn_assignments(_scores(12, 3), iterations=200)
    assert torch.allclose(found.sum(1), torch.ones(12, dtype=torch.float64))
    assert torch.allclose(found.sum(0), torch.full((3,), 4.0, dtype=torch.float64), atol=1e-3)


def test_extreme_scores_stay_finite_in_half_precision() -> None:
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], dtype=torch.float16)
    found = sinkhorn_assignments(scores, epsilon=0.001)
    assert found.dtype is torch.float32
    assert found.isfinite().all()


def _loop_loss(scores, assignments, temperature: float) -> float:
    terms = []
    for number, target in enumerate(assignments):
        for other, each in enumerate(scores):
            if other != number:
                for row, code in zip(each.tolist(), target.tolist(), strict=True):
                    total = sum(math.exp(value / temperature) for value in row)
                    predicted = [math.exp(value / temperature) / total for value in row]
                    terms.append(-sum(q * math.log(p) for q, p in zip(code, predicted, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("crops", "assigned"), [(2, 2), (5, 2), (3, 1)])
def test_the_loss_equals_a_plain_loop(crops: int, assigned: int) -> None:
    scores = [_scores(seed=seed).requires_grad_() for seed in range(crops)]
    assignments = [sinkhorn_assignments(each) for each in scores[:assigned]]
    loss = swapped_prediction(scores, assignments, temperature=0.1)
    assert float(loss) == pytest.approx(_loop_loss(scores, assignments, 0.1), rel=1e-12)
    loss.backward()
    assert all(each.grad is not None for each in scores[1:])


def test_one_point_has_the_loss_of_a_collapse() -> None:
    scores = [torch.full((6, 5), 0.3, dtype=torch.float64) for _ in range(3)]
    loss = swapped_prediction(scores, [sinkhorn_assignments(scores[0])])
    assert float(loss) == pytest.approx(math.log(5))


def test_a_single_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 crops"):
        swapped_prediction([_scores()], [sinkhorn_assignments(_scores())])
