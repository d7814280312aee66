"""The two stages of pre-training: whole slices or patches by position, then regions of their maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d, normalize

from medssl.core.errors import TrainingError
from medssl.losses.contrastive import ContrastiveLoss, PairMasks, anchors_without_negatives, collapse_value
from medssl.losses.region_masks import (
    LocalNegatives,
    LocalStrategy,
    check_local_strategy,
    map_pairs,
    nearest_regions,
    region_masks,
    region_windows,
)
from medssl.losses.view_masks import (
    GdPairs,
    GlobalStrategy,
    ViewIds,
    check_global_strategy,
    global_masks,
    overlapping_boxes,
    require_pairs,
)
from medssl.methods.global_local.embedders import LocalEmbedder
from medssl.training.distributed import gather_rows, mean_over_processes, undistributed
from medssl.training.health import Embedded
from medssl.training.optimization import Optimization

_MOST_MEASURED = 512  # rows that the monitors see of an iteration
_MOST_DARK = 5  # batches in a row without a region in the foreground


class Views(NamedTuple):
    """The views of a batch, row by row.

    Attributes:
        images: (V, C, X, Y, Z) on the device.
        ids: What they are of, on the device.
        starts: (V, 3) first voxel of each in its volume.
        names: Case of each.
    """

    images: Tensor
    ids: ViewIds
    starts: Tensor
    names: list[str]


def read_views(engine: Any, batch: dict[str, Any]) -> Views:
    """Move a batch of `CropDataset` to the trainer's device, one row for each view."""
    device = engine.state.device
    rows = {key: batch[key].flatten(0, 1).to(device, non_blocking=engine.non_blocking) for key in _ROWS}
    count = batch["image"].shape[1]
    names = [case for case in batch["case_id"] for _ in range(count)]
    ids = ViewIds(rows["source"], rows["volume"], rows["partition"], rows["view"])
    return Views(rows["image"], ids, rows["start"], names)


_ROWS = ("image", "source", "volume", "partition", "view", "start")


class GlobalContrastStep:
    """Pull slices or patches of one position together across volumes, push those of other positions apart.

    The trainer's network is a `GlobalEmbedder`. Negatives come from all processes, with their gradient.

    Args:
        loss: `ContrastiveLoss`.
        optimization: The run's `Optimization`.
        strategy: "GR", "GDminus" or "GD"; see `global_masks`.
        gd_pairs: Positives of GD: "all", or "same_view" as published.
        centre: Take the mean over the batch of all processes from the embeddings before they get length 1. Features
            behind a ReLU all point the same way at first, where the loss is that of a collapse and hardly falls.

    Raises:
        ConfigError: If the strategy is unknown.

    Note:
        Source: Chaitanya et al., NeurIPS 2020, section 3.1. Centring is ours; batch normalisation does it there.
    """

    def __init__(
        self,
        *,
        loss: ContrastiveLoss,
        optimization: Optimization,
        strategy: GlobalStrategy = "GD",
        gd_pairs: GdPairs = "all",
        centre: bool = False,
    ) -> None:
        check_global_strategy(strategy, gd_pairs)
        self.loss = loss
        self.optimization = optimization
        self.strategy = strategy
        self.gd_pairs = gd_pairs
        self.centre = centre

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        views = read_views(engine, batch)
        engine.network.train()
        with self.optimization.autocast():
            embeddings = engine.network(views.images)
        embeddings = gather_rows(embeddings.float())
        if self.centre:
            embeddings = embeddings - embeddings.mean(0)
        ids = ViewIds(*(gather_rows(each) for each in views.ids))
        masks = self._masks(ids, gather_rows(views.starts), views)
        loss = self.loss(embeddings, masks)
        collapse = collapse_value(masks, decoupled=self.loss.decoupled)
        embedded = Embedded(
            normalize(embeddings.detach(), dim=1), ids.sources, collapse, ends_at_zero=not self.loss.decoupled
        )
        output = _output(views, loss, embedded, anchors_without_negatives=anchors_without_negatives(masks))
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=list(dict.fromkeys(views.names)))
        return output

    def _masks(self, ids: ViewIds, starts: Tensor, views: Views) -> PairMasks:
        sizes = torch.tensor(views.images.shape[2:], device=starts.device).expand_as(starts)
        overlapping = overlapping_boxes(starts, sizes, ids.volumes)
        masks = global_masks(ids, strategy=self.strategy, gd_pairs=self.gd_pairs, overlapping=overlapping)
        require_pairs(masks, views.names)
        return masks


class LocalContrastStep:
    """Pull a region together with itself in another view, push its neighbours apart; the encoder stays as it is.

    The trainer's network is a `LocalEmbedder`. Maps are compared within each process; processes weigh by how many
    regions they compare, so that their mean is the loss of one process with all maps.

    Args:
        network: The trainer's network; tells the regions.
        loss: `ContrastiveLoss`.
        optimization: The run's `Optimization`.
        strategy: "LR" or "LD"; see `map_pairs`.
        neighbours: Nearest regions that are negatives; published are 5 for LR and 4 for LD, in each map.
        negatives: Neighbours in "both" maps, or in the "other" one only.
        spacing_mm: Size of a voxel of the map, for the distances.
        foreground: Regions whose mean intensity lies below, in the crop before any view, are no anchors, only
            negatives; None takes all.

    Raises:
        ConfigError: If there are fewer regions than neighbours, or the strategy is unknown.

    Note:
        Source: Chaitanya et al., NeurIPS 2020, section 3.2. There LD is one-directional and has no foreground rule.
    """

    def __init__(
        self,
        *,
        network: Any,
        loss: ContrastiveLoss,
        optimization: Optimization,
        strategy: LocalStrategy = "LR",
        neighbours: int = 5,
        negatives: LocalNegatives = "both",
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
        foreground: float | None = None,
    ) -> None:
        check_local_strategy(strategy)
        embedder: LocalEmbedder = undistributed(network)
        self.regions = embedder.regions
        near = nearest_regions(self.regions, neighbours, spacing_mm=spacing_mm)
        self.masks = region_masks(near, negatives=negatives)
        self.loss = loss
        self.optimization = optimization
        self.strategy = strategy
        self.foreground = foreground
        self._dark_in_a_row = 0

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        _require_aligned(batch)
        views = read_views(engine, batch)
        engine.network.train()
        with self.optimization.autocast():
            embeddings = engine.network(views.images)
        embeddings = embeddings.float()
        pairs = map_pairs(views.ids, strategy=self.strategy)
        if not len(pairs):
            shown = ", ".join(dict.fromkeys(views.names))
            message = f"batch of {shown}: expected two views of a slice, found no pair of maps. Set view_count to 2."
            raise TrainingError(message)
        masks, share = self._masks(views, pairs, batch)
        compared = masks.positives.expand(len(pairs), -1, -1).sum().float()
        usual = mean_over_processes(compared)
        self._count_dark(usual == 0, views.names)
        loss = self.loss(torch.cat([embeddings[pairs[:, 0]], embeddings[pairs[:, 1]]], dim=1), masks)
        loss = loss * compared / torch.where(usual > 0, usual, 1.0)
        collapse = collapse_value(self.masks, decoupled=self.loss.decoupled)
        embedded = self._embedded(embeddings, views.ids.sources, collapse)
        output = _output(views, loss, embedded, foreground_share=share)
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=list(dict.fromkeys(views.names)))
        return output

    def _count_dark(self, is_dark: Tensor, names: list[str]) -> None:
        """Stop after several batches without an anchor; a single one, of slices at the ends, just teaches nothing."""
        self._dark_in_a_row = self._dark_in_a_row + 1 if is_dark else 0
        if self._dark_in_a_row == _MOST_DARK:
            message = (
                f"batch of {', '.join(dict.fromkeys(names))}, and {_MOST_DARK - 1} before it: expected regions with a "
                f"mean intensity of at least {self.foreground:g}, found none in any slice. Lower foreground in a new "
                "--out folder, or check how intensities are scaled."
            )
            raise TrainingError(message)

    def _masks(self, views: Views, pairs: Tensor, batch: dict[str, Any]) -> tuple[PairMasks, Tensor | float]:
        """Return masks of all pairs (2A, 2A), or of each (P, 2A, 2A) without anchors in the background."""
        masks = self.masks.to(views.images.device)
        if self.foreground is None:
            return masks, 1.0
        small = adaptive_avg_pool3d(batch["crop"].mean(1, keepdim=True), self.regions.map_size)
        bright = region_windows(small, self.regions).mean(-1) >= self.foreground  # (B, A)
        bright = bright.to(views.images.device).repeat_interleave(batch["image"].shape[1], dim=0)  # (V, A)
        anchors = torch.cat([bright[pairs[:, 0]], bright[pairs[:, 1]]], dim=1)
        return masks._replace(positives=masks.positives & anchors[..., None]), anchors.float().mean()

    def _embedded(self, embeddings: Tensor, sources: Tensor, collapse: float) -> Embedded:
        """Return regions as rows; those of one place in two views have the same source."""
        count = embeddings.shape[1]
        places = sources[:, None] * count + torch.arange(count, device=sources.device)
        rows = normalize(embeddings.detach().flatten(0, 1), dim=1)
        return Embedded(
            rows[:_MOST_MEASURED],
            places.flatten()[:_MOST_MEASURED],
            collapse,
            ends_at_zero=not self.loss.decoupled,
        )


def _require_aligned(batch: dict[str, Any]) -> None:
    """Refuse views whose regions are not those of the same tissue."""
    starts = batch["start"]
    apart = (starts != starts[:, :1]).flatten(1).any(1)
    if apart.any() or "crop" not in batch:
        shown = ", ".join(case for case, is_apart in zip(batch["case_id"], apart.tolist(), strict=True) if is_apart)
        found = f"shifted ones of {shown}" if shown else "a data set that does not promise it"
        message = f"local features: expected views that lie on each other, found {found}. Set aligned in CropDataset."
        raise TrainingError(message)


def _output(views: Views, loss: Tensor, embedded: Embedded, **log: Any) -> dict[str, Any]:
    return {
        CommonKeys.IMAGE: views.images,
        CommonKeys.LOSS: loss.detach(),
        "embedded": embedded,
        "log": {name: value for name, value in log.items() if value is not None},
    }
