"""The masked contrastive loss against plain loops, MONAI's where they coincide, and its behaviour at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import ContrastiveLoss as MonaiContrastiveLoss
from torch.nn.functional import normalize

from medssl.losses.contrastive import (
    ContrastiveLoss,
    PairMasks,
    anchors_without_negatives,
    collapse_value,
    contrastive_loss,
)


def loop_loss(embeddings, masks: PairMasks, *, temperature: float = 0.1, decoupled: bool = False):
    """The loss term by term, as the papers write it."""
    rows = normalize(embeddings, dim=1)
    terms = []
    for a in range(len(rows)):
        others = [n for n in range(len(rows)) if masks.negatives[a, n]]
        for b in range(len(rows)):
            if masks.positives[a, b] and others:
                pulled = (rows[a] @ rows[b] / temperature).exp()
                pushed = sum((rows[a] @ rows[n] / temperature).exp() for n in others)
                terms.append(-(pulled / (pushed if decoupled else pulled + pushed)).log())
    return sum(terms) / len(terms)


def _masks(count: int = 9, seed: int = 0) -> PairMasks:
    draws = torch.rand(count, count, generator=torch.Generator().manual_seed(seed))
    itself = torch.eye(count, dtype=torch.bool)
    return PairMasks((draws < 0.3) & ~itself, (draws > 0.5) & ~itself)


def _embeddings(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_loss_and_its_gradient_equal_a_plain_loop(decoupled: bool) -> None:
    fast, slow = (_embeddings(9, 4).requires_grad_() for _ in range(2))
    losses = [f(x, _masks(), decoupled=decoupled) for f, x in ((contrastive_loss, fast), (loop_loss, slow))]
    for loss in losses:
        loss.backward()
    assert torch.allclose(losses[0], losses[1], atol=1e-10)
    assert torch.allclose(fast.grad, slow.grad, atol=1e-10)


def test_separate_sets_are_one_mean_over_all_their_pairs() -> None:
    embeddings, masks = _embeddings(3, 6, 4), _masks(6)
    expected = sum(loop_loss(each, masks) for each in embeddings) / 3
    assert torch.allclose(ContrastiveLoss()(embeddings, masks), expected, atol=1e-10)


def test_two_random_views_give_what_monai_gives() -> None:
    first, second = _embeddings(7, 5).float(), _embeddings(7, 5, seed=2).float()
    same = torch.eye(14, dtype=torch.bool).roll(7, 0)
    masks = PairMasks(same, ~same & ~torch.eye(14, dtype=torch.bool))
    expected = float(MonaiContrastiveLoss(temperature=0.2)(first, second))
    loss = contrastive_loss(torch.cat([first, second]), masks, temperature=0.2)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_the_order_of_rows_does_not_matter() -> None:
    embeddings, masks, order = _embeddings(9, 4), _masks(), torch.randperm(9)
    moved = PairMasks(*(mask[order][:, order] for mask in masks))
    assert torch.allclose(contrastive_loss(embeddings, masks), contrastive_loss(embeddings[order], moved))


@pytest.mark.parametrize("decoupled", [False, True])
def test_equal_rows_give_the_collapse_value(decoupled: bool) -> None:
    masks = _masks()
    loss = contrastive_loss(torch.ones(9, 4), masks, decoupled=decoupled)
    assert float(loss) == pytest.approx(collapse_value(masks, decoupled=decoupled), abs=1e-5)


def test_the_collapse_value_is_the_logarithm_of_the_number_of_negatives() -> None:
    negatives = torch.ones(4, 37, dtype=torch.bool)
    negatives[:, 0] = False
    masks = PairMasks(~negatives, negatives)
    assert collapse_value(masks) == pytest.approx(math.log(37))
    assert collapse_value(masks, decoupled=True) == pytest.approx(math.log(36))


def test_an_anchor_without_negatives_is_left_out_and_counted() -> None:
    masks = _masks()
    masks.negatives[3] = False
    embeddings = _embeddings(9, 4).requires_grad_()
    loss = contrastive_loss(embeddings, masks)
    loss.backward()
    assert torch.allclose(loss, loop_loss(embeddings, masks))
    assert embeddings.grad.isfinite().all()
    assert anchors_without_negatives(masks) == 1


@pytest.mark.parametrize("missing", ["positives", "negatives"])
def test_nothing_to_compare_is_a_loss_of_zero_with_zero_gradient(missing: str) -> None:
    masks = _masks()._replace(**{missing: torch.zeros(9, 9, dtype=torch.bool)})
    embeddings = _embeddings(9, 4).requires_grad_()
    contrastive_loss(embeddings, masks).backward()
    assert not embeddings.grad.any()


def test_autocast_leaves_the_loss_in_float32() -> None:
    embeddings, masks = _embeddings(9, 4).float(), _masks()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrastive_loss(embeddings, masks)
        half = contrastive_loss(embeddings.bfloat16(), masks)
    assert loss.dtype is torch.float32
    assert torch.equal(loss, contrastive_loss(embeddings, masks))
    assert float(half) == pytest.approx(float(loss), abs=1e-2)


def test_large_similarities_overflow_nothing() -> None:
    loss = contrastive_loss(_embeddings(9, 4).float(), _masks(), temperature=1e-3)
    assert loss.isfinite()
