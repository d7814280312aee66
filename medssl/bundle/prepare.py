"""Make a bundle of another dataset out of a bundle: its geometry, classes, normalisation and description."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.bundle.adapt import adapted_configs, needs_cubes, pretraining_configs
from medssl.bundle.config import META, read_json, wanted_channels
from medssl.bundle.dataset_plan import Needs, Plan, Wishes, joined_needs, make_plan
from medssl.bundle.describe import Description, describe
from medssl.bundle.inherit import DROPOUT, NETWORK, inherited
from medssl.bundle.resolve import build_network, load_config
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import write_json
from medssl.core.findings import Finding
from medssl.data.fingerprint import fingerprint
from medssl.data.manifest import Manifest, anonymous_patients, save_manifest
from medssl.networks.channel_dropout import channel_dropouts
from medssl.networks.split import patch_strides, sees_slices
from medssl.training.encoder_weights import read_encoder_json

if TYPE_CHECKING:
    from torch import nn

_logger = logging.getLogger("medssl.bundle")


def prepare_bundle(
    bundle: Path,
    out: Path,
    manifest: Manifest,
    data_root: Path,
    *,
    wishes: Wishes,
    settings: Mapping[str, Any],
    beside: Sequence[Needs] = (),
    overrides: Mapping[str, Any] | None = None,
    from_scratch: bool = False,
    trust: bool = False,
) -> tuple[Plan, Sequence[Finding]]:
    """Copy a bundle to `out` and adapt it to a dataset, once; a second call finds it there.

    Args:
        bundle: Source bundle.
        out: New bundle.
        manifest: The dataset.
        data_root: Folder the manifest's paths start from.
        wishes: What the user decides about patch and intensities.
        settings: Top-level values of train.json to change.
        beside: What the bundles that it is compared with need; the geometry then suits all of them.
        overrides: Configuration ids of the training and their values; patches suit the network that they make.
        from_scratch: Training starts from random weights, so the voxel size of a pre-trained encoder is no reason.
        trust: Run code that bundles do not need.

    Returns:
        Geometry, labels and normalisation, and findings on the data.

    Raises:
        ConfigError: If `out` was begun for other data, or the bundle cannot be adapted.
    """
    found, findings = fingerprint(manifest, data_root)
    network = _network_of(bundle, overrides, trust=trust)
    needs = joined_needs(_needs_of(network, bundle, from_scratch=from_scratch), beside)
    plan = make_plan(manifest, found, wishes, needs)
    findings = [*findings, *narrow_dropout(network, len(plan.class_names))]
    results = out / "results"
    if not (results / "plan.json").is_file():
        # Stages of pre-training would still be those of the source's images; they stay with it
        changed, without = adapted_configs(bundle, plan, settings), pretraining_configs(bundle)
        copy_bundle(bundle, out, changed=changed, without=without)
        # Predictions take their label names from the metadata, so it is written before the first one
        describe(Description(out, manifest, plan, None, "Not trained yet", source=bundle.name))
        save_manifest(results / "manifest.json", anonymous_patients(manifest))
        write_json(results / "fingerprint.json", found.to_json())
        write_json(results / "plan.json", plan.to_json())
    elif read_json(results / "plan.json") != plan.to_json():
        message = f"{out}: was begun for other data. Put the manifest back, or choose another --out."
        raise ConfigError(message)
    return plan, findings


def serves(bundle: Path, manifest: Manifest) -> bool:
    """Tell whether a bundle has exactly the classes and channels of a dataset, so that it can be trained as it is."""
    metadata, training = (read_json(bundle / "configs" / f"{name}.json") for name in ("metadata", "train"))
    wanted = wanted_channels(training | {META: metadata})
    return (not wanted or len(wanted) == manifest.channels()) and class_names(bundle) == [
        manifest.labels[str(value)].casefold() for value in manifest.label_values()
    ]


def class_names(bundle: Path) -> list[str]:
    """Return the classes that a bundle gives, background included, in lower case."""
    metadata = read_json(bundle / "configs" / "metadata.json")
    return [name.casefold() for name in metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()]


def bundle_needs(
    bundle: Path, *, overrides: Mapping[str, Any] | None = None, from_scratch: bool = False, trust: bool = False
) -> Needs:
    """Return what a bundle's network asks of geometry; strides of 8, as for MONAI's SegResNet, where it does not tell.

    Args:
        bundle: The bundle.
        overrides: Configuration ids of the training and their values, which may make another network.
        from_scratch: Training starts from random weights, so the voxel size of a pre-trained encoder is no reason.
        trust: Run code that bundles do not need.
    """
    return _needs_of(_network_of(bundle, overrides, trust=trust), bundle, from_scratch=from_scratch)


def _network_of(bundle: Path, overrides: Mapping[str, Any] | None, *, trust: bool) -> nn.Module:
    """Build a bundle's network as a training with overrides would, but for the number of classes."""
    own = inherited(overrides or {}, (NETWORK, DROPOUT))
    # What they say of the network may refer to what only the training has
    return build_network(load_config(bundle, ("train",) if own else ("inference",), own, trust=trust))


def _needs_of(network: nn.Module, bundle: Path, *, from_scratch: bool) -> Needs:
    strides = patch_strides(network) or (8, 8, 8)
    spacing = None if from_scratch else _pretrained_spacing(bundle)
    return Needs(strides=strides, cubes=needs_cubes(bundle), slices=sees_slices(network), spacing_mm=spacing)


def narrow_dropout(network: nn.Module, classes: int) -> list[Finding]:
    """Warn where dropout leaves fewer features than there are classes: small structures are then hardly learnt."""
    narrow = [
        each for each in channel_dropouts(network) if each.rate > 0.0 and each.channels * (1 - each.rate) < classes
    ]
    if not narrow:
        return []
    least = min(narrow, key=lambda each: each.channels)
    text = (
        f"expected dropout to leave as many features as there are classes, {classes}, found {least.channels} features "
        f"of which {least.rate:.0%} are dropped. So trained, small structures were hardly learnt."
    )
    fix = "Take SplitUNet for each view (docs/cotraining.md), or set dropout_rate=0 and stochastic_passes=0."
    finding = Finding(code="narrow-dropout", severity="warning", text=text, fix=fix)
    _logger.warning("%s %s", text, fix)  # before hours of training, and again at its end
    return [finding]


def _pretrained_spacing(bundle: Path) -> tuple[float, float, float] | None:
    """Return the voxel size of the encoder that training starts from, or None if it starts from whole weights."""
    models = bundle / "models"
    if (models / "model.pt").is_file() or not (models / "encoder.pt").is_file():
        return None
    content = read_encoder_json(models / "encoder.pt") or {"stages": []}
    spacing = content["stages"][-1].get("spacing_mm") if content["stages"] else None
    return None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2]))
