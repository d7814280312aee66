"""The slice network: each slice on its own, 2D weights, the three parts of the encoder contract."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.networks import SliceUNet, SplitSegResNet, ViewNet
from medssl.networks.split import (
    PretrainedNetwork,
    SplitNetwork,
    check_decoder_blocks,
    check_tail_dropout,
    pretrained_tensors,
)

_SMALL = {"channels": (4, 8, 8), "out_channels": 3}


@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})])
def test_a_volume_gives_what_its_slices_give(norm) -> None:
    network = SliceUNet(norm=norm, **_SMALL).eval()
    volume = torch.rand(2, 1, 16, 12, 5)
    alone = torch.cat([network(volume[..., z : z + 1]) for z in range(5)], dim=-1)
    assert network(volume).shape == (2, 3, 16, 12, 5)
    assert torch.allclose(network(volume), alone, atol=1e-5)


def test_a_slice_sees_itself_only() -> None:
    volume = torch.rand(1, 1, 16, 16, 3, requires_grad=True)
    SliceUNet(**_SMALL)(volume)[..., 1].sum().backward()
    assert volume.grad[..., 1].abs().sum() > 0
    assert not volume.grad[..., [0, 2]].any()


def test_the_published_size_has_its_channels_and_stride() -> None:
    network = SliceUNet(out_channels=4)
    assert network.strides == (32, 32, 1)
    assert [features.shape[1] for features in network.encode(torch.rand(1, 1, 64, 64, 1))] == [
        16,
        32,
        64,
        128,
        128,
        128,
    ]
    assert network.decode_blocks(network.encode(torch.rand(1, 1, 192, 192, 1)), 3).shape == (1, 64, 48, 48, 1)


def test_every_weight_gets_a_gradient_and_is_2d() -> None:
    network = SliceUNet(dropout_rate=0.3, **_SMALL)
    check_tail_dropout(network)
    network(torch.rand(1, 1, 16, 16, 2)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.ndim in {1, 4} for parameter in network.parameters())


@pytest.mark.parametrize(
    "network",
    [
        SliceUNet(**_SMALL),
        SplitSegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
        ViewNet(size="tiny"),
    ],
)
def test_networks_decode_block_by_block_up_to_their_tail(network) -> None:
    assert isinstance(network, SplitNetwork)
    assert isinstance(network, PretrainedNetwork)
    network.eval()
    image = torch.rand(1, 1, 16, 16, 16)
    features = network.encode(image)
    sizes = [network.decode_blocks(features, blocks).shape[2] for blocks in range(network.decoder_depth + 1)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 16
    assert torch.allclose(network(image), network.tail(network.decode(features)))


def test_parts_of_the_network_are_told_by_name() -> None:
    network = SliceUNet(**_SMALL)
    assert {name.split(".")[0] for name in pretrained_tensors(network)} == {"encoder"}
    decoded = set(pretrained_tensors(network, 1)) - set(pretrained_tensors(network))
    assert {name.rsplit(".", 3)[0].split(".")[1] for name in decoded} == {"0"}
    with pytest.raises(ConfigError, match="expected 0 to 2"):
        check_decoder_blocks(network, 3)
