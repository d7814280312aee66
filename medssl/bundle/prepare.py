"""Make a bundle of another dataset out of a bundle: its geometry, classes, normalisation and description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.adapt import Plan, Wishes, adapt_bundle, make_plan, needs_cubes
from medssl.bundle.config import read_json
from medssl.bundle.describe import Description, describe
from medssl.bundle.resolve import build_network, load_config
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import write_json
from medssl.core.findings import Finding
from medssl.data.fingerprint import fingerprint
from medssl.data.manifest import PARTS, Case, Manifest, save_manifest
from medssl.networks.split import largest_stride


def prepare_bundle(
    bundle: Path,
    out: Path,
    manifest: Manifest,
    data_root: Path,
    *,
    wishes: Wishes,
    settings: Mapping[str, Any],
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
        trust: Run code that bundles do not need.

    Returns:
        Geometry, labels and normalisation, and findings on the data.

    Raises:
        ConfigError: If `out` was begun for other data, or the bundle cannot be adapted.
    """
    found, findings = fingerprint(manifest, data_root)
    plan = make_plan(manifest, found, wishes, stride=_stride(bundle, trust=trust), cubic=needs_cubes(bundle))
    results = out / "results"
    if not (results / "plan.json").is_file():
        copy_bundle(bundle, out)
        adapt_bundle(out, plan, settings)
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
    """Tell whether a bundle has exactly the classes of a dataset, so that it can be trained as it is."""
    return class_names(bundle) == [manifest.labels[str(value)].casefold() for value in manifest.label_values()]


def class_names(bundle: Path) -> list[str]:
    """Return the classes that a bundle gives, background included, in lower case."""
    metadata = read_json(bundle / "configs" / "metadata.json")
    return [name.casefold() for name in metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()]


def anonymous_patients(manifest: Manifest) -> Manifest:
    """Replace patients by ordinals, which keep the grouping: the copy stays beside results."""
    names = list(dict.fromkeys(case.patient for _, case in manifest.cases() if case.patient is not None))
    ordinals = {name: f"p{number:04d}" for number, name in enumerate(names, 1)}

    def anonymous(case: Case) -> Case:
        return case if case.patient is None else case.model_copy(update={"patient": ordinals[case.patient]})

    return manifest.model_copy(update={part: tuple(anonymous(case) for case in manifest.part(part)) for part in PARTS})


def _stride(bundle: Path, *, trust: bool) -> int:
    """Return what patches must be multiples of; 8, as for MONAI's SegResNet, where the network does not tell."""
    return largest_stride(build_network(load_config(bundle, ("inference",), trust=trust))) or 8
