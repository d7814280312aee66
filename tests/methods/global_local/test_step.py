"""The two steps: losses of a loop, gradients where they belong, processes as one, batches that teach nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from losses.test_contrastive import loop_loss
from methods.global_local.process_steps import joined, stepped
from methods.global_local.small_pretraining import (
    bare_engine,
    global_step,
    local_step,
    make_dataset,
    make_loader,
    make_network,
    optimization_of,
)
from processes import in_processes

from medssl.core.errors import ConfigError, TrainingError
from medssl.losses.contrastive import ContrastiveLoss
from medssl.losses.region_masks import grid_regions, map_pairs, region_windows
from medssl.losses.view_masks import global_masks
from medssl.methods.global_local import GlobalContrastStep, GlobalEmbedder, LocalContrastStep, LocalEmbedder
from medssl.methods.global_local.step import read_views
from medssl.networks import SplitSegResNet
from medssl.training.health import embedding_spread


def _batch(**options):
    return next(iter(make_loader(make_dataset(**options))))


@pytest.mark.parametrize("strategy", ["GR", "GDminus", "GD"])
def test_the_global_loss_is_that_of_a_loop_over_the_views(strategy: str) -> None:
    embedder, step = global_step(make_network(), strategy=strategy)
    engine, batch = bare_engine(embedder), _batch()
    views = read_views(engine, batch)
    with torch.no_grad():
        expected = loop_loss(embedder(views.images).double(), global_masks(views.ids, strategy=strategy))
    before = [parameter.detach().clone() for parameter in embedder.network.encoder.parameters()]
    assert float(step(engine, batch)["loss"]) == pytest.approx(float(expected), abs=1e-4)
    assert any(not torch.equal(a, b) for a, b in zip(before, embedder.network.encoder.parameters(), strict=True))


def test_centred_embeddings_leave_the_cone_that_all_of_them_share() -> None:
    spreads = []
    for centre in (False, True):
        embedder, step = global_step(make_network(), centre=centre)
        embeddings = step(bare_engine(embedder), _batch())["embedded"].embeddings
        spreads.append(float(embedding_spread(embeddings)))
    assert spreads[1] > 0.8 > spreads[0]


def test_no_image_of_a_batch_is_empty() -> None:
    images = read_views(bare_engine(make_network()), _batch()).images
    assert images.shape == (8, 1, 48, 48, 1)
    assert (images.flatten(1).std(1) > 0).all()


def test_monitors_get_unit_embeddings_and_the_collapse_value() -> None:
    embedder, step = global_step(make_network())
    embedded = step(bare_engine(embedder), _batch())["embedded"]
    assert torch.allclose(embedded.embeddings.norm(dim=1), torch.ones(8))
    assert embedded.collapse_value == pytest.approx(math.log(1 + 4))
    assert embedded.sources.unique().numel() == 4


@pytest.mark.parametrize("strategy", ["LR", "LD"])
def test_the_local_loss_is_that_of_a_loop_over_pairs_of_maps(strategy: str) -> None:
    embedder, step = local_step(make_network(), strategy=strategy)
    engine, batch = bare_engine(embedder), _batch()
    views = read_views(engine, batch)
    with torch.no_grad():
        maps = embedder(views.images).double()
        pairs = map_pairs(views.ids, strategy=strategy)
        expected = sum(loop_loss(torch.cat([maps[a], maps[b]]), step.masks) for a, b in pairs) / len(pairs)
    assert float(step(engine, batch)["loss"]) == pytest.approx(float(expected), abs=1e-4)


def test_the_local_step_changes_blocks_and_head_only() -> None:
    network = make_network()
    embedder, step = local_step(network)
    before = {name: tensor.clone() for name, tensor in embedder.state_dict().items()}
    step(bare_engine(embedder), _batch())
    changed = {name for name, tensor in embedder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(("network.encoder", "network.head")) for name in changed)
    assert {name.split(".")[0] for name in changed} == {"network", "head", "projection"}


def test_regions_in_the_background_are_no_anchors() -> None:
    embedder, step = local_step(make_network(), foreground=0.25)
    batch = _batch()
    batch["crop"] = batch["crop"].abs() + 0.5
    batch["crop"][..., :24, :, :] = 0.0
    # What views do to intensities moves no region between back- and foreground
    batch["image"] = batch["image"] - 10.0 * torch.rand(len(batch["image"]), 2, 1, 1, 1, 1)
    output = step(bare_engine(embedder), batch)
    bright = region_windows(batch["crop"], embedder.regions).mean(-1) >= 0.25
    assert float(output["log"]["foreground_share"]) == pytest.approx(float(bright.float().mean()))
    assert 0.3 < float(bright.float().mean()) < 0.7


def test_one_batch_of_background_teaches_nothing_and_several_in_a_row_name_their_volumes() -> None:
    embedder, step = local_step(make_network(), foreground=3.0)
    before = {name: tensor.clone() for name, tensor in embedder.state_dict().items()}
    for _ in range(4):
        assert float(step(bare_engine(embedder), _batch())["loss"]) == 0.0
    assert all(torch.equal(tensor, before[name]) for name, tensor in embedder.state_dict().items())
    with pytest.raises(TrainingError, match=r"case_\d, case_\d, and 4 before it: expected .* at least 3"):
        step(bare_engine(embedder), _batch())


def test_local_features_of_views_that_were_moved_are_refused() -> None:
    embedder, step = local_step(make_network())
    batch = _batch()
    batch["start"][1, 1, 0] += 1
    with pytest.raises(TrainingError, match=r"shifted ones of case_\d\."):
        step(bare_engine(embedder), batch)
    with pytest.raises(TrainingError, match="Set aligned in CropDataset"):
        step(bare_engine(embedder), _batch(aligned=False))


def test_batches_without_a_pair_name_their_volumes() -> None:
    embedder, step = global_step(make_network(), strategy="GR")
    with pytest.raises(TrainingError, match=r"case_\d, case_\d: .*no positive pair"):
        step(bare_engine(embedder), _batch(view_count=1))
    embedder, step = local_step(make_network())
    with pytest.raises(TrainingError, match="no pair of maps"):
        step(bare_engine(embedder), _batch(view_count=1))


def test_unknown_strategies_are_refused_before_the_first_batch() -> None:
    with pytest.raises(ConfigError, match="'GDD'"):
        global_step(make_network(), strategy="GDD")
    with pytest.raises(ConfigError, match="'GR'"):
        local_step(make_network(), strategy="GR")


@pytest.mark.parametrize("stage", ["global", "local"])
def test_two_processes_take_the_step_of_one_with_all_maps(stage: str) -> None:
    weights, loss = stepped(stage)
    for other, seen in in_processes(joined, stage):
        assert seen == pytest.approx(loss, rel=1e-5)
        for name, values in weights.items():
            assert np.abs(other[name] - values).max() <= 1e-5 * max(1.0, np.abs(values).max())


def test_patches_of_volumes_take_both_steps() -> None:
    network = SplitSegResNet(init_filters=8, blocks_down=(1, 1), blocks_up=(1,))
    batch = _batch(patch_size=(16, 16, 4), min_overlap=0.5, aligned=False)
    size = (16, 16, 4)
    first = GlobalEmbedder(network=network, image_size=size, pool="avg", widths=(8, 8))
    output = GlobalContrastStep(loss=ContrastiveLoss(), optimization=optimization_of(first))(bare_engine(first), batch)
    assert torch.isfinite(output["loss"])
    batch = _batch(patch_size=(16, 16, 4))
    second = LocalEmbedder(
        network=network, regions=grid_regions(size, size=(3, 3, 2), grid=(3, 3, 2)), decoder_blocks=1, image_size=size
    )
    step = LocalContrastStep(
        network=second, loss=ContrastiveLoss(), optimization=optimization_of(second), spacing_mm=(1.0, 1.0, 3.0)
    )
    assert torch.isfinite(step(bare_engine(second), batch)["loss"])
