"""Mixup: images and labels by the same weights, the same in a resumed run."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.training import Mixup


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(6).reshape(6, 1, 1, 1, 1).expand(-1, -1, 2, 2, 1) % 3
    return labels.float() * 10.0, labels


def test_images_and_labels_are_mixed_by_the_same_weights() -> None:
    images, labels = _batch()
    mixed, target = Mixup(classes=3, alpha=1.0)(images, labels, iteration=4)
    assert target.shape == (6, 3, 2, 2, 1)
    assert torch.allclose(target.sum(1), torch.ones(6, 2, 2, 1))
    # The value of an image is ten times its label, so the mixture tells its labels
    assert torch.allclose(mixed[:, 0], 10.0 * (target[:, 1] + 2.0 * target[:, 2]), atol=1e-5)
    assert not torch.equal(mixed, images)


def test_what_is_drawn_depends_on_seed_iteration_and_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _batch()
    first, again, later = (Mixup(classes=3)(images, labels, iteration=i)[0] for i in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    monkeypatch.setattr("medssl.training.mixup.process_rank", lambda: 1)
    assert not torch.equal(first, Mixup(classes=3)(images, labels, iteration=4)[0])


def test_small_alpha_mixes_little() -> None:
    values = torch.rand(4000, generator=torch.Generator().manual_seed(0))
    images, labels = values[:, None, None, None, None], torch.zeros(4000, 1, 1, 1, 1)
    changes = [(Mixup(classes=2, alpha=a)(images, labels, iteration=1)[0] - images).abs() for a in (0.1, 5.0)]
    assert (changes[0] < 1e-3).float().mean() > 0.2  # 0.3 is expected
    assert (changes[1] < 1e-3).float().mean() < 0.05


def test_an_alpha_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="alpha above 0"):
        Mixup(classes=2, alpha=0.0)
