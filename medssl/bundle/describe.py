"""Metadata and documents of a bundle that was made for a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl.bundle.adapt import normaliser
from medssl.bundle.config import read_json
from medssl.bundle.dataset_plan import Plan
from medssl.core.files import write_json, write_text
from medssl.data.manifest import Manifest
from medssl.evaluation import Evaluation

MAKERS = "Those who ran `medssl finetune`"
"""Who made a bundle that medssl made for a dataset."""
_PINNED = ("pytorch-ignite", "nibabel", "medssl")


@dataclass(frozen=True)
class Description:
    """What is known of a fine-tuned bundle.

    Attributes:
        folder: The bundle.
        manifest: Its dataset.
        plan: Its geometry, labels and normalisation.
        evaluation: Scores on held-out cases, or None.
        meaning: What these scores are, in one sentence.
        source: Name of the bundle it was made from.
    """

    folder: Path
    manifest: Manifest
    plan: Plan
    evaluation: Evaluation | None
    meaning: str
    source: str


def describe(known: Description) -> None:
    """Write configs/metadata.json, docs/README.md and docs/data_license.txt of a fine-tuned bundle."""
    path = known.folder / "configs" / "metadata.json"
    metadata = read_json(path)
    write_json(path, _metadata(metadata, known))
    write_text(known.folder / "docs" / "README.md", _readme(known))
    write_licence(known.folder, known.manifest)


def write_licence(folder: Path, manifest: Manifest, *, beside: str = "") -> None:
    """Write docs/data_license.txt of a bundle that was trained on a dataset, and on that of the text `beside`."""
    licence = manifest.licence or "not stated in the manifest; find out before the weights are passed on"
    own = f"Data set: {manifest.name}\nLicence: {licence}\n"
    text = own if own in beside or not beside else f"{own}\nThe weights that it started from:\n\n{beside}"
    write_text(folder / "docs" / "data_license.txt", beside if own in beside else text)


def _cases(manifest: Manifest) -> str:
    """Return how many cases were learnt from, held-out ones among them, in words."""
    unlabelled = f" and {len(manifest.unlabeled)} without labels" if manifest.unlabeled else ""
    return f"{len(manifest.training)} labelled cases of {manifest.name} (held-out ones among them){unlabelled}"


def made_anew(metadata: dict[str, Any], manifest: Manifest, *, source: str) -> dict[str, Any]:
    """Return metadata of a bundle fine-tuned from `source`: its versions and origin, nothing measured of the source."""
    kept = {key: value for key, value in metadata.items() if key not in {"eval_metrics", "weights", "memory"}}
    return kept | {
        "version": "0.1.0",
        "changelog": {"0.1.0": f"fine-tuned from {source} on {manifest.name}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {package: version(package) for package in _PINNED},
        "name": f"{manifest.name}, fine-tuned from {source}",
        "authors": MAKERS,
        "copyright": MAKERS,
        "data_source": manifest.description or manifest.name,
        "references": [f"The bundle {source}, from which the weights started."],
    }


def _metadata(metadata: dict[str, Any], known: Description) -> dict[str, Any]:
    manifest, plan, source = known.manifest, known.plan, known.source
    names = ", ".join(plan.class_names)
    metadata = made_anew(metadata, manifest, source=source) | {
        "task": f"Segmentation of {', '.join(plan.class_names[1:])} in {manifest.modality}",
        "description": f"{_cases(manifest)}, starting from {source}.",
        "image_classes": f"{plan.channels} channel(s) of {manifest.modality}",
        "label_classes": f"one channel: {names}",
        "pred_classes": f"{len(plan.class_names)} channels of logits: {names}",
    }
    if found := scores(known.evaluation):
        metadata["eval_metrics"] = found
    if memory := _inference_memory(known.folder):
        metadata["memory"] = {"inference": memory}
    data_format = metadata["network_data_format"]
    image, pred = data_format["inputs"]["image"], data_format["outputs"]["pred"]
    image |= {
        "format": "hounsfield" if manifest.modality.upper() == "CT" else "magnitude",
        "modality": manifest.modality,
        "num_channels": plan.channels,
        "spatial_shape": _of_inference(known, "patch_size"),
        "channel_def": {str(i): f"{manifest.modality} {i}" for i in range(plan.channels)},
    }
    pred |= {
        "num_channels": len(plan.class_names),
        "spatial_shape": _of_inference(known, "patch_size"),
        "channel_def": {str(i): name for i, name in enumerate(plan.class_names)},
    }
    return metadata


def _of_inference(known: Description, key: str) -> Any:
    """Return what inference.json says of the input; it may differ from the plan where the user asked for it."""
    return read_json(known.folder / "configs" / "inference.json")[key]


def _inference_memory(folder: Path) -> str | None:
    """Return the largest memory that a case of the last prediction was planned with."""
    records = [path for path in (folder / "results").glob("*/run.json") if path.is_file()]
    cases = [case for path in records for case in read_json(path)["cases"]]
    planned = [case["estimated_memory_bytes"] for case in cases if case.get("estimated_memory_bytes")]
    return f"{max(planned) / 2**20:.0f} MiB beside the libraries, for the largest case" if planned else None


def scores(evaluation: Evaluation | None) -> dict[str, float]:
    """Return the mean Dice overall and of each class that was evaluated, rounded to 4 places."""
    if evaluation is None or not evaluation.scored:
        return {}
    summary = evaluation.to_json()["summary"]
    means = {name: entry["dice"]["mean"] for name, entry in summary.items()}
    return {
        "mean_dice" if name == "mean" else f"dice_{name.replace(' ', '_')}": round(mean, 4)
        for name, mean in means.items()
        if mean is not None
    }


def _readme(known: Description) -> str:
    manifest, plan = known.manifest, known.plan
    shape = " x ".join(str(extent) for extent in _of_inference(known, "patch_size"))
    spacing = " x ".join(_width(value) for value in _of_inference(known, "resample_to_spacing"))
    return _TEMPLATE.format(
        name=known.folder.name,
        modality=manifest.modality,
        classes=", ".join(plan.class_names[1:]),
        cases=_cases(manifest),
        makers=MAKERS,
        shape=shape,
        spacing=spacing,
        normaliser=normaliser(_of_inference(known, "preprocessing")["transforms"])["_target_"],
        performance=performance_text(scores(known.evaluation), known.meaning),
        source=known.source,
    )


def _width(millimetres: float) -> str:
    return f"{millimetres:g}" if millimetres > 0 else "any"


def performance_text(found: Mapping[str, float], meaning: str) -> str:
    """Return what README says of the performance: what the scores are, and their table if there are any."""
    text = f"{meaning[0].upper()}{meaning[1:]}.\n"
    if not found:
        return text
    table = "".join(f"| {key} | {value:.4f} |\n" for key, value in found.items())
    return f"{text}\n| metric | value |\n|---|---|\n{table}\nIntervals and counts: results/metrics.json.\n"


_TEMPLATE = """# {name}

## Authors

{makers}.

## Tags

Segmentation, {modality}, {classes}

## Description

Segments {classes} in {modality}. Fine-tuned from the bundle {source}.

## Data

{cases}. Licence: see docs/data_license.txt.

## Preprocessing

Orientation RAS, spacing {spacing} mm, {normaliser}; tiles of {shape} voxels.

## Performance

{performance}
## Commands

    medssl infer {name} IMAGES --out OUT
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir OUT

## System configuration

CPU or one GPU; run.json of `medssl infer` has the memory that each case was planned with.

## Limitations

Research only. Valid for images like those it was trained on; check it on your own cases with `medssl evaluate`.

## Citation

None yet.

## References

See the bundle {source}.
"""
