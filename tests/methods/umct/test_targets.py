"""The target phase: what it computes, and what it leaves as it was."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest
import torch
from methods.umct.small_umct import SHAPE, small_batch, small_network
from torch import nn

from medssl.core.errors import ConfigError
from medssl.methods.umct.fusion import fusion_weights
from medssl.methods.umct.targets import PseudoLabels, mask_generator
from medssl.networks import VIEWS
from medssl.networks.channel_dropout import draw_masks, fixed_masks

_CROPS = small_batch()["unlabeled"]["image"]


def _predict(network, labels: PseudoLabels, *, iteration: int = 5, image=_CROPS):
    return labels.predict(network, image, iteration=iteration, autocast=nullcontext)


@pytest.mark.parametrize("views", [2, 3, 6])
@pytest.mark.parametrize("classes", [2, 5])
def test_predictions_lie_in_the_common_frame_and_have_no_graph(views: int, classes: int) -> None:
    network = small_network(views=views, classes=classes)
    labels = PseudoLabels(passes=4)
    found = _predict(network, labels)
    assert [tuple(each.shape) for each in found.probabilities] == [(2, classes, *SHAPE)] * views
    assert found.uncertainty.shape == (views, 2)
    assert found.uncertainty.dtype is found.weights.dtype is torch.float32
    target = labels.target(found, 1)
    assert not any(each.requires_grad for each in (*found.probabilities, found.uncertainty, found.weights, target))
    assert torch.allclose(target.sum(1), torch.ones(()), atol=1e-5)


def test_without_passes_the_target_is_the_plain_mean_of_deterministic_predictions() -> None:
    network = small_network()
    labels = PseudoLabels(passes=0)
    found = _predict(network, labels)
    with torch.no_grad():
        expected = [logits.softmax(1) for logits in network.eval().logits_by_view(_CROPS)]
    assert found.uncertainty is None
    assert torch.allclose(labels.target(found, 0), (expected[1] + expected[2]) / 2, atol=1e-6)


def test_a_view_made_noisier_weighs_less() -> None:
    network = small_network()
    before = _predict(network, PseudoLabels(passes=10))
    network.networks["coronal"].channel_dropout.rate = 0.7
    after = _predict(network, PseudoLabels(passes=10))
    assert (after.uncertainty[1] > before.uncertainty[1]).all()
    assert torch.equal(after.uncertainty[0], before.uncertainty[0])
    assert (after.weights[0, 1] < before.weights[0, 1]).all()


def test_modes_and_buffers_are_left_as_they_were() -> None:
    network = small_network(norm="batch").train()
    network.networks["axial"].convInit.eval()
    modes = [module.training for module in network.modules()]
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    _predict(network, PseudoLabels(passes=3))
    assert [module.training for module in network.modules()] == modes
    assert buffers
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())


def test_masks_depend_on_seed_iteration_and_view_and_touch_no_other_generator() -> None:
    network, state = small_network(), torch.get_rng_state()
    first, again, later, other = (
        _predict(network, PseudoLabels(passes=3, seed=seed, chunk=chunk), iteration=iteration).uncertainty
        for seed, chunk, iteration in ((0, 1, 5), (0, 3, 5), (0, 1, 6), (1, 1, 5))
    )
    assert torch.allclose(first, again, rtol=1e-4)
    assert not torch.allclose(first, later, rtol=1e-2)
    assert not torch.allclose(first, other, rtol=1e-2)
    assert torch.equal(torch.get_rng_state(), state)
    keys = [(0, "target", 5, "axial"), (0, "target", 5, "coronal"), (0, "gradient", 5, "axial")]
    draws = {torch.rand(1, generator=mask_generator(*key[:3], VIEWS[key[3]])).item() for key in keys}
    assert len(draws) == 3


# View axes to the common frame, written out: the sizes 4, 6, 8 of the crops all differ
_BACK = {"axial": (0, 1, 2, 3, 4), "coronal": (0, 1, 2, 4, 3), "sagittal": (0, 1, 4, 2, 3)}
_THERE = {"axial": (0, 1, 2, 3, 4), "coronal": (0, 1, 2, 4, 3), "sagittal": (0, 1, 3, 4, 2)}


def test_voxels_are_weighted_in_the_common_frame() -> None:
    network, labels = small_network(), PseudoLabels(passes=4, granularity="voxel")
    found = _predict(network, labels)
    variances = []
    for view, part in network.eval().parts():
        masks = draw_masks(part, 8, generator=mask_generator(0, "target", 5, view))
        with torch.no_grad(), fixed_masks(part, masks):
            passes = part.tail(part.decode(part.encode(_CROPS.permute(_THERE[view.name])))).double().softmax(1)
        variance = passes.unflatten(0, (4, 2)).var(0, correction=0).mean(1, keepdim=True)
        variances.append(variance.permute(_BACK[view.name]))
    expected = torch.stack(variances)
    assert expected.shape == (3, 2, 1, *SHAPE)
    assert torch.allclose(found.uncertainty.double(), expected, rtol=1e-3, atol=1e-7)
    sure = expected.clamp(min=1e-6).reciprocal()
    assert torch.allclose(found.weights[0, 2].double(), sure[2] / (sure[1] + sure[2]), rtol=1e-3)


@pytest.mark.parametrize(("granularity", "least"), [("sample", 1e-8), ("voxel", 1e-6)])
def test_views_without_any_variance_are_equally_sure(granularity, least: float) -> None:
    network = small_network()
    for name in ("axial", "coronal"):
        network.networks[name].channel_dropout.rate = 0.0
    labels = PseudoLabels(passes=4, granularity=granularity)
    assert labels.eps == least
    weights = _predict(network, labels).weights
    assert torch.allclose(weights[2, 0], torch.full_like(weights[2, 0], 0.5), atol=1e-3)


def test_the_least_variance_of_a_voxel_bounds_it_and_that_of_a_sample_is_added() -> None:
    by_voxel, by_sample = (_predict(small_network(), PseudoLabels(granularity=g, eps=1.0)) for g in ("voxel", "sample"))
    assert (by_voxel.weights[2, 0] == 0.5).all()
    assert torch.equal(by_sample.weights, fusion_weights(by_sample.uncertainty, eps=1.0))
    assert (by_sample.weights[2, 0] != 0.5).all()


def test_the_bound_and_the_hard_form_reach_the_target() -> None:
    network = small_network(classes=3)
    labels = PseudoLabels(passes=4, max_ratio=1.0, hard=True)
    found = _predict(network, labels)
    assert torch.allclose(found.weights, fusion_weights(torch.ones(3, 2)), atol=1e-6)
    assert set(labels.target(found, 2).unique().tolist()) <= {0.0, 1.0}


def test_gradients_after_a_target_phase_in_autocast_are_those_without_one() -> None:
    gradients = []
    for with_targets in (False, True):
        network = small_network().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if with_targets:
                PseudoLabels(passes=2).predict(network, _CROPS, iteration=0, autocast=nullcontext)
            torch.manual_seed(0)
            network.networks["axial"](_CROPS).float().square().mean().backward()
        gradients.append([parameter.grad for parameter in network.networks["axial"].parameters()])
    assert all(gradient is not None for gradient in gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_all_numbers_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"passes: .* got 1; chunk: .* got 0; max_ratio: .* got 0\.5"):
        PseudoLabels(passes=1, chunk=0, max_ratio=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("passes", None),
        ("passes", 2.5),
        ("passes", True),
        ("chunk", "5"),
        ("power", None),
        ("power", float("nan")),
        ("eps", "small"),
        ("max_ratio", "2"),
        ("granularity", ["voxel"]),
        ("hard", "soft"),
        ("hard", None),
    ],
)
def test_values_of_another_kind_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"PseudoLabels: expected {name}: .* got {re.escape(repr(value))}"):
        PseudoLabels(**{name: value})


def test_a_frozen_norm_stays_frozen_after_an_error() -> None:
    network = small_network(norm="batch").train()
    frozen = next(module for module in network.modules() if isinstance(module, nn.BatchNorm3d)).eval()
    with pytest.raises(RuntimeError):
        _predict(network, PseudoLabels(passes=2), image=torch.randn(1, 3, *SHAPE))
    assert not frozen.training
    assert network.training
