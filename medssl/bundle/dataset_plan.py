"""What a dataset asks of a network: classes, voxel size, patch, normalisation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from medssl.data.fingerprint import Fingerprint
from medssl.data.manifest import Manifest

# Rotations mix slices that are this many times thicker than the pixels are wide
_ANISOTROPIC = 3.0
# A volume this many times larger than the patch needs crops aimed at the labels
_ROOMY = 1.5
SCALING = "ScaleIntensityRanged"
"""MONAI's transform that normalises by fixed numbers."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user decides, because the data cannot tell.

    Attributes:
        patch_voxels: Most voxels of a training patch; decides memory and time.
        absolute_intensities: An intensity means the same in every case, as in CT: one scaling for the whole dataset.
        norm: Normalisation layer of the network, "instance" or "batch"; None keeps the bundle's. Instance
            normalisation removes the level of each tile, and with it what absolute intensities tell.
    """

    patch_voxels: int = 65536
    absolute_intensities: bool = False
    norm: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a dataset asks of a bundle; written to results/plan.json.

    Attributes:
        class_names: Names in the order of the network's channels, background first.
        label_values: The manifest's label value of each channel.
        channels: Image channels.
        spacing_mm: Voxel size the network works at, RAS axes; -1 leaves an axis as it is.
        patch_size: Voxels of a training patch and of an inference tile, each a multiple of the network's stride.
        intensity: MONAI transform that normalises the image, unless the bundle's own already does so volume by volume.
        aim_at_labels: Whether crops are centred on labels half of the time, because volumes exceed the patch.
        in_plane_axis: Axis of thick slices that rotations must keep, or None.
        norm: Normalisation layer of the network, or None for the bundle's own.
    """

    class_names: tuple[str, ...]
    label_values: tuple[int, ...]
    channels: int
    spacing_mm: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    intensity: Mapping[str, Any]
    aim_at_labels: bool
    in_plane_axis: int | None
    norm: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a bundle's network asks of geometry, whatever the data.

    Attributes:
        strides: Patch sizes are multiples of them, along X, Y, Z.
        cubes: It looks along several axes, so its voxels are cubes; they then have the volume of the median voxel.
        slices: It sees single slices, which are never resampled across.
        spacing_mm: Voxel size that its encoder was pre-trained at, which then stays; None takes that of the data.
    """

    strides: tuple[int, int, int] = (8, 8, 8)
    cubes: bool = False
    slices: bool = False
    spacing_mm: tuple[float, float, float] | None = None


def joined_needs(own: Needs, beside: Sequence[Needs]) -> Needs:
    """Return what a network asks of geometry when it is compared with others: one grid that suits all of them.

    Strides become common multiples, and cubes are taken where any network needs them. Networks that see single slices
    keep their own geometry, and so does the voxel size that an encoder was pre-trained at.

    Args:
        own: Needs of the network.
        beside: Needs of those it is compared with; its own may be among them.
    """
    if own.slices:
        return own
    volumes = [own, *(each for each in beside if not each.slices)]
    x, y, z = (math.lcm(*sides) for sides in zip(*(each.strides for each in volumes), strict=True))
    return replace(own, strides=(x, y, z), cubes=any(each.cubes for each in volumes))


def make_plan(manifest: Manifest, fingerprint: Fingerprint, wishes: Wishes, needs: Needs = Needs()) -> Plan:
    """Derive labels, geometry and normalisation from a dataset.

    The working spacing is the median of the cases, and the patch is the median shape at that spacing, shortened along
    its longest axes until it holds at most `patch_voxels`. Inference tiles are as large as the training patches: with
    instance normalisation, larger ones cost half a point of Dice and more (docs/results/hippocampus.md). CT is clipped
    to the 0.5 and 99.5 percentile of the labelled voxels and normalised by their mean and standard deviation (as
    nnU-Net does); every other modality is normalised volume by volume.

    Args:
        manifest: The dataset.
        fingerprint: Its geometry and intensities.
        wishes: What the user decides.
        needs: What the network asks for.
    """
    values = tuple(manifest.label_values())
    spacing = _working_spacing(fingerprint.spacing_mm.median, needs)
    shape = _working_shape(fingerprint, spacing)
    if needs.slices:
        shape = (shape[0], shape[1], 1)
    patch = fit_patch(shape, strides=needs.strides, voxels=wishes.patch_voxels)
    widths = [own if own > 0 else median for own, median in zip(spacing, fingerprint.spacing_mm.median, strict=True)]
    coarse = max(range(3), key=lambda axis: widths[axis])
    return Plan(
        class_names=tuple(manifest.labels[str(value)] for value in values),
        label_values=values,
        channels=manifest.channels(),
        spacing_mm=spacing,
        patch_size=patch,
        intensity=_intensity(fingerprint, absolute=wishes.absolute_intensities or manifest.modality.upper() == "CT"),
        aim_at_labels=math.prod(shape) > _ROOMY * math.prod(patch),
        in_plane_axis=coarse if widths[coarse] >= _ANISOTROPIC * min(widths) else None,
        norm=wishes.norm,
    )


def _working_spacing(median: Sequence[float], needs: Needs) -> tuple[float, float, float]:
    if needs.cubes and needs.spacing_mm is None:
        return (round(math.prod(median) ** (1 / 3), 3),) * 3
    x, y, z = needs.spacing_mm or (round(median[0], 3), round(median[1], 3), round(median[2], 3))
    return x, y, -1.0 if needs.slices else z


def _working_shape(fingerprint: Fingerprint, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return the median shape in voxels of `spacing`; shapes and spacings of the fingerprint are in RAS order."""
    counts, widths = fingerprint.shape.median, fingerprint.spacing_mm.median
    voxels = [
        max(1, round(count * width / wanted) if wanted > 0 else round(count))
        for count, width, wanted in zip(counts, widths, spacing, strict=True)
    ]
    return voxels[0], voxels[1], voxels[2]


def fit_patch(shape: Sequence[int], *, strides: Sequence[int], voxels: int) -> tuple[int, int, int]:
    """Return the smallest patch that covers `shape`, shortened along its longest axis until it holds `voxels`.

    Every axis is a positive multiple of its stride; two strides are kept, because instance normalisation needs more
    than one voxel at the bottleneck. An axis that is not strided keeps at least one voxel.
    """
    least = [2 * stride if stride > 1 else 1 for stride in strides]
    patch = [
        max(low, math.ceil(extent / stride) * stride) for extent, stride, low in zip(shape, strides, least, strict=True)
    ]
    while math.prod(patch) > voxels and (long := [axis for axis in range(3) if patch[axis] > least[axis]]):
        longest = max(long, key=lambda axis: patch[axis])
        patch[longest] -= strides[longest]
    return patch[0], patch[1], patch[2]


def _intensity(fingerprint: Fingerprint, *, absolute: bool) -> dict[str, Any]:
    regions = fingerprint.foreground or fingerprint.nonzero
    if not absolute or len(regions) != 1:
        return {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    low, high, mean = regions[0].percentile_00_5, regions[0].percentile_99_5, regions[0].mean
    deviation = max(regions[0].standard_deviation, 1e-6)
    return {
        "_target_": SCALING,
        "keys": "image",
        "a_min": low,
        "a_max": high,
        "b_min": (low - mean) / deviation,
        "b_max": (high - mean) / deviation,
        "clip": True,
    }
