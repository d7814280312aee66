"""The shipped co-trained bundle, its weights on real crops."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch

from medssl.bundle.catalog import find_bundle
from medssl.bundle.predictor import load_weights
from medssl.bundle.resolve import build_network, load_config
from medssl.data.template import load_template
from medssl.methods.umct import PseudoLabels
from medssl.networks import MultiViewNet
from medssl.networks.views import VIEWS

_CROP = (32, 48, 32)  # of the bundle


@pytest.fixture(scope="module")
def network() -> MultiViewNet:
    bundle = find_bundle("hippocampus_mri_umct")
    found = build_network(load_config(bundle))
    load_weights(found, bundle / "models" / "model.pt")
    return found


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Both hippocampi of the 1 mm template that nilearn ships."""
    template = load_template()
    found = []
    for x in (-26, 26):
        centre = np.linalg.solve(template.affine, [x, -20, -16, 1])[:3]
        starts = [int(each) - size // 2 for each, size in zip(centre, _CROP, strict=True)]
        box = tuple(slice(start, start + size) for start, size in zip(starts, _CROP, strict=True))
        crop = torch.as_tensor(template.image[box].copy()).float()
        found.append((crop - crop.mean()) / crop.std())
    return torch.stack(found)[:, None]


def test_the_views_find_the_hippocampi(network: MultiViewNet, crops: torch.Tensor) -> None:
    with torch.no_grad():
        share = network.eval()(crops).softmax(1)[:, 1:].sum(1).mean((1, 2, 3))
    assert ((share > 0.02) & (share < 0.2)).all()  # 2 to 5 ml in a crop of 49 ml


def test_confidences_of_trained_views_in_bfloat16_agree_to_one_per_cent(
    network: MultiViewNet, crops: torch.Tensor
) -> None:
    labels = PseudoLabels(passes=10)
    contexts = (nullcontext, partial(torch.autocast, "cpu", dtype=torch.bfloat16))
    full, half = (labels.predict(network, crops, iteration=0, autocast=each) for each in contexts)
    assert torch.allclose(1 / half.uncertainty, 1 / full.uncertainty, rtol=0.01)
    assert torch.allclose(half.weights, full.weights, atol=0.01)
    assert half.uncertainty.shape == (len(VIEWS) // 2, 2)
