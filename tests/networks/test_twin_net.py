"""Two networks in one: different weights, one fused output."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.networks import MultiViewNet, SplitSegResNet, TwinNet

_part = partial(SplitSegResNet, init_filters=4, blocks_down=(1, 1), blocks_up=(1,), out_channels=3)


def test_twins_differ_in_their_weights_and_answer_with_their_mean() -> None:
    network = TwinNet(first=_part(), second=_part())
    image = torch.randn(2, 1, 4, 6, 8)
    with torch.no_grad():
        network.eval()
        first, second = (part(image).softmax(1) for part in network.twins())
        assert torch.allclose(network(image).exp(), (first + second) / 2, atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-3)
    assert {name.split(".")[0] for name in network.state_dict()} == {"first", "second"}


def test_twins_that_have_parts_are_clipped_and_counted_part_by_part() -> None:
    views = [MultiViewNet(out_channels=3, network=_part, views=2) for _ in range(2)]
    network = TwinNet(first=views[0], second=views[1])
    assert network.independent_parts() == [part for each in views for part in each.independent_parts()]
    assert len(network.independent_parts()) == 4
    assert TwinNet(first=(first := _part()), second=(second := _part())).independent_parts() == [first, second]


def test_one_network_is_no_twins() -> None:
    with pytest.raises(ConfigError, match="the same one twice"):
        TwinNet(first=(network := _part()), second=network)
