"""Consistency losses against plain loops, for any number of classes."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.losses.consistency import (
    certain_mean_square,
    certain_voxels,
    cross_supervision,
    mean_square,
    predictive_entropy,
)


def _pair(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    first, second = torch.randn(2, 2, classes, 2, 3, 4, generator=generator).softmax(2)
    return first, second


@pytest.mark.parametrize("classes", [2, 3, 14])
def test_the_certain_mean_equals_the_plain_loop(classes: int) -> None:
    first, second = _pair(classes)
    certain = torch.rand(2, 2, 3, 4) > 0.5
    found = certain_mean_square(first, second, certain).item()
    squares = [
        (float(first[b, c, x, y, z]) - float(second[b, c, x, y, z])) ** 2
        for b, x, y, z in certain.nonzero().tolist()
        for c in range(classes)
    ]
    assert found == pytest.approx(sum(squares) / len(squares), rel=1e-4)
    assert certain_mean_square(first, second, torch.ones_like(certain)).item() == pytest.approx(
        mean_square(first, second).item(), rel=1e-4
    )


def test_processes_divide_by_their_mean_number_of_certain_voxels() -> None:
    (first, second), certain = _pair(3), torch.rand(2, 2, 3, 4) > 0.5
    parts = [
        certain_mean_square(first[[b]], second[[b]], certain[[b]], voxels=certain.sum() / 2).item() for b in range(2)
    ]
    assert sum(parts) / 2 == pytest.approx(certain_mean_square(first, second, certain).item(), rel=1e-5)


def test_no_certain_voxel_gives_nothing_to_learn_also_in_autocast() -> None:
    first, second = _pair(3)
    first.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = certain_mean_square(first, second, torch.zeros(2, 2, 3, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert first.grad.abs().max() == 0.0


@pytest.mark.parametrize("classes", [2, 3, 14])
def test_a_uniform_prediction_is_uncertain_and_a_sure_one_is_certain(classes: int) -> None:
    uniform = torch.full((1, classes, 1, 1, 1), 1 / classes)
    sure = torch.zeros(1, classes, 1, 1, 1)
    sure[:, 0] = 1.0
    assert predictive_entropy(uniform).item() == pytest.approx(math.log(classes), abs=1e-4)
    for progress in (0.0, 0.5, 0.99):
        assert not certain_voxels(uniform, progress=progress).any()
        assert certain_voxels(sure, progress=progress).all()


def test_the_bound_of_two_classes_is_the_published_one() -> None:
    mean = torch.tensor([0.8, 0.2]).view(1, 2, 1, 1, 1)  # entropy 0.5004, bound 0.75 ln 2 = 0.5199
    almost = torch.tensor([0.78, 0.22]).view(1, 2, 1, 1, 1)  # entropy 0.5269
    assert certain_voxels(mean, progress=0.0).all()
    assert not certain_voxels(almost, progress=0.0).any()
    assert certain_voxels(almost, progress=1.0).all()


def test_the_bound_grows_with_the_number_of_classes() -> None:
    four = torch.tensor([0.7, 0.3, 0.0, 0.0]).view(1, 4, 1, 1, 1)  # entropy 0.611, bound 0.75 ln 4 = 1.04
    assert certain_voxels(four, progress=0.0).all()
    assert not certain_voxels(four[:, :2], progress=0.0).any()  # of two classes: 0.52


def test_cross_supervision_sends_no_gradient_to_the_other_network() -> None:
    logits = torch.randn(2, 3, 2, 3, 4, requires_grad=True)
    other = torch.randn(2, 3, 2, 3, 4, requires_grad=True)
    loss = cross_supervision(logits, other)
    loss.backward()
    picked = logits.detach().log_softmax(1).gather(1, other.detach().argmax(1, keepdim=True))
    assert loss.item() == pytest.approx(-picked.mean().item(), rel=1e-5)
    assert other.grad is None
