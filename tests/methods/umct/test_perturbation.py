"""Perturbation of intensities: strong, only of intensities, and the same in a resumed run."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.methods.umct import Perturbation


def _crops(samples: int = 8) -> torch.Tensor:
    return torch.randn(samples, 1, 8, 12, 10, generator=torch.Generator().manual_seed(3))


def test_what_is_drawn_depends_on_seed_key_and_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = _crops()
    first = Perturbation()(crops, "view", 4)
    assert torch.equal(first, Perturbation()(crops, "view", 4))
    assert torch.equal(first[:3], Perturbation()(crops[:3], "view", 4))
    for other in (Perturbation()(crops, "view", 5), Perturbation(seed=1)(crops, "view", 4)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    monkeypatch.setattr("medssl.training.own_samples.process_count", lambda: 2)
    assert torch.equal(Perturbation()(crops[::2], "view", 4), first[::2])


def test_intensities_are_changed_a_lot_and_places_are_kept() -> None:
    smooth = torch.linspace(-2.0, 2.0, 16).reshape(1, 1, 16, 1, 1).expand(64, 1, 16, 16, 16)
    changed = Perturbation()(smooth, 0)
    assert torch.isfinite(changed).all()
    assert (changed - smooth).abs().mean() > 0.3
    # whatever was done to intensities, the bright side stays where it was
    assert (changed[:, :, 8:].mean((1, 2, 3, 4)) > changed[:, :, :8].mean((1, 2, 3, 4))).all()
    assert 0.3 < (changed - smooth).std((1, 2, 3, 4)).lt(0.6).float().mean() < 1.0  # some much, some little


def test_less_strength_changes_less_and_none_nothing() -> None:
    crops = _crops(32)
    assert torch.equal(Perturbation(strength=0.0)(crops, 0), crops)
    weak, strong = ((Perturbation(strength=each)(crops, 0) - crops).abs().mean() for each in (0.2, 1.0))
    assert 0.0 < weak < 0.5 * strong


def test_a_crop_of_one_intensity_stays_finite() -> None:
    assert torch.isfinite(Perturbation()(torch.zeros(4, 2, 3, 5, 1), 0)).all()


def test_a_strength_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Perturbation(strength=1.5)
