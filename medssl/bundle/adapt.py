"""Adapt a bundle's configuration to another dataset: labels, channels, spacing, patch, normalisation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medssl.bundle.config import handlers_of, read_json
from medssl.core.errors import ConfigError
from medssl.data.fingerprint import Fingerprint
from medssl.data.manifest import Manifest

Config = dict[str, Any]

# Rotations mix slices that are this many times thicker than the pixels are wide
_ANISOTROPIC = 3.0
# A volume this many times larger than the patch needs crops aimed at the labels
_ROOMY = 1.5
_SCALING = "ScaleIntensityRanged"
_NORMALISERS = {"NormalizeIntensityd", "ScaleIntensityRangePercentilesd", "ScaleIntensityd", _SCALING}


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
        "_target_": _SCALING,
        "keys": "image",
        "a_min": low,
        "a_max": high,
        "b_min": (low - mean) / deviation,
        "b_max": (high - mean) / deviation,
        "clip": True,
    }


def adapted_configs(bundle: Path, plan: Plan, settings: Mapping[str, Any]) -> dict[str, Config]:
    """Return the configurations of a bundle that another dataset changes, by their names.

    Args:
        bundle: The bundle.
        plan: From `make_plan`.
        settings: Top-level values of train.json, such as epochs or finetune_model_path.

    Raises:
        ConfigError: If the bundle has no part that must be adapted.
    """
    train, inference, evaluate = (
        read_json(bundle / "configs" / f"{name}.json") for name in ("train", "inference", "evaluate")
    )
    unknown = sorted(settings.keys() - train.keys())
    if unknown:
        message = f"{bundle.name}: train.json has no {unknown[0]!r}, so this bundle cannot be fine-tuned this way."
        raise ConfigError(message)
    transforms = evaluate["validate#preprocessing"]["transforms"]
    evaluate["validate#preprocessing"]["transforms"] = _with_labels(_normalised(transforms, plan, train), plan)
    return {
        "train": adapt_train({**train, **settings}, plan),
        "inference": adapt_inference(inference, plan),
        "evaluate": evaluate,
    }


def pretraining_configs(bundle: Path) -> list[str]:
    """Return the names of a bundle's stages of pre-training and of what is merged behind them."""
    paths = sorted((bundle / "configs").glob("*.json"))
    stages = [path.stem for path in paths if any(handlers_of(read_json(path), "EncoderWeights"))]
    return [*stages, *(f"multi_gpu_{stage}" for stage in stages)]


def adapt_train(config: Config, plan: Plan) -> Config:
    """Return train.json for the dataset of `plan`."""
    config = deepcopy(config)
    config["class_names"] = list(plan.class_names[1:])
    config["output_classes"] = len(plan.class_names)
    config["patch_size"] = list(plan.patch_size)
    config["val_patch_size"] = "@patch_size"
    config["resample_to_spacing"] = list(plan.spacing_mm)
    _adapt_network(config["network_def"], plan)
    for part in ("train", "validate"):
        transforms = _with_labels(_normalised(config[part]["preprocessing"]["transforms"], plan, config), plan)
        config[part]["preprocessing"]["transforms"] = [_augmentation(each, plan) for each in transforms]
    if "preprocessing" in config.get("unlabeled", {}):
        # Nothing tells where to look in an unlabelled volume, so its crops stay uniform
        blind = replace(plan, aim_at_labels=False)
        transforms = _normalised(config["unlabeled"]["preprocessing"]["transforms"], plan, config)
        config["unlabeled"]["preprocessing"]["transforms"] = [_augmentation(each, blind) for each in transforms]
    return config


def needs_cubes(bundle: Path) -> bool:
    """Tell whether a bundle's network looks along several axes, so that its voxels must be cubes."""
    network = read_json(bundle / "configs" / "inference.json").get("network_def", {})
    return "views" in network


def adapt_inference(config: Config, plan: Plan) -> Config:
    """Return inference.json for the dataset of `plan`."""
    config = deepcopy(config)
    config["patch_size"] = list(plan.patch_size)
    config["resample_to_spacing"] = list(plan.spacing_mm)
    _adapt_network(config["network_def"], plan)
    config["network_def"]["out_channels"] = len(plan.class_names)
    config["preprocessing"]["transforms"] = _normalised(config["preprocessing"]["transforms"], plan, config)
    return config


def _adapt_network(network: Config, plan: Plan) -> None:
    network["in_channels"] = plan.channels
    if plan.norm is not None and "norm" not in network:
        message = (
            f"--norm {plan.norm}: the network of this bundle ({network['_target_']}) has no such choice. Leave it out."
        )
        raise ConfigError(message)
    if plan.norm is not None:
        network["norm"] = [plan.norm, {"affine": True}]


def network_with_channels(overrides: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Return overrides in which a network that replaces the bundle's takes as many channels as the images have.

    Args:
        overrides: Configuration ids and values.
        channels: Image channels of the dataset.

    Raises:
        ConfigError: If they give it another number.
    """
    values = dict(overrides)
    network = values.get("network_def")
    if isinstance(network, Mapping) and "_mode_" not in network:
        values["network_def"] = network = {"in_channels": channels, **network}
    given = values.get("network_def#in_channels", network.get("in_channels") if isinstance(network, Mapping) else None)
    if isinstance(given, int) and given != channels:
        message = (
            f"--set network_def: in_channels: expected {channels}, as many as each case has images, got {given}. "
            "Leave in_channels out."
        )
        raise ConfigError(message)
    return values


def _normalised(transforms: list[Config], plan: Plan, config: Config) -> list[Config]:
    """Normalise the image as the plan says, unless both the plan and the bundle do so volume by volume.

    Args:
        transforms: Preprocessing.
        plan: From `make_plan`.
        config: Where the ids are that the transforms refer to.
    """
    own = normaliser(transforms)
    if not _is_absolute(_of_channels(own, plan.channels, config)) and not _is_absolute(plan.intensity):
        return transforms
    # What clips the old values would clip the new ones at the wrong place
    return [dict(plan.intensity) if each is own else each for each in transforms if not _only_clips(each)]


def normaliser(transforms: Sequence[Config]) -> Config:
    """Return the transform that normalises the image.

    Raises:
        ConfigError: If there is none, or more than one.
    """
    found = [each for each in transforms if each["_target_"] in _NORMALISERS and not _only_clips(each)]
    if len(found) != 1:
        message = "expected exactly one intensity normalisation in the preprocessing of the bundle; adapt it by hand."
        raise ConfigError(message)
    return found[0]


def _of_channels(transform: Config, channels: int, config: Config) -> Config:
    """Leave out numbers of single channels that the import has normalised already: null for each of the others."""

    def partly(value: Any) -> bool:
        found = config.get(value[1:]) if isinstance(value, str) and value.startswith("@") else value
        return isinstance(found, list) and None in found and len(found) == channels

    names = ("subtrahend", "divisor")
    return {name: value for name, value in transform.items() if name not in names or not partly(value)}


def _is_absolute(transform: Mapping[str, Any]) -> bool:
    """Tell whether a normalisation has the numbers of one dataset, instead of those of each volume."""
    return transform["_target_"] == _SCALING or not {"subtrahend", "divisor"}.isdisjoint(transform)


def _only_clips(transform: Config) -> bool:
    bounds = [transform.get(name) for name in ("a_min", "b_min", "a_max", "b_max")]
    return transform["_target_"] == _SCALING and None not in bounds and bounds[::2] == bounds[1::2]


def _with_labels(transforms: list[Config], plan: Plan) -> list[Config]:
    """Map the manifest's label values to channels 0 to C - 1 right behind the loading of the label."""
    kept = [each for each in transforms if each["_target_"] != "MapLabelValued"]
    if plan.label_values == tuple(range(len(plan.label_values))):
        return kept
    mapping = {
        "_target_": "MapLabelValued",
        "keys": "label",
        "orig_labels": list(plan.label_values),
        "target_labels": list(range(len(plan.label_values))),
    }
    loaded = next(i for i, each in enumerate(kept) if each["_target_"] == "EnsureChannelFirstd")
    return [*kept[: loaded + 1], mapping, *kept[loaded + 1 :]]


def _augmentation(transform: Config, plan: Plan) -> Config:
    if transform["_target_"] == "RandSpatialCropd" and plan.aim_at_labels:
        return {
            "_target_": "RandCropByPosNegLabeld",
            "keys": transform["keys"],
            "label_key": "label",
            "spatial_size": "@patch_size",
            "pos": 1,
            "neg": 1,
            "num_samples": 1,
        }
    if transform["_target_"] == "RandAffined" and plan.in_plane_axis is not None:
        kept = plan.in_plane_axis
        angles = [angle if axis == kept else 0.0 for axis, angle in enumerate(transform["rotate_range"])]
        shifts = [0.0 if axis == kept else shift for axis, shift in enumerate(transform["translate_range"])]
        return {**transform, "rotate_range": angles, "translate_range": shifts}
    return transform
