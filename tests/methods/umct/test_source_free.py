"""Adaptation without labels: one step written out, no label read, the anchor, the guard."""

from __future__ import annotations

import pytest
import torch
from methods.umct.small_umct import SHAPE, bare_engine, small_network
from monai.data import MetaTensor, list_data_collate

from medssl.core.errors import ConfigError, TrainingError
from medssl.losses import DiceCE, dice_ce
from medssl.methods.umct import DriftGuard, PseudoLabels, SourceFreeStep
from medssl.methods.umct.gradients import gradient_logits
from medssl.training import Optimization

_LABELS = PseudoLabels(passes=4, chunk=2)


def _batch() -> dict:
    image = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(5))
    return {"image": image, "case_id": ["u0", "u1"]}


def make_source_free(network, *, rate: float = 0.1, guard: DriftGuard | None = None, **options) -> SourceFreeStep:
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    guard = guard or DriftGuard(source=small_network())
    options = {"pseudo_labels": _LABELS, "spacing_mm": (1.0, 1.0, 1.0)} | options
    return SourceFreeStep(network=network, loss=DiceCE(), optimization=optimization, guard=guard, **options)


def test_a_step_descends_the_cotraining_loss_of_every_view() -> None:
    network, plain, batch = small_network(), small_network(), _batch()
    output = make_source_free(network, weight=0.3)(bare_engine(network), batch)
    predictions = _LABELS.predict(plain, batch["image"], iteration=0, autocast=torch.enable_grad)
    plain.train()
    total = torch.zeros(())
    for number, view in enumerate(plain.views):
        options = {"streams": (2,), "seed": 0, "iteration": 0, "autocast": torch.enable_grad}
        logits = gradient_logits(plain, view, batch["image"], **options)
        total = total + 0.3 * dice_ce(logits, _LABELS.target(predictions, number))
    total.backward()
    assert torch.allclose(output["loss"], total)
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(own, other - 0.1 * other.grad, atol=1e-6)


def test_a_label_in_the_batch_changes_nothing() -> None:
    with_label, without = small_network(), small_network()
    make_source_free(with_label)(bare_engine(with_label), _batch() | {"label": torch.ones(2, 1, *SHAPE)})
    make_source_free(without)(bare_engine(without), _batch())
    assert all(torch.equal(a, b) for a, b in zip(with_label.parameters(), without.parameters(), strict=True))


def test_the_anchor_pulls_towards_the_source() -> None:
    far = small_network(seed=1)
    source = small_network()
    step = make_source_free(far, rate=0.01, weight=1e-9, anchor=1.0, guard=DriftGuard(source=source))
    before = _distance(far, source)
    step(bare_engine(far), _batch())
    # w - rate * 2 * (w - source), up to the clipping that is off here
    assert _distance(far, source) == pytest.approx(0.98 * before, rel=1e-3)


def _distance(one, other) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.stack([(a - b).square().sum() for a, b in pairs]).sum().sqrt())


def test_the_guard_ends_a_run_that_drifts() -> None:
    network = small_network()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.shape[:1] == (2,) and name.endswith("bias"):
                parameter.copy_(torch.tensor([9.0, -9.0]))  # background everywhere
    step = make_source_free(network, guard=DriftGuard(source=small_network(), interval=1, window=1))
    with pytest.raises(TrainingError, match="drifts at iteration 0"):
        step(bare_engine(network), _batch())


def test_crops_with_metadata_step_like_plain_ones() -> None:
    batch = _batch()
    with_meta = {**batch, "image": list_data_collate([MetaTensor(each) for each in batch["image"]])}
    networks = [small_network(classes=3) for _ in range(2)]
    for network, given in zip(networks, (batch, with_meta), strict=True):
        guard = DriftGuard(source=small_network(classes=3), interval=1, window=1, lowest=0.01, highest=100.0)
        make_source_free(network, guard=guard)(bare_engine(network), given)
    assert all(torch.equal(a, b) for a, b in zip(*(each.parameters() for each in networks), strict=True))


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"anchor": -1.0}])
def test_weights_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="expected a weight above 0"):
        make_source_free(small_network(), **wrong)
