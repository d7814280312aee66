"""The MoCo step against its parts written out, its key network and queue, and resuming."""

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
from medssl.losses import info_nce
from medssl.methods.slice_contrast import EmbeddingQueue, MocoStep
from medssl.networks import SliceNet
from medssl.training import EmaTeacher


def _step(network, *, length: int = 6) -> MocoStep:
    keys = EmaTeacher(teacher=small_network(seed=9, prototypes=0, batch_norm=False), student=network, decay=0.9)
    queue = EmbeddingQueue(length=length, dimensions=8)
    return MocoStep(network=network, optimization=plain_optimization(network), keys=keys, queue=queue)


def _network():
    return small_network(prototypes=0, batch_norm=False)


def test_the_first_step_fills_the_queue_and_teaches_nothing() -> None:
    network, before = _network(), _network()
    step = _step(network)
    output = step(bare_engine(), views())
    assert float(output["loss"]) == 0.0
    assert len(step.queue) == 3
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))


def test_the_second_step_is_the_loss_written_out() -> None:
    network = _network()
    step = _step(network)
    step(bare_engine(iteration=1), views(seed=1))
    batch = views(seed=2)
    negatives = step.queue.rows()
    queries = network.train()([batch["views"][0]]).embeddings[0]
    output = step(bare_engine(iteration=2), batch)
    keys = step.keys.network([batch["views"][1]]).embeddings[0]
    assert float(output["loss"]) == pytest.approx(float(info_nce(queries, keys, negatives)), rel=1e-6)


def test_keys_have_no_gradient_and_follow_slowly() -> None:
    network = _network()
    step = _step(network)
    for iteration in (1, 2, 3):
        step(bare_engine(iteration=iteration), views(seed=iteration))
    assert all(parameter.grad is None for parameter in step.keys.network.parameters())
    assert step.keys.updates == 3
    own, keys = network.head[0].weight, step.keys.network.head[0].weight
    assert not torch.equal(own, keys)


def test_the_collapse_value_follows_the_queue() -> None:
    step = _step(_network())
    assert step(bare_engine(), views())["embedded"].collapse_value == 0.0
    assert step(bare_engine(iteration=2), views())["embedded"].collapse_value == pytest.approx(math.log(4))


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path / "data")
    whole = run(tmp_path / "whole", manifest, method="moco", epochs=2)
    run(tmp_path / "parts", manifest, method="moco", epochs=1)
    parts = run(tmp_path / "parts", manifest, method="moco", epochs=2)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_keys_of_another_network_are_refused() -> None:
    student = SliceNet(size="tiny")
    keys = EmaTeacher(teacher=SliceNet(size="tiny"), student=student)
    queue = EmbeddingQueue(length=2, dimensions=8)
    with pytest.raises(ConfigError, match="ProjectedNet"):
        MocoStep(network=student, optimization=plain_optimization(student), keys=keys, queue=queue)


def test_the_others_of_the_batch_are_negatives_if_wanted() -> None:
    network = _network()
    step = _step(network, length=1)
    step.batch_negatives = True
    batch = views(seed=2)
    queries = network.train()([batch["views"][0]]).embeddings[0]
    output = step(bare_engine(), batch)
    keys = step.keys.network([batch["views"][1]]).embeddings[0]
    expected = sum(
        float(info_nce(queries[row : row + 1], keys[row : row + 1], torch.cat([keys[:row], keys[row + 1 :]])))
        for row in range(3)
    )
    assert float(output["loss"]) == pytest.approx(expected / 3, rel=1e-5)
    assert output["embedded"].collapse_value == pytest.approx(math.log(3))
