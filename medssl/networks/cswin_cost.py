"""What a size of the CSwin UNet costs: parameters and floating-point operations, counted without running it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medssl.networks.cswin_attention import Family
from medssl.networks.cswin_unet import SIZES, CSwinUNet


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass.

    Attributes:
        parameters: Trainable numbers.
        flops: Operations of convolutions and matrix products, two for a multiplication and its addition;
            normalisation and activations are not in it.
    """

    parameters: int
    flops: int


def count_cost(network: nn.Module, image_shape: Sequence[int]) -> Cost:
    """Count the cost of one forward pass on an image (B, C, X, Y, Z), on tensors without memory.

    The network keeps its weights and its mode. It takes seconds, whatever the size of the image.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    hollow = copy.deepcopy(network).to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        hollow(torch.empty(*image_shape, device="meta"))
    return Cost(parameters=parameters, flops=counter.get_total_flops())


def size_table(family: Family, image_shape: Sequence[int], *, out_channels: int = 2) -> str:
    """Return a Markdown table with parameters and operations of every size for an image (B, C, X, Y, Z)."""
    lines = ["| size | parameters | operations of a forward pass |", "|---|---|---|"]
    for size in SIZES:
        with torch.device("meta"):
            network = CSwinUNet(in_channels=image_shape[1], out_channels=out_channels, size=size, family=family)
        cost = count_cost(network, image_shape)
        lines.append(f"| {size} | {cost.parameters / 1e6:.2f} M | {cost.flops / 1e9:.1f} GFLOP |")
    return "\n".join(lines)
