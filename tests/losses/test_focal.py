"""Focal loss: against a slow formula and MONAI's, its gradient, and options that make no sense."""

import math

import pytest
import torch
from monai.losses import FocalLoss
from torch.nn.functional import cross_entropy

from medssl.core.errors import ConfigError
from medssl.losses import Focal, focal_loss
from medssl.losses.dice_ce import dice_ce


def _batch(classes=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, classes, 4, 3, 2, generator=generator, dtype=dtype)
    return logits, torch.randint(0, classes, (2, 1, 4, 3, 2), generator=generator)


def _slow(logits, labels, gamma, alpha):
    total, count = 0.0, 0
    for sample, own in zip(logits, labels, strict=True):
        for place in torch.cartesian_prod(*(torch.arange(size) for size in sample.shape[1:])).tolist():
            values = [float(value) for value in sample[(slice(None), *place)]]
            label = int(own[(0, *place)])
            p = math.exp(values[label]) / sum(map(math.exp, values))
            weight = 1.0 if alpha is None else alpha if label else 1 - alpha
            total -= weight * (1 - p) ** gamma * math.log(p)
            count += 1
    return total / count


@pytest.mark.parametrize("alpha", [None, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 2.5])
def test_the_loss_equals_its_formula_voxel_by_voxel(gamma, alpha):
    logits, labels = _batch(3)
    found = float(focal_loss(logits, labels, gamma=gamma, alpha=alpha))
    assert found == pytest.approx(_slow(logits, labels, gamma, alpha), abs=1e-12)


def test_it_equals_monai_and_without_gamma_the_cross_entropy():
    logits, labels = _batch(2, torch.float32)
    reference = FocalLoss(include_background=True, to_onehot_y=True, use_softmax=True, gamma=2.0)
    # MONAI means over voxels and classes
    assert float(focal_loss(logits, labels)) == pytest.approx(2 * float(reference(logits, labels)), rel=1e-5)
    assert float(focal_loss(logits, labels, gamma=0)) == pytest.approx(
        float(cross_entropy(logits, labels[:, 0])), rel=1e-6
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_is_that_of_the_loss(gamma):
    logits, labels = _batch()
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, gamma=gamma), logits.requires_grad_())


def test_certain_voxels_give_no_nan():
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1, 1).requires_grad_()
    for label in (0, 1):
        for gamma in (0.5, 2.0):
            focal_loss(logits, torch.full((1, 1, 1, 1, 1), label), gamma=gamma).backward()
            assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("partner", "weights"), [("ce", {"ce_weight": 1.0}), ("dice", {"dice_weight": 1.0})])
def test_partners_are_added_with_their_weights(partner, weights):
    logits, labels = _batch()
    other = dice_ce(logits, labels, **{"ce_weight": 0.0, "dice_weight": 0.0} | weights)
    found = Focal(partner=partner, focal_weight=0.3, partner_weight=0.7, gamma=1.0, alpha=0.8)(logits, labels)
    assert float(found) == pytest.approx(
        float(0.3 * focal_loss(logits, labels, gamma=1.0, alpha=0.8) + 0.7 * other), abs=1e-12
    )


def test_half_precision_is_computed_in_float32():
    logits, labels = _batch(2, torch.float32)
    half = logits.to(torch.bfloat16)
    assert focal_loss(half, labels).dtype is torch.float32
    assert float(Focal()(half, labels)) == pytest.approx(float(Focal()(half.float(), labels)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"partner": "tversky"},
        {"focal_weight": -1},
        {"focal_weight": 0, "partner_weight": 0},
        {"gamma": -1},
        {"alpha": 1.0},
        {"alpha": 0.0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="Focal"):
        Focal(**wrong)
