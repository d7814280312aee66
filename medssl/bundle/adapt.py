"""Adapt a bundle's configuration to another dataset: labels, channels, spacing, patch, normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.bundle.config import handlers_of, read_json
from medssl.bundle.dataset_plan import SCALING, Plan
from medssl.core.errors import ConfigError

Config = dict[str, Any]

_NORMALISERS = {"NormalizeIntensityd", "ScaleIntensityRangePercentilesd", "ScaleIntensityd", SCALING}


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
    return transform["_target_"] == SCALING or not {"subtrahend", "divisor"}.isdisjoint(transform)


def _only_clips(transform: Config) -> bool:
    bounds = [transform.get(name) for name in ("a_min", "b_min", "a_max", "b_max")]
    return transform["_target_"] == SCALING and None not in bounds and bounds[::2] == bounds[1::2]


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
