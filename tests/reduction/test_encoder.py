"""Encoders from weight files: filled, grey, and refused when they do not fit."""

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet18

from medssl.core.errors import CheckpointError, ConfigError
from medssl.reduction.encoder import SliceEncoder, load_encoder


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """Weights of a ResNet-18 for colour images with 1000 classes, as they are usually shared."""
    torch.manual_seed(0)
    network = resnet18(
        spatial_dims=2, n_input_channels=3, num_classes=1000, conv1_t_stride=2, shortcut_type="B", bias_downsample=False
    )
    path = tmp_path_factory.mktemp("weights") / "resnet18.pt"
    torch.save(network.state_dict(), path)
    return network.eval(), path


def test_a_grey_image_gives_what_it_gives_in_three_colours(colour):
    network, path = colour
    network.fc = torch.nn.Identity()
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    x = torch.from_numpy(image).float()[:, None]
    x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-6)
    with torch.no_grad():
        expected = network(x.expand(-1, 3, -1, -1))
    assert load_encoder(path, architecture="resnet18")(image) == pytest.approx(expected.numpy(), abs=1e-4)


def test_features_with_room_are_averaged():
    class Twice(torch.nn.Module):
        def forward(self, x):
            return torch.cat([x, 2 * x], dim=1)

    vectors = SliceEncoder(Twice())(np.array([[[0, 10], [20, 30]]] * 40, np.uint8))
    assert vectors.shape == (40, 2)
    assert vectors == pytest.approx(0, abs=1e-6)


def test_weights_of_another_network_are_refused(colour):
    with pytest.raises(CheckpointError):
        load_encoder(colour[1], architecture="resnet50")


def test_an_unknown_architecture_is_refused(colour):
    with pytest.raises(ConfigError, match="resnet18"):
        load_encoder(colour[1], architecture="resnet19")
