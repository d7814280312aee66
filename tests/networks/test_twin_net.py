"""Two networks in one: different weights, one fused output."""

from __future__ import annotations

from functools import partial

import torch

from medssl.networks import SplitSegResNet, TwinNet


def test_twins_differ_in_their_weights_and_answer_with_their_mean() -> None:
    network = TwinNet(
        out_channels=3, network=partial(SplitSegResNet, init_filters=4, blocks_down=(1, 1), blocks_up=(1,))
    )
    image = torch.randn(2, 1, 4, 6, 8)
    with torch.no_grad():
        network.eval()
        first, second = (part(image).softmax(1) for part in network.independent_parts())
        assert torch.allclose(network(image).exp(), (first + second) / 2, atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-3)
    assert {name.split(".")[0] for name in network.state_dict()} == {"first", "second"}
