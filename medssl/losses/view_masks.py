"""Who is whose positive among whole slices or patches: by source, by partition of the body, across volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl.core.errors import ConfigError, TrainingError
from medssl.losses.contrastive import PairMasks

GlobalStrategy = Literal["GR", "GDminus", "GD"]
GdPairs = Literal["all", "same_view"]


class ViewIds(NamedTuple):
    """What a view is of; every tensor is (V,) of whole numbers.

    Attributes:
        sources: The slice or crop it was made from; equal for its views.
        volumes: The volume of the slice, unique over all processes.
        partitions: The partition of the volume that the slice lies in.
        views: Number of the view among those of its source; 0 may be the unchanged one.
    """

    sources: Tensor
    volumes: Tensor
    partitions: Tensor
    views: Tensor


def global_masks(
    ids: ViewIds, *, strategy: GlobalStrategy, gd_pairs: GdPairs = "all", overlapping: Tensor | None = None
) -> PairMasks:
    """Return who is compared with whom among V views.

    | strategy | positives | negatives |
    |---|---|---|
    | GR | views of one source | views of all other sources |
    | GDminus | views of one source | views of other partitions, of all volumes |
    | GD | also views of the same partition of other volumes | views of other partitions, of all volumes |

    What lies in the same partition but is no positive is left out.

    Args:
        ids: What the views are of.
        strategy: See above.
        gd_pairs: For GD, "all" pairs of a partition across volumes, or those of the "same_view", as published.
        overlapping: (V, V), pairs of views that show the same voxels; never negatives.

    Raises:
        ConfigError: If the strategy or `gd_pairs` is unknown.

    Note:
        Source: Chaitanya et al., NeurIPS 2020, section 3.1. The published code takes one other volume for each
        anchor; here all of the batch are taken.
    """
    check_global_strategy(strategy, gd_pairs)
    same_source, same_volume, same_partition, same_view = (_equal(each) for each in ids)
    positives, negatives = same_source, ~same_partition
    if strategy == "GR":
        negatives = ~same_source
    elif strategy == "GD":
        across = same_partition & ~same_volume
        positives = same_source | (across & same_view if gd_pairs == "same_view" else across)
    if overlapping is not None:
        negatives = negatives & ~overlapping
    itself = torch.eye(len(ids.sources), dtype=torch.bool, device=ids.sources.device)
    return PairMasks(positives & ~itself, negatives & ~positives & ~itself)


def check_global_strategy(strategy: str, gd_pairs: str) -> None:
    """Refuse a strategy that is unknown.

    Raises:
        ConfigError: If it, or the choice of pairs, is.
    """
    if strategy not in {"GR", "GDminus", "GD"} or gd_pairs not in {"all", "same_view"}:
        message = (
            f'strategy: expected "GR", "GDminus" or "GD" with gd_pairs "all" or "same_view", got {strategy!r} with '
            f"{gd_pairs!r}."
        )
        raise ConfigError(message)


def _equal(ids: Tensor) -> Tensor:
    return ids[:, None] == ids[None]


def overlapping_boxes(starts: Tensor, sizes: Tensor, volumes: Tensor) -> Tensor:
    """Tell which crops of one volume share voxels.

    Args:
        starts: (V, 3) first voxel of each crop along each axis.
        sizes: (V, 3) voxels along each axis.
        volumes: (V,) the volumes.

    Returns:
        (V, V), true where both are of one volume and their boxes meet.
    """
    ends = starts + sizes
    meet = (starts[:, None] < ends[None]) & (starts[None] < ends[:, None])
    return meet.all(-1) & _equal(volumes)


def require_pairs(masks: PairMasks, names: Sequence[str]) -> None:
    """Refuse a batch in which nothing can be learned.

    Args:
        masks: Of one batch, on the CPU.
        names: Volume of each row, for the message.

    Raises:
        TrainingError: If no row has a positive, or none that has one has a negative.
    """
    shown = ", ".join(dict.fromkeys(names))
    has_positive, has_negative = masks.positives.any(-1), masks.negatives.any(-1)
    if not has_positive.any():
        message = (
            f"batch of {shown}: expected views of one slice, or of one partition in several volumes, found no positive "
            "pair. Make at least 2 views of each slice, or draw from at least 2 volumes."
        )
        raise TrainingError(message)
    if not (has_positive & has_negative).any():
        message = (
            f"batch of {shown}: expected views of other slices or partitions, found no negative pair. Draw more slices "
            "or volumes, or use at least 2 partitions."
        )
        raise TrainingError(message)
