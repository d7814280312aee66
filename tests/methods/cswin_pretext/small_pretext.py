"""A pre-training small enough for tests."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from medssl.methods.cswin_pretext import PretextNet, PretextStep
from medssl.networks import CSwinUNet
from medssl.training import Optimization

SIZE = (32, 32, 8)


def small_network() -> CSwinUNet:
    torch.manual_seed(0)
    return CSwinUNet(in_channels=3, out_channels=2, size="tiny", family="slabs")


def small_net(**options) -> PretextNet:
    torch.manual_seed(1)
    return PretextNet(network=small_network(), image_size=SIZE, **{"decoder_blocks": 2, "width": 16} | options)


def make_step(net: PretextNet, **options) -> PretextStep:
    optimizer = torch.optim.SGD([each for each in net.parameters() if each.requires_grad], lr=0.01)
    optimization = Optimization(network=net, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    return PretextStep(optimization=optimization, **options)


def batch(rows: int = 2) -> dict:
    generator = torch.Generator().manual_seed(5)
    return {"image": torch.randn(rows, 3, *SIZE, generator=generator), "case_id": [f"c{row}" for row in range(rows)]}


def engine(net: PretextNet, iteration: int = 1) -> SimpleNamespace:
    state = SimpleNamespace(device=torch.device("cpu"), iteration=iteration, output=None)
    return SimpleNamespace(network=net, state=state, non_blocking=False, fire_event=lambda _: None)
