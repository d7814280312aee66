"""Fine-tune a bundle that classifies images: other classes and settings, predictions, scores, description."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.bundle.classifier import load_classifier
from medssl.bundle.config import read_json, set_item
from medssl.bundle.dataset_plan import Wishes
from medssl.bundle.describe import made_anew, performance_text, write_licence
from medssl.bundle.inherit import inherited
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import write_json, write_text
from medssl.core.findings import Finding
from medssl.data.class_cases import class_of
from medssl.data.manifest import Case, Manifest, save_manifest
from medssl.evaluation.classification import evaluate_classes
from medssl.evaluation.classification_summary import ClassEvaluation
from medssl.inference.cases import image_cases
from medssl.inference.classes import classify_batch

if TYPE_CHECKING:
    from medssl.bundle.finetune import Request


class Classifying:
    """A bundle that gives class scores of 2D images.

    Args:
        request: What to fine-tune.

    Raises:
        ConfigError: If it asks for what only label maps have.
    """

    def __init__(self, request: Request) -> None:
        if request.wishes != Wishes():
            message = "patch size, intensities and norm are options of bundles that segment; this one classifies."
            raise ConfigError(message, fix="Leave them out; --set id=value changes any value of its train.json.")
        self.request = request

    def prepare(self, manifest: Manifest, anonymous: Manifest) -> Sequence[Finding]:
        """Copy the bundle and give it the classes of the dataset, once.

        Raises:
            ConfigError: If the folder was begun for other data, or there are fewer than two classes.
            ManifestError: If a training case has no known class.
        """
        out, names = self.request.out, _classes(manifest)
        plan = {"class_names": names, "settings": inherited(self.request.overrides)}
        path = out / "results" / "plan.json"
        if not path.is_file():
            copy_bundle(self.request.bundle, out)
            self._adapt(names, len(manifest.training))
            self.describe(manifest, None, "Not trained yet")
            save_manifest(out / "results" / "manifest.json", anonymous)
            write_json(path, plan)
        elif read_json(path) != plan:
            message = f"{out}: was begun for other classes or settings. Put them back, or choose another --out."
            raise ConfigError(message)
        counts = {name: sum(class_of(case, manifest.labels) == name for case in manifest.training) for name in names}
        absent = [name for name, count in counts.items() if not count]
        text = f"no training case is of class {', '.join(absent)}."
        fix = "Add such cases, or take the class out of the labels."
        return [Finding(code="class-absent", severity="warning", text=text, fix=fix)] if absent else []

    def predict(self, bundle: Path, cases: Sequence[Case], predictions: Path) -> None:
        """Classify cases into a folder."""
        images = image_cases(cases, self.request.data_root)
        classify_batch(load_classifier(bundle, trust=self.request.trust), images, predictions)

    def evaluate(self, manifest: Manifest, cases: Sequence[Case], predictions: Path) -> ClassEvaluation:
        """Score the predictions of cases."""
        return evaluate_classes(manifest, predictions=predictions, cases=cases)

    def describe(self, manifest: Manifest, evaluation: ClassEvaluation | None, meaning: str) -> None:
        """Write configs/metadata.json, docs/README.md and docs/data_license.txt of the new bundle."""
        out, names, source = self.request.out, _classes(manifest), self.request.bundle.name
        path = out / "configs" / "metadata.json"
        metadata = made_anew(read_json(path), manifest, source=source) | {
            "task": f"Classification of images as {', '.join(names)}",
            "description": f"{len(manifest.training)} images of {manifest.name}, starting from {source}.",
            "label_classes": f"one class for each image: {', '.join(names)}",
            "pred_classes": f"{len(names)} scores: {', '.join(names)}",
        }
        scores = {} if evaluation is None else _rounded(evaluation)
        metadata |= {"eval_metrics": scores} if scores else {}
        layout = metadata["network_data_format"]
        size = read_json(out / "configs" / "inference.json")["image_size"]
        layout["inputs"]["image"] |= {"modality": manifest.modality, "spatial_shape": list(size)}
        channels = {str(number): name for number, name in enumerate(names)}
        layout["outputs"]["pred"] |= {"num_channels": len(names), "channel_def": channels}
        write_json(path, metadata)
        written = _TEMPLATE.format(
            name=out.name,
            source=source,
            modality=manifest.modality,
            dataset=manifest.name,
            training=len(manifest.training),
            classes=", ".join(names),
            performance=performance_text(scores, meaning),
            shape=" x ".join(map(str, size)),
        )
        write_text(out / "docs" / "README.md", written)
        write_licence(out, manifest)

    def _adapt(self, names: list[str], images: int) -> None:
        configs = self.request.out / "configs"
        train, inference = read_json(configs / "train.json"), read_json(configs / "inference.json")
        for item_id, value in inherited(self.request.overrides).items():
            for content in (train, inference):
                set_item(content, item_id, deepcopy(value))
        train |= {"class_names": names, "output_classes": len(names)}
        inference["network_def"]["out_channels"] = len(names)
        # An epoch sees every image about once
        batch = int(self.request.overrides.get("batch_size", train["batch_size"]))
        train["iterations_per_epoch"] = max(1, round(images / batch))
        write_json(configs / "train.json", train)
        write_json(configs / "inference.json", inference)


def _classes(manifest: Manifest) -> list[str]:
    names = [manifest.labels[str(value)] for value in manifest.label_values()]
    if len(names) < 2:
        message = f"manifest {manifest.name!r}: expected at least two classes in labels, found {len(names)}."
        raise ConfigError(message, fix='Name all classes, such as {"0": "no finding", "1": "haemorrhage"}.')
    return names


def _rounded(evaluation: ClassEvaluation) -> dict[str, float]:
    return {name: round(each.value, 4) for name, each in evaluation.metrics.items() if each.value is not None}


_TEMPLATE = """# {name}

## Authors

Those who ran `medssl finetune`.

## Tags

Classification, {modality}, {classes}

## Description

Classifies 2D images of {modality} as {classes}. Fine-tuned from the bundle {source}. It gives class scores, not a label
map: MONAI Label, MONAI Deploy and 3D Slicer are not its consumers.

## Data

{dataset}: {training} training images. Licence: see docs/data_license.txt.

## Preprocessing

8-bit grey images, resampled to {shape} pixels and normalised by fixed numbers; see configs/inference.json.

## Performance

{performance}
## Commands

    medssl infer {name} IMAGES --out OUT
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir OUT

## System configuration

CPU or one GPU.

## Limitations

Research only. Valid for images like those it was trained on; check it on your own cases with
`medssl evaluate --task classification`.

## Citation

None yet.

## References

See the bundle {source}.
"""
