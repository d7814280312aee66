import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks.ensemble import EnsembleNet


def test_probability_of_the_ensemble_is_the_mean_of_its_members() -> None:
    members = [nn.Conv3d(1, 3, 1) for _ in range(3)]
    image = torch.randn(2, 1, 4, 5, 6)
    mean = torch.stack([member(image).softmax(1) for member in members]).mean(0)
    assert torch.allclose(EnsembleNet(networks=members)(image).softmax(1), mean, atol=1e-6)


def test_ensemble_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        EnsembleNet(networks=[nn.Identity()])
