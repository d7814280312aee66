"""The SwAV step against its parts written out, its queue, frozen prototypes, and resuming."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from methods.slice_contrast.small_slices import (
    bare_engine,
    plain_optimization,
    run,
    small_network,
    views,
    write_volumes,
)

from medssl.core.errors import ConfigError
from medssl.losses import sinkhorn_assignments, swapped_prediction
from medssl.methods.slice_contrast import EmbeddingQueue, SwavStep


def _step(network, **options) -> SwavStep:
    options = {"frozen_iterations": 0, **options}
    return SwavStep(network=network, optimization=plain_optimization(network), **options)


def test_one_step_is_the_loss_and_the_gradient_written_out() -> None:
    network, expected = small_network(), small_network()
    output = _step(network)(bare_engine(), views())
    expected.normalize_prototypes()
    scores = expected.train()(views()["views"]).scores
    loss = swapped_prediction(scores, [sinkhorn_assignments(each) for each in scores[:2]])
    torch.optim.SGD(expected.parameters(), lr=0.05).zero_grad()
    loss.backward()
    assert torch.allclose(output["loss"], loss)
    for own, other in zip(network.parameters(), expected.parameters(), strict=True):
        moved = other if other.grad is None else other - 0.05 * other.grad
        assert torch.allclose(own, moved, atol=1e-6)


def test_frozen_prototypes_stay_where_they_are() -> None:
    network = small_network()
    network.normalize_prototypes()
    before = network.prototypes.weight.detach().clone()
    step = _step(network, frozen_iterations=1)
    step(bare_engine(iteration=1), views())
    assert torch.allclose(network.prototypes.weight, before, atol=1e-6)
    step(bare_engine(iteration=2), views())
    assert not torch.allclose(network.prototypes.weight, before, atol=1e-6)


def test_a_full_queue_takes_part_in_the_assignments() -> None:
    losses = []
    for start in (0, 9):  # in use from the second batch on, or not yet
        network = small_network()
        queue = EmbeddingQueue(length=3, dimensions=8, views=2)
        step = _step(network, queue=queue, queue_start=start)
        step(bare_engine(iteration=1), views(seed=1))
        losses.append(float(step(bare_engine(iteration=2), views(seed=2))["loss"]))
    assert queue.is_full
    assert losses[0] != losses[1]


def test_monitors_get_the_large_crops() -> None:
    embedded = _step(small_network())(bare_engine(), views())["embedded"]
    assert embedded.embeddings.shape == (6, 8)
    assert embedded.sources.tolist() == [0, 1, 2, 0, 1, 2]
    assert embedded.collapse_value == pytest.approx(math.log(6))


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "data")
    whole = run(tmp_path / "whole", manifest, method="swav", epochs=2)
    run(tmp_path / "parts", manifest, method="swav", epochs=1)
    parts = run(tmp_path / "parts", manifest, method="swav", epochs=2)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_network_without_prototypes_is_refused() -> None:
    with pytest.raises(ConfigError, match="prototypes"):
        _step(small_network(prototypes=0))
