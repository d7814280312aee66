"""Adapt a trained bundle to another site's scans without labels: train, score what can be scored, describe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.bundle.config import read_json
from medssl.bundle.describe import MAKERS, made_anew, performance_text, scores, write_licence
from medssl.bundle.run import STARTING_WEIGHTS, copy_once, train
from medssl.core.errors import ConfigError
from medssl.core.files import write_json, write_text
from medssl.data.manifest import Manifest
from medssl.evaluation import Evaluation

CONFIG = "train_source_free.json"


def adapt_without_labels(
    bundle: Path,
    out: Path,
    *,
    manifest: Path,
    data_root: Path,
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
    if out.resolve() == bundle.resolve():
        message = f"--out {out}: expected a folder of its own, found the bundle that is adapted."
        raise ConfigError(message, fix="Choose another --out folder; the source's weights would be lost.")
    copy_once(bundle, out)
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


def describe_adapted(
    out: Path, manifest: Manifest, *, source: str, evaluation: Evaluation | None, meaning: str
) -> None:
    """Say what the weights are now, and take back what was measured of the source's.

    Args:
        out: The adapted bundle.
        manifest: The dataset that it was adapted to.
        source: Name of the bundle that was adapted.
        evaluation: Scores on labelled cases of that dataset, or None.
        meaning: What these scores are, or why there are none.
    """
    path = out / "configs" / "metadata.json"
    learnt = f"{len(manifest.unlabeled)} cases of {manifest.name} without labels"
    change = f"adapted without labels from {source} to {manifest.name}"
    metadata = made_anew(read_json(path), manifest, source=source)
    metadata |= {"name": f"{source}, adapted to {manifest.name}", "changelog": {"0.1.0": change}}
    metadata |= {"description": f"{learnt}, starting from {source}."}
    if found := scores(evaluation):
        metadata["eval_metrics"] = found
    write_json(path, metadata)
    readme = out / "docs" / "README.md"
    text = readme.read_text(encoding="utf-8")
    told = {
        "Authors": f"{MAKERS}.\n",
        "Data": f"{learnt[0].upper()}{learnt[1:]}; the weights it started from: see {source}.\n",
        "Performance": f"The weights were {change}. {performance_text(found, meaning)}",
    }
    for heading, content in told.items():
        text = _with_section(text, heading, content)
    write_text(readme, text)
    write_licence(out, manifest, beside=(out / "docs" / "data_license.txt").read_text(encoding="utf-8"))


def is_without_labels(manifest: Manifest) -> bool:
    """Tell whether a manifest leaves nothing but unlabelled cases to learn from."""
    return not manifest.training and bool(manifest.unlabeled)


def _with_section(text: str, heading: str, content: str) -> str:
    section = re.compile(rf"(^## {heading}\n)(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    return section.sub(lambda old: f"{old[1]}\n{content}\n", text)
