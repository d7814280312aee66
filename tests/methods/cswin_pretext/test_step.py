"""The step: three losses against slow ones, weights that remove a task, and draws that repeat."""

from __future__ import annotations

import math

import pytest
import torch
from methods.cswin_pretext.small_pretext import SIZE, batch, engine, make_step, small_net
from torch.nn.functional import normalize

from medssl.core.errors import ConfigError
from medssl.losses.contrastive import ContrastiveLoss
from medssl.methods.cswin_pretext.heads import Answers
from medssl.methods.cswin_pretext.step import Views, same_source_masks
from medssl.methods.cswin_pretext.views import turn_in_plane


def _views(rows: int = 3) -> Views:
    return make_step(small_net()).views(batch(rows)["image"], iteration=4)


def _answers(views: Views) -> Answers:
    generator = torch.Generator().manual_seed(2)
    rows = len(views.sources)
    return Answers(
        pooled=torch.randn(rows, 12, generator=generator),
        turns=torch.randn(rows, 4, generator=generator),
        embeddings=torch.randn(rows, 8, generator=generator),
        images=torch.randn(views.clean.shape, generator=generator),
    )


def test_a_step_lowers_its_loss_and_logs_each_task() -> None:
    net = small_net()
    step, losses = make_step(net), []
    for _ in range(6):
        output = step(engine(net, iteration=1), batch())
        losses.append(float(output["loss"]))
    assert losses[-1] < losses[0]
    assert {"loss_rotation", "loss_contrast", "loss_inpainting", "rotation_accuracy", "negatives"} <= set(output["log"])
    assert output["log"]["negatives"] == 2  # the two views of the other patch
    total = sum(output["log"][f"loss_{task}"] for task in ("rotation", "contrast", "inpainting"))
    torch.testing.assert_close(output["loss"], total)


def test_the_target_is_the_patch_turned_by_what_the_labels_say() -> None:
    images = batch(3)["image"]
    views = make_step(small_net()).views(images, iteration=4)
    assert torch.equal(views.clean, turn_in_plane(images.repeat(2, 1, 1, 1, 1), views.turns))
    assert len(views.turns.unique()) == 4
    for row, (turn, source) in enumerate(zip(views.turns.tolist(), views.sources.tolist(), strict=True)):
        assert torch.equal(views.clean[row].rot90(-turn, (1, 2)), images[source])


def test_the_corrupted_patch_differs_from_its_target_where_it_was_changed_and_nowhere_else() -> None:
    views = _views()
    assert torch.equal(views.corrupted != views.clean, views.changed.expand_as(views.clean))
    assert views.changed.flatten(1).any(1).all()


def test_the_network_sees_the_corrupted_patches() -> None:
    net, seen = small_net(), []
    net.register_forward_pre_hook(lambda _, patches: seen.append(patches[0].clone()))
    step = make_step(net)
    step(engine(net, iteration=7), batch())
    assert len(seen) == 1
    assert torch.equal(seen[0], step.views(batch()["image"], 7).corrupted)


def test_the_weights_of_the_tasks_scale_their_losses_and_what_is_learnt() -> None:
    net, weights = small_net(), (2.0, 0.5, 3.0)
    step = make_step(net, weights=weights)
    before = [each.clone() for each in (net.turns.bias, net.projection[-1].bias, net.image.head.bias)]
    views = step.views(batch()["image"], 1)
    losses, _, _ = step.losses(net.train()(views.corrupted), views)
    parts = [
        weight * losses[task] for weight, task in zip(weights, ("rotation", "contrast", "inpainting"), strict=True)
    ]
    slopes = torch.autograd.grad(sum(parts), [net.turns.bias, net.projection[-1].bias, net.image.head.bias])
    output = step(engine(net, iteration=1), batch())
    torch.testing.assert_close(output["loss"], sum(parts).detach())
    after = (net.turns.bias, net.projection[-1].bias, net.image.head.bias)
    for old, new, slope in zip(before, after, slopes, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.01 * slope)


def test_losses_equal_slow_ones() -> None:
    views = _views()
    answers = _answers(views)
    losses, log, _ = make_step(small_net()).losses(answers, views)
    picked = [answers.turns[row].log_softmax(0)[turn] for row, turn in enumerate(views.turns)]
    torch.testing.assert_close(losses["rotation"], -torch.stack(picked).mean())
    torch.testing.assert_close(losses["inpainting"], (answers.images - views.clean).abs().mean())
    rows, expected = normalize(answers.embeddings, dim=1), []
    for a in range(6):
        for b in range(6):
            if a != b and views.sources[a] == views.sources[b]:
                others = [
                    math.exp(float(rows[a] @ rows[n]) / 0.5) for n in range(6) if views.sources[n] != views.sources[a]
                ]
                expected.append(math.log(sum(others)) - float(rows[a] @ rows[b]) / 0.5)
    assert float(losses["contrast"]) == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    assert float(log["contrast_to_collapse"]) == pytest.approx(float(losses["contrast"]) / math.log(4))


def test_restoring_can_count_changed_voxels_only() -> None:
    views = _views()
    answers = _answers(views)._replace(turns=None, embeddings=None)
    step = make_step(small_net(), masked_only=True, weights=(0.0, 0.0, 1.0))
    losses, _, _ = step.losses(answers, views)
    where = views.changed.expand_as(views.clean)
    torch.testing.assert_close(losses["inpainting"], (answers.images - views.clean).abs()[where].mean())


def test_a_task_that_weighs_needs_its_head() -> None:
    views = _views()
    answers = _answers(views)._replace(turns=None)
    with pytest.raises(ConfigError, match="found none for rotation"):
        make_step(small_net()).losses(answers, views)
    assert make_step(small_net(), weights=(0.0, 1.0, 1.0)).losses(answers, views)[0].keys() == {
        "contrast",
        "inpainting",
    }


def test_the_own_copy_is_never_a_negative() -> None:
    masks = same_source_masks(torch.tensor([0, 1, 2, 0, 1, 2]))
    assert not masks.negatives.diagonal().any()
    assert not masks.positives.diagonal().any()
    assert not (masks.positives & masks.negatives).any()
    assert masks.positives.sum() == 6
    assert masks.negatives.sum() == 24


def test_a_weight_of_zero_leaves_the_task_out() -> None:
    views = _views()
    for index, task in enumerate(("rotation", "contrast", "inpainting")):
        weights = tuple(0.0 if other == index else 1.0 for other in range(3))
        losses, _, _ = make_step(small_net(), weights=weights).losses(_answers(views), views)
        assert task not in losses
        assert len(losses) == 2


def test_views_repeat_for_an_iteration_and_differ_between_iterations() -> None:
    step, images = make_step(small_net(), seed=3), batch()["image"]
    first, again, other = (step.views(images, iteration) for iteration in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first.corrupted, other.corrupted)


def test_patches_that_are_not_square_and_weights_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="as wide as high"):
        make_step(small_net()).views(torch.zeros(1, 3, 16, 12, 4), 1)
    for weights in ((0, 0, 0), (1, -1, 1)):
        with pytest.raises(ConfigError, match="weights of at least 0"):
            make_step(small_net(), weights=weights)


def test_a_batch_of_one_patch_trains_without_negatives() -> None:
    net = small_net()
    output = make_step(net, contrast=ContrastiveLoss(temperature=0.5))(engine(net), batch(rows=1))
    assert torch.isfinite(output["loss"])
    assert output["log"]["negatives"] == 0
    assert tuple(output["image"].shape[2:]) == SIZE


def test_voxels_that_are_not_square_in_the_plane_are_refused() -> None:
    make_step(small_net(), spacing_mm=[0.5, 0.502, 3.0])
    for spacing in ([0.5, 0.7, 3.0], [3.0, 0.5, 0.5], [-1, -1, 3.0]):
        with pytest.raises(ConfigError, match="voxels as wide as high"):
            make_step(small_net(), spacing_mm=spacing)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 0.0, 1.0)])
def test_the_monitors_see_the_deepest_features_whatever_the_weights(weights: tuple) -> None:
    net = small_net(contrast=bool(weights[1]))
    step = make_step(net, weights=weights)
    views = step.views(batch()["image"], 1)
    expected = normalize(net.network.train().encode(views.corrupted)[-1].mean((2, 3, 4)), dim=1)
    embedded = step(engine(net, iteration=1), batch())["embedded"]
    torch.testing.assert_close(embedded.embeddings, expected.detach())
    assert not embedded.embeddings.requires_grad
    assert torch.equal(embedded.sources, views.sources)
