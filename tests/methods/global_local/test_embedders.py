"""Heads of the two stages: what they train, what stays as it is, for 2D and 3D networks."""

from __future__ import annotations

import pytest
import torch
from methods.global_local.small_pretraining import SIDE, local_step, make_network

from medssl.core.errors import ConfigError
from medssl.losses.region_masks import grid_regions, quincunx_regions
from medssl.methods.global_local import GlobalEmbedder, LocalEmbedder, decoded_size
from medssl.networks import SplitSegResNet, ViewNet
from medssl.networks.pretrained import pretrained_tensors


def _trained(embedder: torch.nn.Module, image: torch.Tensor) -> set[str]:
    embedder(image).square().sum().backward()
    return {name for name, parameter in embedder.network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("pool", ["flatten", "avg"])
def test_the_first_stage_trains_the_encoder_alone(pool: str) -> None:
    network = make_network()
    embedder = GlobalEmbedder(network=network, image_size=(SIDE, SIDE, 1), pool=pool, widths=(16, 8))
    image = torch.rand(2, 1, SIDE, SIDE, 1)
    assert embedder(image).shape == (2, 8)
    assert _trained(embedder, image) == set(pretrained_tensors(network))
    assert not any(parameter.requires_grad for parameter in network.decoder.parameters())


@pytest.mark.parametrize(
    "network", [SplitSegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)), ViewNet(size="tiny")]
)
def test_networks_of_volumes_take_both_stages(network) -> None:
    image = torch.rand(1, 1, 16, 16, 16)
    first = GlobalEmbedder(network=network, image_size=image.shape[2:], pool="avg", widths=(16, 8))
    encoder = set(pretrained_tensors(network))
    assert _trained(first, image) == encoder
    network.zero_grad(set_to_none=True)
    regions = grid_regions(
        (8, 8, 8) if isinstance(network, SplitSegResNet) else (4, 4, 4), size=(2, 2, 2), grid=(2, 2, 2)
    )
    second = LocalEmbedder(network=network, regions=regions, decoder_blocks=1, image_size=image.shape[2:], width=8)
    assert second(image).shape == (1, 8, 8)
    assert _trained(second, image) == set(pretrained_tensors(network, 1)) - encoder


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_the_second_stage_leaves_every_byte_of_the_encoder(norm: str) -> None:
    network = make_network(norm=norm)
    network.train()
    network(torch.rand(4, 1, SIDE, SIDE, 1))
    before = {name: tensor.clone() for name, tensor in pretrained_tensors(network).items()}
    embedder, step = local_step(network)
    embedder.train()
    embedder(torch.rand(4, 1, SIDE, SIDE, 1)).square().sum().backward()
    step.optimization.optimizer.step()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in pretrained_tensors(network).items())


def test_the_published_form_moves_the_statistics_of_the_frozen_encoder() -> None:
    network = make_network(norm="batch")
    embedder = LocalEmbedder(
        network=network,
        regions=quincunx_regions((SIDE, SIDE, 1)),
        decoder_blocks=1,
        image_size=(SIDE, SIDE, 1),
        frozen_norm="train",
    ).train()
    embedder(torch.rand(2, 1, SIDE, SIDE, 1))
    assert int(network.encoder[0][1].num_batches_tracked) == 1


@pytest.mark.parametrize(("blocks", "size"), [(0, [24, 24, 1]), (1, [48, 48, 1])])
def test_regions_can_follow_from_the_network(blocks: int, size: list[int]) -> None:
    assert decoded_size(network=make_network(), image_size=(SIDE, SIDE, 1), decoder_blocks=blocks) == size
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        decoded_size(network=make_network(), image_size=(SIDE, SIDE, 1), decoder_blocks=2)


@pytest.mark.parametrize("side", [16, 48])
def test_regions_of_another_map_are_refused_with_the_size_of_this_one(side: int) -> None:
    regions = quincunx_regions((side, side, 1))
    with pytest.raises(ConfigError, match=r"Set map_size to \[24, 24, 1\]"):
        LocalEmbedder(network=make_network(), regions=regions, decoder_blocks=0, image_size=(SIDE, SIDE, 1))


def test_a_network_without_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match="SliceUNet"):
        GlobalEmbedder(network=torch.nn.Conv3d(1, 1, 1), image_size=(8, 8, 8))
