"""Clipping, accumulation and the guard against non-finite values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training.small_run import make_cases, small_run, weights_equal

from medssl.core.errors import TrainingError


def test_a_single_non_finite_batch_is_skipped_and_counted(tmp_path: Path) -> None:
    cases = make_cases()
    cases[2]["image"] = torch.full_like(cases[2]["image"], float("nan"))
    run = small_run(tmp_path, epochs=1, cases=cases)
    run.trainer.run()
    assert run.optimization.skipped >= 1
    assert all(torch.isfinite(p).all() for p in run.network.parameters())


def test_non_finite_batches_in_a_row_stop_the_run_with_their_cases(tmp_path: Path) -> None:
    cases = make_cases(1)
    cases[0]["image"] = torch.full_like(cases[0]["image"], float("inf"))
    with pytest.raises(TrainingError, match="3 times in a row; last cases: c0"):
        small_run(tmp_path, cases=cases).trainer.run()


def test_accumulation_averages_the_gradients_of_its_iterations() -> None:
    from ignite.engine import Engine
    from monai.engines.utils import IterationEvents

    from medssl.training import Optimization

    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    optimization = Optimization(
        network=layer, optimizer=torch.optim.SGD(layer.parameters(), lr=1.0), device=torch.device("cpu"), accumulation=2
    )
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    for target in (1.0, 3.0):
        optimization.update(engine, -target * layer(torch.ones(1, 1)).sum())
    assert layer.weight.item() == pytest.approx(2.0)


def test_clipping_bounds_the_step() -> None:
    from ignite.engine import Engine
    from monai.engines.utils import IterationEvents

    from medssl.training import Optimization

    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    optimization = Optimization(network=layer, optimizer=optimizer, device=torch.device("cpu"), clip_norm=0.5)
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    optimization.update(engine, -100.0 * layer(torch.ones(1, 1)).sum())
    assert layer.weight.item() == pytest.approx(0.5, abs=1e-5)


def _one_update(layers: torch.nn.Module, losses, **options) -> torch.Tensor:
    from ignite.engine import Engine
    from monai.engines.utils import IterationEvents

    from medssl.training import Optimization

    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    optimizer = torch.optim.SGD(layers.parameters(), lr=1.0)
    optimization = Optimization(network=layers, optimizer=optimizer, device=torch.device("cpu"), **options)
    return optimization.update(engine, losses)


def _two_layers() -> torch.nn.ModuleList:
    layers = torch.nn.ModuleList(torch.nn.Linear(3, 1, bias=False) for _ in range(2))
    for layer in layers:
        layer.weight.data.fill_(1.0)
    return layers


def test_several_losses_step_like_their_sum() -> None:
    single, several = _two_layers(), _two_layers()
    image = torch.tensor([[1.0, 2.0, 3.0]])
    total = _one_update(single, sum(layer(image).square().sum() for layer in single))
    parts = _one_update(several, (layer(image).square().sum() for layer in several))
    assert parts.item() == total.item() == 72.0
    assert weights_equal(single, several)


def test_each_loss_is_back_propagated_before_the_next_is_asked_for() -> None:
    layers = _two_layers()
    seen = []

    def losses():
        for layer in layers:
            seen.append([each.weight.grad is not None for each in layers])
            yield layer(torch.ones(1, 3)).sum()

    _one_update(layers, losses())
    assert seen == [[False, False], [True, False]]


def test_one_non_finite_loss_of_several_skips_the_step_of_all() -> None:
    layers = _two_layers()
    total = _one_update(
        layers,
        (layer(torch.full((1, 3), value)).sum() for layer, value in zip(layers, (1.0, float("nan")), strict=True)),
    )
    assert torch.isnan(total)
    assert weights_equal(layers, _two_layers())


def test_a_step_without_a_loss_is_refused() -> None:
    with pytest.raises(TrainingError, match="at least one loss"):
        _one_update(_two_layers(), [])


def test_networks_that_share_no_weights_are_clipped_apart() -> None:
    class Parts(torch.nn.ModuleList):
        def independent_parts(self):
            return list(self)

    layers = Parts(_two_layers())
    large, small = torch.tensor([[300.0, 0.0, 0.0]]), torch.tensor([[0.1, 0.0, 0.0]])
    _one_update(
        layers, (layer(image).sum() for layer, image in zip(layers, (large, small), strict=True)), clip_norm=0.5
    )
    assert layers[0].weight[0, 0].item() == pytest.approx(0.5, abs=1e-5)
    assert layers[1].weight[0, 0].item() == pytest.approx(0.9, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    networks = []
    for name, seed in (("a", 0), ("b", 0), ("c", 5)):
        run = small_run(tmp_path / name, epochs=1, seed=seed)
        run.trainer.run()
        networks.append(run.network)
    assert weights_equal(networks[0], networks[1])
    assert not weights_equal(networks[0], networks[2])
