"""The fast layout changes no value, and leaves alone what it does not fit."""

from __future__ import annotations

import torch

from medssl.networks.layout import with_fast_layout


def test_the_layout_of_convolutions_changes_no_value() -> None:
    layer = torch.nn.Conv3d(2, 3, 3)
    before = layer.weight.detach().clone()
    assert torch.equal(with_fast_layout(layer).weight, before)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_networks_of_2d_and_3d_convolutions_are_laid_out_one_by_one() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Conv3d(2, 3, 3))
    parameters = list(network.parameters())
    with_fast_layout(network)
    assert all(after is before for after, before in zip(network.parameters(), parameters, strict=True))
    assert network[0].weight.is_contiguous()
    assert network[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
