"""Adapt a trained bundle to another site's scans without labels: train, score what can be scored, describe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.bundle.config import read_json
from medssl.bundle.run import STARTING_WEIGHTS, copy_bundle, train
from medssl.core.errors import ConfigError
from medssl.core.files import write_json, write_text
from medssl.data.manifest import Manifest

CONFIG = "train_source_free.json"


def adapt_without_labels(
    bundle: Path,
    out: Path,
    *,
    manifest: Path,
    data_root: Path,
    name: str,
    overrides: Mapping[str, Any],
    trust: bool = False,
) -> None:
    """Train a copy of a bundle on the unlabelled cases of a manifest alone; a second call continues the run.

    Geometry, classes and normalisation stay the bundle's own, since nothing but its weights knows the classes.

    Args:
        bundle: Trained bundle with a `configs/train_source_free.json`.
        out: New bundle.
        manifest: Manifest whose unlabelled part is learnt from.
        data_root: Folder the manifest's paths start from.
        name: Name of the dataset, for the description.
        overrides: Configuration ids and values.
        trust: Run code that bundles do not need.

    Raises:
        ConfigError: If the bundle cannot be adapted without labels.
        TrainingError: If the classes drift away from the source network's.
    """
    if not (bundle / "configs" / CONFIG).is_file():
        message = (
            f"{manifest}: no training case, and {bundle.name} has no configs/{CONFIG}, which would adapt it without "
            "labels. Add labelled cases to the training part, or give a co-trained bundle."
        )
        raise ConfigError(message)
    if not (out / "configs").is_dir():
        copy_bundle(bundle, out)
    start = {STARTING_WEIGHTS: str((bundle / "models" / "model.pt").resolve())}
    train(
        bundle,
        manifest=manifest,
        out=out,
        data_root=data_root,
        config_files=("train.json", CONFIG),
        overrides={**start, **overrides},
        trust=trust,
    )
    _describe(out, f"adapted without labels from {bundle.name} to {name}")


def _describe(out: Path, change: str) -> None:
    """Say what the weights are now, and take back what was measured of the source's."""
    path = out / "configs" / "metadata.json"
    metadata = read_json(path)
    metadata |= {"version": "0.1.0", "changelog": {"0.1.0": change}}
    for of_the_source in ("eval_metrics", "weights"):
        metadata.pop(of_the_source, None)
    write_json(path, metadata)
    readme = out / "docs" / "README.md"
    text = readme.read_text(encoding="utf-8")
    note = f"The weights were {change}. Not measured: score them on labelled cases of that site before use."
    section = re.compile(r"(^## Performance\n)(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    write_text(readme, section.sub(lambda found: f"{found[1]}\n{note}\n\n", text))


def is_without_labels(manifest: Manifest) -> bool:
    """Tell whether a manifest leaves nothing but unlabelled cases to learn from."""
    return not manifest.training and bool(manifest.unlabeled)
