"""Dice and cross-entropy against a plain loop, against MONAI, and at the edges."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses import DiceCE, dice_ce, dice_loss

_SHAPE = (3, 4, 5)


def _case(classes: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, labels and a distribution."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(2, classes, *_SHAPE, generator=generator, dtype=dtype)
    labels = torch.randint(0, classes, (2, 1, *_SHAPE), generator=generator)
    return logits, labels, torch.randn(logits.shape, generator=generator, dtype=dtype).softmax(1)


def _slow(logits: Tensor, target: Tensor, *, first: int, power: int) -> float:
    """Sum voxel by voxel in Python; target (B, C, X, Y, Z)."""
    entropy, dice = [], []
    for scores, expected in zip(logits.flatten(2), target.flatten(2), strict=True):
        probabilities = []
        for voxel, wanted in zip(scores.T.tolist(), expected.T.tolist(), strict=True):
            total = sum(math.exp(score) for score in voxel)
            probabilities.append([math.exp(score) / total for score in voxel])
            entropy.append(-sum(y * math.log(p) for y, p in zip(wanted, probabilities[-1], strict=True)))
        for c in range(first, len(scores)):
            pairs = [(p[c], float(y)) for p, y in zip(probabilities, expected[c], strict=True)]
            denominator = sum(p**power + y**power for p, y in pairs)
            dice.append(1 - (2 * sum(p * y for p, y in pairs) + 1e-5) / (denominator + 1e-5))
    return 0.5 * sum(entropy) / len(entropy) + 0.5 * sum(dice) / len(dice)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(("include_background", "squared"), [(False, True), (True, True), (False, False)])
def test_soft_and_hard_targets_equal_the_plain_loop(classes: int, include_background: bool, squared: bool) -> None:
    logits, labels, soft = _case(classes)
    hard = torch.nn.functional.one_hot(labels[:, 0], classes).movedim(-1, 1).double()
    loss = DiceCE(include_background=include_background, squared=squared)
    options = {"first": 0 if include_background else 1, "power": 2 if squared else 1}
    assert loss(logits, labels).item() == pytest.approx(_slow(logits, hard, **options), abs=1e-10)
    assert loss(logits, soft).item() == pytest.approx(_slow(logits, soft, **options), abs=1e-10)


@pytest.mark.parametrize("squared", [True, False])
def test_hard_labels_give_what_monai_gives(squared: bool) -> None:
    logits, labels, _ = _case()
    reference = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, squared_pred=squared, lambda_dice=0.5, lambda_ce=0.5
    )
    assert dice_ce(logits, labels, squared=squared).item() == pytest.approx(reference(logits, labels).item(), abs=1e-7)


def test_gradients_are_right() -> None:
    logits, _, soft = _case()
    assert torch.autograd.gradcheck(lambda given: dice_ce(given, soft), logits.requires_grad_())


def test_a_soft_target_that_is_met_leaves_nothing_to_learn() -> None:
    logits, _, _ = _case()
    logits.requires_grad_()
    loss = dice_ce(logits, logits.detach().softmax(1), ce_weight=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-9)
    assert logits.grad.abs().max() < 1e-9


def test_plain_denominators_reward_hardening() -> None:
    _, _, soft = _case()
    hardened = torch.nn.functional.one_hot(soft.argmax(1), 3).movedim(-1, 1).double()
    assert dice_loss(hardened, soft, squared=False) < dice_loss(soft, soft, squared=False)
    assert dice_loss(hardened, soft) > dice_loss(soft, soft)


def test_soft_cross_entropy_has_the_gradient_p_minus_y() -> None:
    logits, _, soft = _case()
    logits.requires_grad_()
    dice_ce(logits, soft, dice_weight=0.0, ce_weight=1.0).backward()
    expected = (logits.detach().softmax(1) - soft) / soft[:, 0].numel()
    assert torch.allclose(logits.grad, expected, atol=1e-12)


def test_a_class_absent_from_crop_and_prediction_stays_finite() -> None:
    logits = torch.tensor([40.0, -40.0, -40.0]).view(1, 3, 1, 1, 1).expand(1, 3, *_SHAPE).clone().requires_grad_()
    loss = dice_ce(logits, torch.zeros(1, 1, *_SHAPE))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    assert torch.isfinite(logits.grad).all()


def test_a_large_patch_under_autocast_is_summed_in_float32() -> None:
    logits = torch.zeros(1, 2, 96, 96, 96, dtype=torch.bfloat16)
    labels = torch.ones(1, 1, 96, 96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = dice_ce(logits, labels)
    # p = 1/2 everywhere: cross-entropy ln 2, Dice 2 * 1/2 / (1/4 + 1)
    assert loss.dtype is torch.float32
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 0.5 * (1 - 0.8), abs=1e-5)


def test_weights_that_leave_no_loss_are_refused() -> None:
    with pytest.raises(ConfigError, match="not both 0"):
        DiceCE(dice_weight=0.0, ce_weight=0.0)
