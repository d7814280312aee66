"""Parts of a network that a pre-training makes, told by name."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.networks import SliceUNet, SplitSegResNet, ViewNet
from medssl.networks.pretrained import (
    PretrainedNetwork,
    check_decoder_blocks,
    feature_shape,
    pretrained_tensors,
    require_pretrained,
    train_only,
)
from medssl.networks.split import SplitNetwork

_NETWORKS = [
    SliceUNet(channels=(4, 8, 8)),
    SplitSegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
    ViewNet(size="tiny"),
]


@pytest.mark.parametrize("network", _NETWORKS)
def test_networks_decode_block_by_block_up_to_their_tail(network) -> None:
    assert isinstance(network, SplitNetwork)
    assert isinstance(network, PretrainedNetwork)
    sizes = [feature_shape(network, (16, 16, 16), 1, blocks=blocks)[1] for blocks in range(network.decoder_depth + 1)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 16
    image = torch.rand(1, 1, 16, 16, 16)
    network.eval()
    assert torch.allclose(network(image), network.tail(network.decode(network.encode(image))))


@pytest.mark.parametrize("network", _NETWORKS)
def test_tensors_of_a_part_are_those_that_get_a_gradient_from_it(network) -> None:
    network.zero_grad(set_to_none=True)
    network.requires_grad_(requires_grad=True)
    network.decode_blocks(network.encode(torch.rand(1, 1, 16, 16, 16)), 1).sum().backward()
    touched = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert touched == set(pretrained_tensors(network, 1))
    assert set(pretrained_tensors(network)) < touched


def test_only_named_modules_are_trained() -> None:
    network = SliceUNet(channels=(4, 8, 8))
    train_only(network, network.decoder_modules(1))
    trained = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"decoder"}


def test_blocks_that_do_not_exist_and_networks_without_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected 0 to 2"):
        check_decoder_blocks(_NETWORKS[0], 3)
    with pytest.raises(ConfigError, match="SliceUNet"):
        require_pretrained(torch.nn.Conv3d(1, 1, 1))
