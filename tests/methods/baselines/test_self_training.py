"""Self-training: perfect pseudo-labels are labels, and missing ones are refused."""

from __future__ import annotations

import pytest
import torch
from methods.baselines.small_steps import bare_engine, plain_optimization, small_batch, small_network

from medssl.core.errors import ConfigError
from medssl.losses import DiceCE
from medssl.methods.baselines import SelfTrainingStep


def _stepped(batch: dict, **options):
    network = small_network(rate=0.0)
    step = SelfTrainingStep(loss=DiceCE(), optimization=plain_optimization(network), **options)
    return network, step(bare_engine(network), batch)


def _with_labels() -> dict:
    batch = small_batch()
    batch["unlabeled"]["label"] = torch.randint(0, 3, (2, 1, 4, 6, 8), generator=torch.Generator().manual_seed(1))
    return batch


def test_perfect_pseudo_labels_with_weight_1_are_supervised_training_on_all_crops() -> None:
    batch = _with_labels()
    network, _ = _stepped(batch, pseudo_weight=1.0)
    everything = {key: torch.cat([batch[key], batch["unlabeled"][key]]) for key in ("image", "label")}
    # One mean over four crops instead of the sum of two means over two: half the loss, so twice the rate
    supervised = small_network(rate=0.0)
    step = SelfTrainingStep(loss=DiceCE(), optimization=plain_optimization(supervised, rate=0.2))
    step(bare_engine(supervised), everything)
    for first, second in zip(network.parameters(), supervised.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_weight_0_leaves_the_labels_alone() -> None:
    first, _ = _stepped(_with_labels(), pseudo_weight=0.0)
    second, _ = _stepped(small_batch(unlabeled=0))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_mixup_takes_the_labelled_crops_alone() -> None:
    class Twice:
        def __call__(self, images, labels, *, iteration):
            return 2.0 * images, labels

    batch = _with_labels()
    mixed, output = _stepped(batch, mixup=Twice())
    assert torch.equal(output["image"], 2.0 * batch["image"])
    plain, _ = _stepped({**batch, "image": 2.0 * batch["image"]})
    for first, second in zip(mixed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(first, second)


def test_crops_without_pseudo_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="medssl infer"):
        _stepped(small_batch())
