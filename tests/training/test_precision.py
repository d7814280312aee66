"""Mixed precision by device, and the guard against garbage gradients of short maps on CPUs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.networks import CSwinUNet, SplitUNet, ViewNet
from medssl.networks.cswin_attention import CrossShapedAttention, stripe_windows
from medssl.training.precision import autocast, autocast_dtype, guard_cpu_convolutions

_CPU = torch.device("cpu")
_has_bf16 = torch.cpu._is_avx512_bf16_supported()


def test_the_switch_turns_mixed_precision_off() -> None:
    assert autocast_dtype(_CPU, amp=False) is None


@pytest.mark.skipif(not _has_bf16, reason="this CPU has no bfloat16")
def test_a_cpu_with_bfloat16_uses_it_whatever_is_wished() -> None:
    assert autocast_dtype(_CPU, amp=True, dtype=torch.float16) is torch.bfloat16


def test_autocast_acts_on_the_cpu() -> None:
    with autocast(_CPU, torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16
    with autocast(_CPU, None):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def _weight_gradient(conv: nn.Conv3d, image: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    conv.zero_grad()
    with autocast(_CPU, dtype):
        out = conv(image)
    out.float().pow(2).mean().backward()
    assert conv.weight.grad is not None
    return conv.weight.grad.clone()


@pytest.mark.parametrize("extent", range(1, 9))
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 3, 1), (5, 5, 5), (7, 7, 3)])
def test_guarded_gradients_agree_with_float32_on_every_map_size(extent: int, kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(extent)
    conv = nn.Conv3d(8, 16, kernel, padding=tuple(k // 2 for k in kernel))
    image = torch.randn(2, 8, extent, 6, 6)
    expected = _weight_gradient(conv, image, None)
    guard_cpu_convolutions(conv)
    found = _weight_gradient(conv, image, torch.bfloat16)
    assert (found - expected).norm() <= 0.05 * expected.norm()


def test_the_guard_leaves_autocast_as_it_was_also_after_an_error() -> None:
    conv = nn.Conv3d(1, 1, 3, padding=1)
    guard_cpu_convolutions(conv)
    with autocast(_CPU, torch.bfloat16):
        with pytest.raises(RuntimeError):
            conv(torch.randn(1, 2, 2, 4, 4))
        assert torch.is_autocast_enabled("cpu")
        assert conv(torch.randn(1, 1, 2, 4, 4)).dtype is torch.float32
        assert conv(torch.randn(1, 1, 4, 4, 4)).dtype is torch.bfloat16


@pytest.mark.parametrize("make", [CSwinUNet, SplitUNet, ViewNet])
def test_every_kernel_of_a_network_lies_in_a_module_that_the_guard_finds(make: type[nn.Module]) -> None:
    network = make()
    guarded = [module for module in network.modules() if isinstance(module, nn.Conv3d | nn.ConvTranspose3d)]
    found = {id(module.weight) for module in guarded}
    assert found == {id(each) for each in network.parameters() if each.ndim == 5}


@pytest.mark.skipif(not _has_bf16, reason="this CPU has no bfloat16")
@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_attention_in_narrow_stripes_learns_in_bfloat16_as_in_float32(family: str) -> None:
    torch.manual_seed(0)
    attention = CrossShapedAttention(12, windows=stripe_windows(family, stripe=2, slab_depth=2), heads=6)
    features, target = torch.randn(2, 2, 8, 8, 8, 12)
    gradients = []
    guard_cpu_convolutions(attention)
    for dtype in (None, torch.bfloat16):
        attention.zero_grad()
        with autocast(_CPU, dtype):
            out = attention(features)
        (out.float() * target).sum().backward()
        gradients.append([lepe.convolution.weight.grad for lepe in attention.lepe])
    for expected, found in zip(*gradients, strict=True):
        assert (found - expected).norm() <= 0.05 * expected.norm()
