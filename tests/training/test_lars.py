"""The optimiser against its equations written out."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.training import Lars


def _gradients(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, dtype=torch.float64, generator=generator) for _ in range(count)]


def test_steps_are_those_of_the_equations() -> None:
    weight = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).requires_grad_()
    expected, momentum = weight.detach().clone(), torch.zeros(4, 3, dtype=torch.float64)
    optimizer = Lars([weight], lr=0.3, momentum=0.9, weight_decay=0.01, trust=0.02)
    for gradient in _gradients(3):
        weight.grad = gradient
        optimizer.step()
        scale = 0.02 * expected.norm() / (gradient.norm() + 0.01 * expected.norm())
        momentum = 0.9 * momentum + scale * (gradient + 0.01 * expected)
        expected = expected - 0.3 * momentum
    assert torch.allclose(weight, expected, atol=1e-12)


def test_a_tensor_of_zeros_moves_by_its_plain_gradient() -> None:
    bias = torch.zeros(3, requires_grad=True)
    bias.grad = torch.ones(3)
    Lars([bias], lr=0.5).step()
    assert torch.equal(bias, torch.full((3,), -0.5))


def test_what_has_no_gradient_stays() -> None:
    weight = torch.ones(3, requires_grad=True)
    Lars([weight], lr=0.5).step()
    assert torch.equal(weight, torch.ones(3))


def test_a_saved_state_goes_on_alike() -> None:
    first, second = (torch.ones(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer, resumed = Lars([first], lr=0.1), Lars([second], lr=0.1)
    first.grad = _gradients(1)[0]
    optimizer.step()
    second.data.copy_(first.data)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    for weight, each in ((first, optimizer), (second, resumed)):
        weight.grad = _gradients(2)[1]
        each.step()
    assert torch.equal(first, second)


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="lr -1"):
        Lars([torch.ones(1, requires_grad=True)], lr=-1)
