"""Fusion of the other views: who is heard, how loud, and that nothing flows back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.core.errors import TrainingError
from medssl.methods.umct.fusion import background_rules, fuse_others, fusion_weights, mean_weights


def _predictions(views: int = 3, classes: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(views)
    return [torch.randn(2, classes, 2, 3, 4, generator=generator).softmax(1) for _ in range(views)]


def test_weights_are_those_worked_out_by_hand() -> None:
    weights = fusion_weights(torch.tensor([[1e-3], [2e-3], [4e-3]]), eps=0.0)[..., 0]
    expected = torch.tensor([[0, 2 / 3, 1 / 3], [0.8, 0, 0.2], [2 / 3, 1 / 3, 0]])
    assert torch.allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize("views", [2, 3, 6])
def test_equal_confidences_give_the_plain_mean_of_the_others(views: int) -> None:
    predictions = _predictions(views)
    weights = fusion_weights(torch.full((views, 2), 3e-4))
    for view in range(views):
        others = torch.stack([each for other, each in enumerate(predictions) if other != view])
        assert torch.allclose(fuse_others(predictions, weights, view), others.mean(0), atol=1e-6)


def test_power_0_gives_the_plain_mean_whatever_the_confidence() -> None:
    weights = fusion_weights(torch.tensor([[1e-6], [1e-3], [0.1]]), power=0.0)
    assert torch.allclose(weights, fusion_weights(torch.ones(3, 1)), atol=1e-6)


def test_with_two_views_the_weighting_changes_nothing() -> None:
    predictions = _predictions(2)
    weights = fusion_weights(torch.tensor([[1e-5, 0.2], [0.1, 1e-7]]))
    assert torch.equal(fuse_others(predictions, weights, 0), predictions[1])
    assert torch.equal(fuse_others(predictions, weights, 1), predictions[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=6), st.floats(1.1, 100))
def test_a_less_certain_view_is_heard_less(uncertainty: list[float], factor: float) -> None:
    before = fusion_weights(torch.tensor(uncertainty)[:, None])
    noisier = torch.tensor(uncertainty)[:, None]
    noisier[0] = noisier[0] * factor + 1e-6
    after = fusion_weights(noisier)
    assert (after[1:, 0] < before[1:, 0] + 1e-7).all()
    assert torch.allclose(after.sum(1), torch.ones(()), atol=1e-5)
    assert torch.equal(after[0], before[0])  # its own pseudo-label does not hear it anyway


@pytest.mark.parametrize("extreme", [0.0, 1e10])
def test_weights_stay_finite_at_the_extremes(extreme: float) -> None:
    weights = fusion_weights(torch.tensor([[extreme], [1e-3], [0.0]]))
    assert torch.isfinite(weights).all()
    assert torch.allclose(weights.sum(1), torch.ones(3, 1))
    assert torch.isfinite(fusion_weights(torch.zeros(3, 2))).all()


def test_only_ratios_count_and_samples_do_not_mix() -> None:
    uncertainty = torch.tensor([[1e-3, 5e-2], [2e-3, 1e-4], [4e-3, 1e-2]])
    weights = fusion_weights(uncertainty, eps=0.0)
    assert torch.allclose(fusion_weights(7 * uncertainty, eps=0.0), weights, atol=1e-6)
    assert torch.allclose(fusion_weights(uncertainty[:, :1], eps=0.0), weights[..., :1])


def test_the_order_of_views_does_not_matter() -> None:
    predictions, uncertainty = _predictions(3), torch.rand(3, 2)
    turned = [2, 0, 1]
    first = fuse_others(predictions, fusion_weights(uncertainty), 0)
    second = fuse_others([predictions[i] for i in turned], fusion_weights(uncertainty[turned]), turned.index(0))
    assert torch.allclose(first, second, atol=1e-6)


def test_voxels_can_have_their_own_weights() -> None:
    predictions, uncertainty = _predictions(3), torch.rand(3, 2, 1, 2, 3, 4)
    fused = fuse_others(predictions, fusion_weights(uncertainty), 1)
    at = (slice(None), slice(None), 1, 2, 3)
    weights = fusion_weights(uncertainty[:, :, 0, 1, 2, 3])
    expected = sum(weights[1, j][:, None] * predictions[j][at] for j in (0, 2))
    assert torch.allclose(fused[at], expected, atol=1e-6)


def test_a_pseudo_label_is_a_distribution_and_a_hard_one_names_a_class() -> None:
    predictions, weights = _predictions(3), fusion_weights(torch.rand(3, 2))
    soft, hard = (fuse_others(predictions, weights, 0, hard=hard) for hard in (False, True))
    assert torch.allclose(soft.sum(1), torch.ones(()), atol=1e-6)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(hard.argmax(1), soft.argmax(1))


def test_a_bound_on_the_ratio_keeps_a_sure_view_from_drowning_the_others() -> None:
    weights = fusion_weights(torch.tensor([[1e-7], [1e-2], [2e-2]]), max_ratio=3.0)[..., 0]
    assert weights[1, 0] / weights[1, 2] == pytest.approx(3.0, rel=1e-4)
    assert weights[0, 1] / weights[0, 2] == pytest.approx(2.0, rel=1e-4)


def test_a_prediction_with_a_graph_is_refused() -> None:
    predictions = _predictions(3)
    predictions[2].requires_grad_()
    with pytest.raises(TrainingError, match="without a graph"):
        fuse_others(predictions, fusion_weights(torch.rand(3, 2)), 0)


def test_mean_weights_tell_how_loud_a_view_is() -> None:
    assert torch.allclose(mean_weights(fusion_weights(torch.ones(3, 2))), torch.full((3,), 0.5))
    by_hand = mean_weights(fusion_weights(torch.tensor([[1e-3], [2e-3], [4e-3]]), eps=0.0))
    assert torch.allclose(by_hand, torch.tensor([(0.8 + 2 / 3) / 2, 0.5, (1 / 3 + 0.2) / 2]), atol=1e-6)


def test_a_sure_view_without_foreground_is_noticed() -> None:
    weights = fusion_weights(torch.tensor([[1e-6], [1e-2], [1e-2]]))
    assert background_rules(weights, torch.tensor([0.001, 0.2, 0.3])).tolist() == [True, False, False]
    assert not background_rules(weights, torch.tensor([0.2, 0.2, 0.3])).any()
    assert not background_rules(fusion_weights(torch.ones(3, 1)), torch.tensor([0.001, 0.2, 0.3])).any()
