"""Slices or patches with several views of each, drawn by position in the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose, RandAxisFlipd, RandFlipd, Randomizable
from torch import Tensor

from medssl.core.errors import ConfigError, GeometryError
from medssl.core.seeding import derive_seed
from medssl.data.datasets import CaseDict, SeededCacheDataset
from medssl.methods.global_local.positions import cell_of, partition_of, partitions_of_cell, starts_of_partition

# Of MONAI's transforms those that keep every voxel in its place; of what others wrote nothing is known
_IN_PLACE = ("monai.transforms.intensity", "monai.transforms.utility")
_MOVES_ALL_THE_SAME = {"RandCoarseShuffled"}
_IN_PLACE_ALL_THE_SAME = {"RandSimulateLowResolutiond"}


class CropKey(NamedTuple):
    """Which volume to take, its position in the stream, and the cell that the crop lies in."""

    item: int
    position: int
    cell: int


class CropDataset(SeededCacheDataset):
    """Cache volumes; draw a crop from a cell of one, and make several views of it.

    An item holds `image` (V, C, X, Y, Z), and of its views `source` (the position in the stream), `volume`,
    `partition` (the cell), `view` and `start`, each with V rows, and `case_id`. What is drawn depends on (seed, stream,
    position) alone.

    Args:
        data: List of dicts from `pretraining_cases`.
        transform: What makes a volume (C, X, Y, Z) in canonical orientation; nothing random.
        views: MONAI transforms of the views of one crop, drawn anew for each.
        patch_size: Voxels of a crop along X, Y, Z; (X, Y, 1) are slices. Where a volume is shorter, or the crop
            reaches over its border, the volume's darkest value surrounds it.
        cells: Partitions along each axis.
        view_count: Views of each crop.
        keep_original: The first view stays as it is.
        min_overlap: Share of a crop that its views have in common at least; below 1 the views are shifted.
        aligned: The views of a crop lie on each other voxel by voxel, as local features need: nothing may move them.
            The crop before any view is then returned too, as `crop` (C, X, Y, Z).
        seed: Seed of the run.
        stream: Name of the stream.
        cache_rate: Share of the volumes kept in memory, 0 to 1.
        num_workers: Threads that fill the cache.

    Raises:
        ConfigError: If `transform` is random, views are flipped along an axis with several cells or cut larger than a
            crop, or aligned views would be moved.
    """

    def __init__(
        self,
        data: list[CaseDict],
        transform: Compose,
        *,
        views: Compose,
        patch_size: Sequence[int],
        cells: Sequence[int] = (1, 1, 4),
        view_count: int = 2,
        keep_original: bool = False,
        min_overlap: float = 1.0,
        aligned: bool = False,
        seed: int = 0,
        stream: str = "unlabeled",
        cache_rate: float = 1.0,
        num_workers: int = 2,
    ) -> None:
        _refuse_random(transform)
        _refuse_flips(views, cells)
        _refuse_larger_windows(views, patch_size)
        if aligned:
            _refuse_moves(views, min_overlap)
        self.views = views
        self.patch_size = (int(patch_size[0]), int(patch_size[1]), int(patch_size[2]))
        self.cells = (int(cells[0]), int(cells[1]), int(cells[2]))
        self.view_count = view_count
        self.keep_original = keep_original
        self.min_overlap = min_overlap
        self.aligned = aligned
        super().__init__(data, transform, seed=seed, stream=stream, cache_rate=cache_rate, num_workers=num_workers)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return super().__getitem__(key)
        entry = super().__getitem__(key[0])
        generator = np.random.default_rng(derive_seed(self.seed, self.stream, "crop", key[1]))
        cell = key.cell if isinstance(key, CropKey) else int(generator.integers(np.prod(self.cells)))
        image = torch.as_tensor(entry["image"]).as_subclass(Tensor)
        shape = tuple(image.shape[1:])
        anchor = draw_start(shape, self.patch_size, self.cells, cell, generator, case=entry["case_id"])
        shifts = draw_shifts(shape, self.patch_size, self.view_count, self.min_overlap, generator)
        # The cell of the anchor also where a shifted view has its centre in the next one
        starts = anchor + shifts
        count = self.view_count
        crop = {"crop": cut(image, anchor, self.patch_size)} if self.aligned else {}
        return crop | {
            "image": torch.stack([self._view(image, start, number, key[1]) for number, start in enumerate(starts)]),
            "source": torch.full((count,), int(key[1])),
            "volume": torch.full((count,), derive_seed("volume", entry["case_id"])),
            "partition": torch.full((count,), cell),
            "view": torch.arange(count),
            "start": torch.from_numpy(starts),
            "case_id": entry["case_id"],
        }

    def _view(self, image: Tensor, start: npt.NDArray[np.int64], number: int, position: int) -> Tensor:
        crop = cut(image, start, self.patch_size)
        if number == 0 and self.keep_original:
            return crop
        self.views.set_random_state(seed=derive_seed(self.seed, self.stream, position, number))
        view = torch.as_tensor(self.views({"image": crop})["image"]).as_subclass(Tensor)
        if view.shape != crop.shape:
            message = (
                f"views: expected them to give back crops of {tuple(crop.shape)}, found {tuple(view.shape)}. Resize "
                "crops to patch_size at the end of the views."
            )
            raise ConfigError(message)
        return view


def draw_start(
    shape: Sequence[int],
    patch: Sequence[int],
    cells: Sequence[int],
    cell: int,
    generator: np.random.Generator,
    *,
    case: str = "?",
) -> npt.NDArray[np.int64]:
    """Draw the first voxel of a crop whose centre lies in a cell.

    Along an axis of one partition it lies anywhere inside the volume, centred where the volume is shorter.

    Raises:
        GeometryError: If the volume is too short to have the cell.
    """
    found = []
    wanted = partitions_of_cell(cell, cells)
    for extent, side, count, partition in zip(shape, patch, cells, wanted, strict=True):
        if count == 1:
            found.append(int(generator.integers(extent - side + 1)) if extent > side else (extent - side) // 2)
            continue
        starts = starts_of_partition(extent, side, partitions=count, partition=partition)
        if not len(starts):
            message = (
                f"case {case}: expected crops of {tuple(patch)} in each of {tuple(cells)} partitions, but the volume "
                f"of {tuple(shape)} voxels has none in partition {partition}. Take the case out, or use fewer cells."
            )
            raise GeometryError(message)
        found.append(int(generator.choice(starts)))
    return np.array(found)


def draw_shifts(
    shape: Sequence[int], patch: Sequence[int], count: int, min_overlap: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw shifts (V, 3) of views against their anchor, so that any two share at least `min_overlap` of a crop.

    Axes along which a crop is one voxel, or as long as the volume, are not shifted.
    """
    free = [side > 1 and side < extent for extent, side in zip(shape, patch, strict=True)]
    share = 1.0 - min_overlap ** (1.0 / max(1, sum(free)))
    # Two views may shift apart, each by half of what they may differ in
    largest = [int(side * share / 2.0) if moves else 0 for side, moves in zip(patch, free, strict=True)]
    return np.stack([generator.integers(-far, far + 1, size=count) for far in largest], axis=1)


def cut(image: Tensor, start: npt.NDArray[np.int64], patch: Sequence[int]) -> Tensor:
    """Cut a crop out of (C, X, Y, Z); outside the volume it has the smallest value of each channel."""
    crop = image.amin((1, 2, 3), keepdim=True).expand(-1, *patch).clone()
    inside = [
        (max(0, int(first)), min(extent, int(first) + side))
        for first, side, extent in zip(start, patch, image.shape[1:], strict=True)
    ]
    places = tuple(slice(low - int(first), high - int(first)) for (low, high), first in zip(inside, start, strict=True))
    crop[(slice(None), *places)] = image[(slice(None), *(slice(low, high) for low, high in inside))]
    return crop


def cell_of_start(start: Sequence[int], shape: Sequence[int], patch: Sequence[int], cells: Sequence[int]) -> int:
    """Return the cell that a crop lies in, by its centre."""
    along = [
        int(partition_of(np.array(first), extent=extent, patch=side, partitions=count))
        for first, extent, side, count in zip(start, shape, patch, cells, strict=True)
    ]
    return cell_of(along, cells)


def _refuse_random(transform: Compose) -> None:
    found = [type(each).__name__ for each in transform.flatten().transforms if isinstance(each, Randomizable)]
    if found:
        message = f"transform: expected nothing random before crops are cut, found {found[0]}. Move it to views."
        raise ConfigError(message)


def _refuse_flips(views: Compose, cells: Sequence[int]) -> None:
    """Refuse flips along an axis whose direction tells the partitions apart."""
    for each in views.flatten().transforms:
        if isinstance(each, RandAxisFlipd):
            axes = set(range(3))
        elif isinstance(each, RandFlipd):
            axis = each.flipper.spatial_axis
            axes = set(range(3)) if axis is None else {axis} if isinstance(axis, int) else set(axis)
        else:
            continue
        flipped = [axis for axis in sorted(axes) if cells[axis] > 1]
        if flipped:
            message = (
                f"views: expected no flip along an axis with several cells, found {type(each).__name__} along axis "
                f"{flipped[0]} of cells {tuple(cells)}. Flip along other axes."
            )
            raise ConfigError(message)


def _refuse_larger_windows(views: Compose, patch_size: Sequence[int]) -> None:
    """Refuse windows that do not fit in a crop: MONAI would leave all of it, and views would differ less than told."""
    for each in views.flatten().transforms:
        window = getattr(getattr(each, "cropper", None), "roi_size", None)
        sides = [window] * 3 if isinstance(window, int) else () if window is None else list(window)
        if any(isinstance(side, int) and side > whole for side, whole in zip(sides, patch_size, strict=False)):
            message = (
                f"views: expected {type(each).__name__} to cut out of crops of {tuple(patch_size)}, got a size of "
                f"{tuple(sides)}. Set crop_size below patch_size."
            )
            raise ConfigError(message)


def _refuse_moves(views: Compose, min_overlap: float) -> None:
    """Refuse what would part the views of one crop, whose regions are then no longer those of the same tissue."""
    moving = [each for each in views.flatten().transforms if _may_move(each)]
    if not moving and min_overlap == 1.0:
        return
    found = type(moving[0]).__name__ if moving else f"min_overlap {min_overlap}"
    message = (
        f"views: expected views that lie on each other voxel by voxel, which local features compare, found {found}. "
        "Change intensities only, and leave min_overlap at 1."
    )
    raise ConfigError(message)


def _may_move(transform: Any) -> bool:
    kind = type(transform)
    if not kind.__module__.startswith("monai.") or kind.__name__ in _IN_PLACE_ALL_THE_SAME:
        return False
    return kind.__name__ in _MOVES_ALL_THE_SAME or not kind.__module__.startswith(_IN_PLACE)
