"""MONAI's UNet under the encoder contract: the same numbers, cut in three."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet

from medssl.core.errors import ConfigError
from medssl.networks import MultiViewNet, SplitNetwork, SplitUNet
from medssl.networks.pretrained import PretrainedNetwork, pretrained_tensors
from medssl.networks.split import check_tail_dropout
from medssl.networks.weights import transfer_weights

_IMAGE = torch.randn(2, 1, 8, 16, 24, generator=torch.Generator().manual_seed(0))
_SIZE = {"channels": (4, 6, 8), "strides": (2, 2), "num_res_units": 2}


def _network(**options) -> SplitUNet:
    torch.manual_seed(0)
    return SplitUNet(out_channels=3, **{**_SIZE, **options})


def _stock(**options) -> UNet:
    norm = ("instance", {"affine": True})
    return UNet(spatial_dims=3, in_channels=1, out_channels=3, norm=norm, **{**_SIZE, **options})


@pytest.mark.parametrize("deeper", [{}, {"channels": (4, 6, 8, 10), "strides": (2, 2, 1), "num_res_units": 0}])
def test_weights_fit_the_stock_unet_and_give_its_logits(deeper: dict) -> None:
    split, stock = _network(**deeper).eval(), _stock(**deeper).eval()
    assert transfer_weights(split, stock.state_dict()).match == 1.0
    assert stock.state_dict().keys() == split.state_dict().keys()
    assert torch.equal(split(_IMAGE), stock(_IMAGE))


def test_it_keeps_the_contract_of_split_and_pretrained_networks() -> None:
    network = _network()
    assert isinstance(network, SplitNetwork)
    assert isinstance(network, PretrainedNetwork)
    assert network.strides == (4, 4, 4)
    check_tail_dropout(network)


def test_encoder_and_decoder_blocks_are_all_but_the_last_block() -> None:
    network = _network()
    names = set(pretrained_tensors(network, network.decoder_depth))
    rest = {name for name in network.state_dict() if name.startswith("model.2.")}
    assert names | rest == set(network.state_dict())
    assert not names & rest
    with pytest.raises(ConfigError, match="expected 0 to 1"):
        network.decode_blocks(network.encode(_IMAGE), 2)


def test_views_take_it() -> None:
    network = MultiViewNet(out_channels=3, network=lambda **given: SplitUNet(**_SIZE, **given), views=3)
    assert network(_IMAGE).shape == (2, 3, 8, 16, 24)
