"""Parameters and operations: against sums done by hand, and for every size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.networks.cswin_attention import CrossShapedAttention, stripe_windows
from medssl.networks.cswin_cost import count_cost, size_table
from medssl.networks.cswin_unet import SIZES, CSwinUNet


def test_a_convolution_counts_two_operations_for_each_weight_and_voxel() -> None:
    cost = count_cost(nn.Conv3d(2, 4, 3, padding=1, bias=False), (1, 2, 5, 6, 7))
    assert cost.parameters == 2 * 4 * 27
    assert cost.flops == 2 * cost.parameters * 5 * 6 * 7


def test_attention_costs_what_its_stripes_hold() -> None:
    x, y, z, channels = 4, 6, 5, 12
    attention = CrossShapedAttention(channels, windows=stripe_windows("slabs", stripe=2), heads=4)
    tokens, per_group = x * y * z, channels // 2
    linear = 2 * tokens * (3 * channels**2 + channels**2)
    lepe = 2 * tokens * channels * 27
    products = sum(4 * tokens * in_stripe * per_group for in_stripe in (x * 2 * z, 2 * y * z))
    assert count_cost(attention, (1, x, y, z, channels)).flops == linear + lepe + products


@pytest.mark.parametrize(("family", "shape"), [("lines", (1, 1, 64, 64, 64)), ("slabs", (1, 3, 64, 64, 8))])
def test_the_table_has_parameters_and_operations_of_every_size(family: str, shape: tuple[int, ...]) -> None:
    table = size_table(family, shape)
    for size in SIZES:
        network = CSwinUNet(in_channels=shape[1], size=size, family=family)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        row = next(line for line in table.splitlines() if line.startswith(f"| {size} |"))
        assert f"{parameters / 1e6:.2f} M" in row
        assert float(row.split("|")[3].split()[0]) == pytest.approx(count_cost(network, shape).flops / 1e9, abs=0.1)


@pytest.mark.parametrize(
    ("family", "shape", "gigaflops"),
    [("lines", (1, 1, 64, 64, 64), (17.5, 68.4, 270.5)), ("slabs", (1, 3, 64, 64, 8), (2.9, 11.1, 43.8))],
)
def test_operations_of_the_sizes_are_known(family: str, shape: tuple[int, ...], gigaflops: tuple[float, ...]) -> None:
    for size, expected in zip(SIZES, gigaflops, strict=True):
        network = CSwinUNet(in_channels=shape[1], size=size, family=family)
        assert count_cost(network, shape).flops / 1e9 == pytest.approx(expected, abs=0.05)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Conv3d(1, 1, 3).train()
    count_cost(network, (1, 1, 4, 4, 4))
    assert network.training
    assert network.weight.device == torch.device("cpu")
