"""Masks of the global strategies against the sentences that define them, and batches that teach nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from losses.test_contrastive import loop_loss

from medssl.core.errors import ConfigError, TrainingError
from medssl.losses.contrastive import PairMasks, collapse_value, contrastive_loss
from medssl.losses.view_masks import ViewIds, global_masks, overlapping_boxes, require_pairs


def _ids(volumes: int = 3, partitions: int = 4, views: int = 2) -> ViewIds:
    rows = list(itertools.product(range(volumes), range(partitions), range(views)))
    sources = [volume * partitions + partition for volume, partition, _ in rows]
    return ViewIds(torch.tensor(sources), *torch.tensor(rows).T)


def _loop_masks(ids: ViewIds, strategy: str, gd_pairs: str = "all") -> PairMasks:
    count = len(ids.sources)
    positives, negatives = torch.zeros(2, count, count, dtype=torch.bool)
    for a, b in itertools.permutations(range(count), 2):
        source, volume, partition, view = (bool(each[a] == each[b]) for each in ids)
        if strategy == "GR":
            positives[a, b], negatives[a, b] = source, not source
        else:
            across = strategy == "GD" and partition and not volume and (gd_pairs == "all" or view)
            positives[a, b], negatives[a, b] = source or across, not partition
    return PairMasks(positives, negatives)


@pytest.mark.parametrize("partitions", [2, 3, 5])
@pytest.mark.parametrize(
    ("strategy", "gd_pairs"), [("GR", "all"), ("GDminus", "all"), ("GD", "all"), ("GD", "same_view")]
)
def test_masks_equal_their_definition(strategy: str, gd_pairs: str, partitions: int) -> None:
    ids = _ids(partitions=partitions)
    found = global_masks(ids, strategy=strategy, gd_pairs=gd_pairs)
    expected = _loop_masks(ids, strategy, gd_pairs)
    assert torch.equal(found.positives, expected.positives)
    assert torch.equal(found.negatives, expected.negatives)


@pytest.mark.parametrize("strategy", ["GR", "GDminus", "GD"])
def test_every_strategy_gives_the_loss_of_a_loop_and_a_gradient(strategy: str) -> None:
    ids = _ids()
    z = torch.randn(24, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    loss = contrastive_loss(z, global_masks(ids, strategy=strategy))
    loss.backward()
    assert torch.allclose(loss, loop_loss(z.detach(), _loop_masks(ids, strategy)), atol=1e-10)
    assert z.grad.abs().sum() > 0


def test_numbers_of_negatives_are_the_published_ones() -> None:
    three_views = global_masks(_ids(volumes=3, partitions=4, views=3), strategy="GDminus")
    assert three_views.negatives.sum(1).unique().tolist() == [27]
    assert collapse_value(global_masks(_ids(), strategy="GD")) == pytest.approx(2.9444, abs=1e-4)


def test_slices_of_the_same_partition_and_volume_are_neither() -> None:
    ids = ViewIds(torch.tensor([0, 1]), torch.tensor([5, 5]), torch.tensor([2, 2]), torch.tensor([0, 0]))
    masks = global_masks(ids, strategy="GD")
    assert not masks.positives.any()
    assert not masks.negatives.any()


def test_overlapping_crops_of_a_volume_are_no_negatives() -> None:
    starts = torch.tensor([[0, 0, 0], [0, 0, 3], [0, 0, 4], [0, 0, 3]])
    overlap = overlapping_boxes(starts, torch.full((4, 3), 4), torch.tensor([1, 1, 1, 2]))
    assert overlap.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    ids = ViewIds(torch.arange(4), torch.tensor([1, 1, 1, 2]), torch.arange(4), torch.zeros(4))
    assert not (global_masks(ids, strategy="GD", overlapping=overlap).negatives & overlap).any()


def test_a_batch_without_pairs_names_its_volumes() -> None:
    lonely = global_masks(_ids(volumes=1, views=1), strategy="GD")
    with pytest.raises(TrainingError, match=r"case_7: .*no positive pair"):
        require_pairs(lonely, ["case_7"] * 4)
    alike = global_masks(_ids(volumes=2, partitions=1), strategy="GD")
    with pytest.raises(TrainingError, match=r"a, b: .*no negative pair"):
        require_pairs(alike, ["a", "a", "b", "b"])
    require_pairs(global_masks(_ids(), strategy="GD"), ["any"] * 24)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match="GDminus"):
        global_masks(_ids(), strategy="GX")
