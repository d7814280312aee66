"""The co-training step: separate gradients, both streams apart, both stages in one resumable run."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from methods.umct.small_umct import bare_engine, make_step, small_batch, small_network, small_umct
from training.small_run import weights_equal

from medssl.core.errors import ConfigError
from medssl.losses import dice_ce
from medssl.methods.umct import Perturbation, PseudoLabels
from medssl.methods.umct.targets import mask_generator
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.training import Ramp

_LABELS = PseudoLabels(passes=4, chunk=2)


def _stepped(batch: dict, *, network=None, **options):
    """Take one step with SGD and return network and output."""
    network = network or small_network()
    output = make_step(network, **options)(bare_engine(network), batch)
    return network, output


@pytest.mark.parametrize("views", [2, 3, 6])
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 2), (14, 1)])
def test_a_step_runs_for_any_number_of_views_classes_and_channels(views: int, classes: int, channels: int) -> None:
    network = small_network(views=views, classes=classes, channels=channels)
    before = deepcopy(network)
    _, output = _stepped(small_batch(classes=classes, channels=channels), network=network)
    assert output["pred"].shape == (2, classes, 4, 6, 8)
    assert torch.isfinite(output["loss"])
    assert output["loss"].dtype is torch.float32
    pairs = zip(before.parameters(), network.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("passes", [0, 4, 6])
def test_a_step_runs_each_trunk_twice_and_only_the_tail_for_every_pass(passes: int) -> None:
    network, trunks, tails = small_network(), Counter(), Counter()
    for view, part in network.networks.items():
        part.convInit.register_forward_hook(lambda *_, view=view: trunks.update([view]))
        part.conv_final.register_forward_hook(lambda _, given, __, view=view: tails.update({view: len(given[0])}))
    _stepped(small_batch(), network=network, pseudo_labels=PseudoLabels(passes=passes, chunk=2))
    assert trunks == dict.fromkeys(network.view_names, 2)  # pseudo-labels, gradient
    # 2 unlabelled crops for every pass; then these and 2 labelled ones
    assert tails == dict.fromkeys(network.view_names, 2 * max(passes, 1) + 4)


def test_no_gradient_flows_from_a_pseudo_label_into_the_view_that_made_it() -> None:
    network = small_network()
    step = make_step(network)
    seen = {}

    class Watching:
        dtype = None
        autocast = step.optimization.autocast

        def update(self, engine, losses, *, case_ids):
            for name, loss in zip(network.view_names, losses, strict=True):
                network.zero_grad()
                loss.backward()
                seen[name] = {view for view, part in network.networks.items() if _has_gradient(part)}
            return loss.detach()

    step.optimization = Watching()
    step(bare_engine(network), small_batch())
    assert seen == {name: {name} for name in network.view_names}


def _has_gradient(part: torch.nn.Module) -> bool:
    return any(parameter.grad is not None for parameter in part.parameters())


def test_view_by_view_steps_like_the_sum_written_out() -> None:
    batch, weight = small_batch(classes=3), 0.3
    network, output = _stepped(batch, network=small_network(classes=3), weight=weight, pseudo_labels=_LABELS)
    plain = small_network(classes=3)
    predictions = _LABELS.predict(plain, batch["unlabeled"]["image"], iteration=0, autocast=torch.enable_grad)
    plain.train()
    total = torch.zeros(())
    for number, (view, part) in enumerate(plain.parts()):
        masks = draw_masks(part, 4, generator=mask_generator(0, "gradient", 0, view))
        with fixed_masks(part, masks):
            logits = plain.view_logits(torch.cat([batch["image"], batch["unlabeled"]["image"]]), view)
        total = total + dice_ce(logits[:2], batch["label"])
        total = total + weight * dice_ce(logits[2:], _LABELS.target(predictions, number))
    total.backward()
    assert output["loss"].item() == pytest.approx(total.item(), abs=1e-6)
    for moved, start in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(moved, start - 0.1 * start.grad, atol=1e-6)


def test_a_perturbation_reaches_each_view_in_its_own_way_and_no_pseudo_label() -> None:
    seen: dict[str, torch.Tensor] = {}

    class Watching:
        def __call__(self, crops: torch.Tensor, *key: int | str) -> torch.Tensor:
            seen[str(key[0])] = crops
            return Perturbation()(crops, *key)

    batch = small_batch()
    plain, perturbed = (_stepped(batch, perturbation=each)[1] for each in (None, Watching()))
    assert list(seen) == list(small_network().view_names)
    assert all(torch.equal(crops, batch["unlabeled"]["image"]) for crops in seen.values())
    same = [name for name in plain["log"] if name.startswith(("uncertainty", "weight", "foreground", "supervised"))]
    assert len(same) > 9
    assert all(plain["log"][name] == perturbed["log"][name] for name in same)
    assert plain["log"]["cotraining_loss"] != perturbed["log"]["cotraining_loss"]


def test_weight_0_is_independent_supervised_training_of_each_view() -> None:
    batch = small_batch()
    joint, _ = _stepped(batch, weight=0.0)
    for view in ("axial", "sagittal"):
        partner = "coronal"
        pair = small_network()
        pair.views = tuple(each for each in pair.views if each.name in {view, partner})
        _stepped({**batch, "unlabeled": {"image": torch.zeros(0)}}, network=pair)
        assert weights_equal(joint.networks[view], pair.networks[view])


def test_labels_do_not_reach_the_unlabelled_loss_nor_unlabelled_crops_the_supervised_one() -> None:
    first = small_batch()
    other_labels = {**first, "label": 1 - first["label"]}
    other_crops = {**first, "unlabeled": {"image": -first["unlabeled"]["image"]}}
    logs = [_stepped(batch)[1]["log"] for batch in (first, other_labels, other_crops)]
    assert logs[0]["cotraining_loss"] == logs[1]["cotraining_loss"] != logs[2]["cotraining_loss"]
    assert logs[0]["supervised_loss"] == logs[2]["supervised_loss"] != logs[1]["supervised_loss"]


def test_a_label_beside_an_unlabelled_crop_changes_nothing() -> None:
    batch = small_batch()
    spoilt = {**batch, "unlabeled": {**batch["unlabeled"], "label": torch.full((2, 1, 4, 6, 8), float("nan"))}}
    assert weights_equal(_stepped(batch)[0], _stepped(spoilt)[0])


@pytest.mark.parametrize("unlabeled", [None, {"image": []}])
def test_without_unlabelled_crops_views_learn_from_labels_and_the_log_says_so_once(unlabeled, caplog) -> None:
    caplog.set_level(logging.INFO, logger="medssl.training")
    batch = {**small_batch(unlabeled=0), **({} if unlabeled is None else {"unlabeled": unlabeled})}
    network = small_network()
    step = make_step(network)
    outputs = [step(bare_engine(network), batch) for _ in range(2)]
    assert caplog.text.count("supervised multi-view training") == 1
    assert "cotraining_loss" not in outputs[0]["log"]
    assert outputs[1]["loss"] < outputs[0]["loss"]


def test_labelled_crops_can_be_co_trained_on_without_their_labels() -> None:
    batch = small_batch(unlabeled=0)
    logs = [
        _stepped(each, cotrain_on_labeled=True)[1]["log"] for each in (batch, {**batch, "label": 1 - batch["label"]})
    ]
    assert logs[0]["cotraining_loss"] == logs[1]["cotraining_loss"]


def test_the_log_holds_what_tells_whether_the_fusion_is_healthy() -> None:
    log = _stepped(small_batch())[1]["log"]
    weights = [log[f"weight_{view}"] for view in ("axial", "coronal", "sagittal")]
    assert sum(weights) == pytest.approx(1.5, abs=1e-5)  # each of three pseudo-labels shares out 1 among two
    assert {"uncertainty_axial", "foreground_sagittal", "view_agreement", "weight_above_0.9"} <= log.keys()
    assert all(float(value) >= 0 for value in log.values())


@pytest.mark.parametrize(("views", "advice"), [(2, "add a third view"), (3, "consider max_ratio")])
def test_a_sure_view_that_sees_only_background_is_reported(views: int, advice: str, caplog) -> None:
    network = small_network(views=views)
    network.networks["axial"].conv_final[2].conv.bias.data = torch.tensor([30.0, -30.0])
    step = make_step(network, rate=0.0)
    for _ in range(2):
        step(bare_engine(network), small_batch())
    assert caplog.text.count("view axial sees next to no foreground") == 1
    assert advice in caplog.text


@pytest.fixture(scope="module")
def trained():
    """Three views that learned to find a bright ball in noise."""
    network = small_network(seed=3)
    step = make_step(network, weight=0.0, optimizer=torch.optim.Adam(network.parameters(), lr=2e-2))
    engine = bare_engine(network)
    for iteration in range(1, 41):
        engine.state.iteration = iteration
        image, label = _balls(seed=3000 + iteration)
        step(engine, {"image": image, "label": label})
    return network


def _balls(*, seed: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij"))
    centres = 4 + 4 * torch.rand(count, 3, 1, 1, 1, generator=generator)
    label = ((grid - centres).square().sum(1, keepdim=True) < 12).float()
    return 2 * label + 0.5 * torch.randn(label.shape, generator=generator), label


def test_noise_in_the_input_of_one_view_lowers_its_weight(trained) -> None:
    image, label = _balls(seed=100, count=4)
    network = deepcopy(trained)
    labels = PseudoLabels(passes=10)
    before = labels.predict(network, image, iteration=0, autocast=torch.no_grad)
    noisy = network.networks["coronal"]
    encode = noisy.encode
    noisy.encode = lambda seen: encode(seen + torch.randn(seen.shape, generator=torch.Generator().manual_seed(0)))
    after = labels.predict(network, image, iteration=0, autocast=torch.no_grad)
    found = before.probabilities[1].argmax(1, keepdim=True)
    assert 2 * (found * label).sum() / (found.sum() + label.sum()) > 0.8  # it had learned something to disturb
    assert (after.weights[0, 1] < before.weights[0, 1]).all()
    assert (after.weights[2, 1] < before.weights[2, 1]).all()


def _stop_at(iteration: int):
    def stop(current: int) -> None:
        if current == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


@pytest.mark.parametrize("iteration", [2, 8])
def test_a_run_stopped_in_either_stage_and_resumed_equals_an_undisturbed_one(tmp_path: Path, iteration: int) -> None:
    undisturbed = small_umct(tmp_path / "a")
    undisturbed.trainer.run()
    with pytest.raises(SystemExit):
        small_umct(tmp_path / "b", on_batch=_stop_at(iteration)).trainer.run()
    resumed = small_umct(tmp_path / "b")
    resumed.trainer.run()
    assert resumed.trainer.state.iteration == 12
    assert weights_equal(undisturbed.network, resumed.network)


def test_the_second_stage_begins_at_its_iteration(tmp_path: Path) -> None:
    run = small_umct(tmp_path)
    cotrained = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: cotrained.append("cotraining_loss" in engine.state.output["log"])
    )
    run.trainer.run()
    assert cotrained == [False] * 6 + [True] * 6


def test_stage_1_alone_does_not_depend_on_the_unlabelled_cases(tmp_path: Path) -> None:
    never = Ramp(final=0.5, start=100)
    first, second = (small_umct(tmp_path / str(count), ramp=never, unlabeled=count) for count in (4, 0))
    first.trainer.run()
    second.trainer.run()
    assert weights_equal(first.network, second.network)


def test_resume_waits_for_the_end_of_an_accumulation(tmp_path: Path) -> None:
    undisturbed = small_umct(tmp_path / "a", accumulation=2)
    undisturbed.trainer.run()
    with pytest.raises(SystemExit):
        small_umct(tmp_path / "b", accumulation=2, on_batch=_stop_at(9)).trainer.run()
    resumed = small_umct(tmp_path / "b", accumulation=2)
    resumed.trainer.run()
    assert weights_equal(undisturbed.network, resumed.network)


def test_what_does_not_fit_the_views_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="X = 5 is no multiple of 2; Z = 7"):
        make_step(small_network(), patch_size=(5, 6, 7))
    with pytest.raises(ConfigError, match="UmctStep: expected a dropout rate above 0"):
        make_step(small_network(dropout_rate=0.0), spacing_mm=(1.0, 1.0, 1.0))


def test_crops_of_two_shapes_are_refused() -> None:
    batch = small_batch()
    batch["unlabeled"]["image"] = torch.randn(2, 1, 8, 6, 8)
    with pytest.raises(ConfigError, match="unlabelled crops of the labelled ones' shape"):
        _stepped(batch)
