"""The slice encoder: the stock ResNet in parts, whose weights feed views and the reduction by embeddings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet18

from medssl.core.errors import ConfigError
from medssl.networks import SliceNet, SplitNetwork, ViewNet
from medssl.networks.pretrained import PretrainedNetwork, pretrained_tensors
from medssl.networks.weights import transfer_weights
from medssl.reduction.encoder import load_encoder


@pytest.mark.parametrize("size", ["tiny", "resnet18", "resnet50"])
def test_its_encoder_fills_that_of_a_view(size: str) -> None:
    state = pretrained_tensors(SliceNet(size=size))
    view = ViewNet(size=size)
    transfer_weights(view, state, minimum_match=0.0)
    encoder = pretrained_tensors(view)
    for name, tensor in encoder.items():
        given = state[name]
        filled = tensor[..., tensor.shape[-1] // 2] if tensor.ndim == 5 else tensor
        assert torch.equal(filled, given), name


def test_one_slice_in_a_view_gives_the_features_of_the_slice() -> None:
    slices, view = SliceNet(size="tiny").eval(), ViewNet(size="tiny", norm="batch").eval()
    transfer_weights(view, pretrained_tensors(slices), minimum_match=0.0)
    image = torch.randn(1, 1, 32, 24)
    # Copies across the depth are pooled away, and only the middle tap of the first kernel sees anything
    deep = view.encode(image[..., None].expand(-1, -1, -1, -1, 8))[-1]
    assert torch.allclose(deep[..., 0], slices.encode(image)[-1], atol=1e-4)


def test_it_computes_what_the_stock_network_does() -> None:
    stock = resnet18(spatial_dims=2, n_input_channels=1, num_classes=3, conv1_t_stride=2, bias_downsample=False)
    network = SliceNet(out_channels=3, size="resnet18")
    network.load_state_dict(stock.state_dict())
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(network.eval()(image), stock.eval()(image))


def test_it_keeps_the_contract_of_encoders() -> None:
    network = SliceNet(size="tiny")
    assert isinstance(network, PretrainedNetwork)
    assert isinstance(network, SplitNetwork)
    assert not any(name.startswith("fc") for name in pretrained_tensors(network))


def test_its_weights_serve_the_reduction_by_embeddings(tmp_path: Path) -> None:
    torch.save(pretrained_tensors(SliceNet(size="resnet18")), tmp_path / "encoder.pt")
    encoder = load_encoder(tmp_path / "encoder.pt", architecture="resnet18")
    assert encoder(torch.randint(0, 255, (2, 32, 32), dtype=torch.uint8).numpy()).shape == (2, 512)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="tiny, resnet18, resnet50"):
        SliceNet(size="huge")
