"""Crops of several sizes through one encoder, head and prototypes."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.networks import ProjectedNet, SliceNet


def _network(**options) -> ProjectedNet:
    torch.manual_seed(0)
    return ProjectedNet(encoder=SliceNet(size="tiny"), hidden=16, dimensions=8, **options)


def _crops() -> list[torch.Tensor]:
    return [torch.randn(3, 1, side, side) for side in (32, 32, 16, 16, 16)]


def test_crops_are_embedded_as_if_each_came_alone() -> None:
    network, crops = _network(prototypes=5).eval(), _crops()
    projected = network(crops)
    for crop, embedded, scores in zip(crops, projected.embeddings, projected.scores, strict=True):
        alone = network([crop])
        assert torch.allclose(alone.embeddings[0], embedded, atol=1e-5)
        assert torch.allclose(alone.scores[0], scores, atol=1e-5)


def test_embeddings_have_length_one_and_scores_are_cosines() -> None:
    network = _network(prototypes=5)
    network.normalize_prototypes()
    projected = network(_crops())
    assert torch.allclose(torch.cat(projected.embeddings).norm(dim=1), torch.ones(15))
    assert max(float(scores.abs().max()) for scores in projected.scores) <= 1.0 + 1e-6
    assert torch.equal(network.scores_of(projected.embeddings[0]), projected.scores[0])


def test_prototypes_can_be_left_without_gradient() -> None:
    network = _network(prototypes=5)
    network(_crops(), train_prototypes=False).scores[0].sum().backward()
    assert network.prototypes.weight.grad is None
    network(_crops()).scores[0].sum().backward()
    assert network.prototypes.weight.grad is not None


def test_a_head_without_prototypes_has_no_scores() -> None:
    network = _network(batch_norm=False)
    assert network(_crops()).scores == ()
    with pytest.raises(ConfigError, match="prototypes"):
        network.scores_of(torch.ones(1, 8))


def test_embeddings_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = _network(prototypes=5)(_crops())
    assert {each.dtype for each in (*projected.embeddings, *projected.scores)} == {torch.float32}
