"""Noise for a teacher is bounded and repeatable; the output of a step carries no graph."""

from __future__ import annotations

import torch

from medssl.methods.baselines.teaching import noisy, step_output
from medssl.training.streams import Streams


def test_noise_has_its_spread_is_cut_and_keyed_by_seed_and_iteration() -> None:
    image = torch.zeros(2, 1, 20, 20, 20)
    first, again, other = (noisy(image, 0, "teacher", i, spread=0.1) for i in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0.09 < first.std().item() < 0.1
    assert first.abs().max().item() <= 0.2 + 1e-6


def test_the_output_holds_labelled_predictions_without_a_graph() -> None:
    logits = torch.randn(4, 3, 2, 2, 2, requires_grad=True)
    streams = Streams(torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2), torch.zeros(2, 1, 2, 2, 2))
    output = step_output(streams, logits, logits.mean(), supervised_loss=logits.sum())
    assert output["pred"].shape[0] == 2
    assert not any(value.requires_grad for value in (output["pred"], output["loss"], output["log"]["supervised_loss"]))
