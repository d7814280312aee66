"""Fine-tune a bundle on a new dataset: plan, adapt, train, score honestly, describe."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from medssl.bundle.adapt import network_with_channels
from medssl.bundle.catalog import classifies
from medssl.bundle.checks.files import folder_name
from medssl.bundle.checks.subject import Subject
from medssl.bundle.dataset_plan import Wishes
from medssl.bundle.finetune_classes import Classifying
from medssl.bundle.finetune_segments import Segmenting
from medssl.bundle.folds import learns_from_predictions, seen_folds, warn_of_seen_folds
from medssl.bundle.prepare import class_names
from medssl.bundle.resolve import build_network, load_config
from medssl.bundle.run import STARTING_WEIGHTS, copy_bundle, train, weights_to_start_from
from medssl.bundle.source_free import CONFIG as SOURCE_FREE
from medssl.bundle.source_free import adapt_without_labels, describe_adapted, is_without_labels
from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.files import write_json, write_text
from medssl.core.findings import Finding
from medssl.core.provenance import provenance
from medssl.data.manifest import Case, Manifest, anonymous_patients, load_manifest, save_manifest
from medssl.data.splits import assign_folds
from medssl.evaluation import Evaluation
from medssl.evaluation.classification_summary import ClassEvaluation
from medssl.training.distributed import is_launched

_logger = logging.getLogger("medssl.bundle")

# A new head leaves its own tensors unfilled; below this share the weights are of another network
_MINIMUM_MATCH = 0.5
_MOST_FOLDS = 5

Scores = Evaluation | ClassEvaluation


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to fine-tune, on what, and where the result goes.

    Attributes:
        bundle: Source bundle with weights.
        manifest: Manifest file of the new dataset.
        out: New bundle.
        data_root: Folder the manifest's paths start from.
        folds: Cross-validate with this many folds for the honest estimate; 0 trains once.
        wishes: What the user decides about patch and intensities.
        overrides: Configuration ids and values for every training.
        config_files: Files of configs/ that every training merges, in this order.
        from_scratch: Start from random weights, as an explicit wish.
        trust: Run code that bundles do not need.
    """

    bundle: Path
    manifest: Path
    out: Path
    data_root: Path
    folds: int = 0
    wishes: Wishes = field(default_factory=Wishes)
    overrides: Mapping[str, Any]
    config_files: Sequence[str] = ("train",)
    from_scratch: bool = False
    trust: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Scores on held-out cases (None where there were none), what they mean, and findings on the data."""

    evaluation: Scores | None
    meaning: str
    findings: Sequence[Finding]


def finetune(request: Request) -> Outcome:
    """Make a new bundle for a dataset from a trained one.

    Without `folds`, one network is trained, and its best checkpoint is chosen on the validation part (or fold 0),
    whose score is therefore optimistic. With `folds`, one network a fold is trained and its last checkpoint scored on
    the fold it never saw; then the bundle's own network is trained on all labelled cases. A manifest with unlabelled
    cases only adapts the bundle without labels, if it can; see `adapt_without_labels`.

    Args:
        request: What to do.

    Returns:
        The held-out scores and what they mean.

    Raises:
        CheckpointError: If the bundle has no weights and `from_scratch` is not asked for, or they do not fit.
        ConfigError: If the dataset leaves nothing to train on, the bundle cannot be adapted, or torchrun started this.
    """
    if is_launched():
        message = (
            "finetune plans and scores with one process. Start it without torchrun; to train on several GPUs what it "
            "made, run: torchrun --standalone --nproc_per_node=gpu --no-python medssl train NEW --manifest M --out RUN"
        )
        raise ConfigError(message)
    _require_honest_folds(request)
    if SOURCE_FREE.removesuffix(".json") in {name.removesuffix(".json") for name in request.config_files}:
        message = f"--config {SOURCE_FREE}: it learns from no label, and would leave those of the manifest out."
        raise ConfigError(message, fix="Leave --config out; a manifest with unlabelled cases alone takes it by itself.")
    if not request.from_scratch:
        _starting_weights(request.bundle)
    _require_bundle_name(request.out)
    load_config(
        request.bundle, request.config_files, trust=request.trust
    )  # the guard looks at what the new description will replace
    dataset = load_manifest(request.manifest)
    task: _Task = Classifying(request) if classifies(request.bundle) else Segmenting(request)
    if isinstance(task, Segmenting) and is_without_labels(dataset):
        return _without_labels(task, dataset)
    manifest = _with_folds(dataset, request)
    if isinstance(task, Segmenting):
        request = replace(request, overrides=network_with_channels(request.overrides, manifest.channels()))
        task = Segmenting(request)
    findings = task.prepare(manifest, anonymous_patients(manifest))
    evaluation, meaning = _cross_validated(task, manifest) if request.folds else _once(task, manifest)
    task.describe(manifest, evaluation, meaning)
    return Outcome(evaluation=evaluation, meaning=meaning, findings=findings)


def _require_honest_folds(request: Request) -> None:
    """Refuse what would let a held-out case take part in the training that it scores."""
    if "fold" in request.overrides:
        message = "--set fold: finetune decides itself what is held out, and scores that."
        fix = (
            "Name validation cases in the manifest, or use --folds, whose last network learns from all labelled cases."
        )
    elif request.folds and request.overrides.get("select_best"):
        message = "--set select_best: with --folds a checkpoint would be chosen on the cases that are scored."
        fix = "Leave one of them out."
    elif request.folds and learns_from_predictions(request.bundle, request.config_files):
        message = "--folds: the network that made the pseudo-labels may have learnt from the labels that are scored."
        fix = "Leave --folds out, or give each fold its own with medssl train --folds and {fold} in predictions_dir."
    else:
        return
    raise ConfigError(message, fix=fix)


def _without_labels(task: Segmenting, manifest: Manifest) -> Outcome:
    """Adapt to unlabelled cases alone; labelled validation cases only score the result."""
    request = task.request
    if request.folds or request.from_scratch or tuple(request.config_files) != ("train",):
        message = (
            f"{request.manifest}: no training case, so there is nothing to cross-validate, to start anew from or to "
            "train in another way."
        )
        raise ConfigError(message, fix="Add labelled cases to the training part, or leave these options out.")
    _require_the_bundles_classes(request, manifest)
    adapt_without_labels(
        request.bundle,
        request.out,
        manifest=request.manifest,
        data_root=request.data_root,
        overrides=request.overrides,
        trust=request.trust,
    )
    save_manifest(request.out / "results" / "manifest.json", anonymous_patients(manifest))
    evaluation, meaning = _score_of_adaptation(task, manifest)
    describe_adapted(request.out, manifest, source=request.bundle.name, evaluation=evaluation, meaning=meaning)
    return Outcome(evaluation=evaluation, meaning=meaning, findings=())


def _score_of_adaptation(task: Segmenting, manifest: Manifest) -> tuple[Evaluation | None, str]:
    request = task.request
    if not manifest.validation:
        return None, "Not measured: score the bundle on labelled cases of that site before use"
    predictions = request.out / "results" / "validation"
    task.predict(request.out, manifest.validation, predictions)
    meaning = "the validation cases, which chose nothing: the last checkpoint of an adaptation without labels"
    evaluation = _evaluate(task, manifest, manifest.validation, predictions, meaning=meaning, optimistic=False)
    return cast("Evaluation", evaluation), meaning


def _require_the_bundles_classes(request: Request, manifest: Manifest) -> None:
    """Refuse names that the weights, which alone know the classes here, do not have; background alone names nothing."""
    found = [manifest.labels[str(value)] for value in manifest.label_values()]
    known = class_names(request.bundle)
    if len(found) > 1 and [name.casefold() for name in found] != [name.casefold() for name in known]:
        message = (
            f"{request.manifest}: expected the classes of {request.bundle.name} ({', '.join(known)}), which no label "
            f"teaches anew, found {', '.join(found)}."
        )
        raise ConfigError(message, fix="Name them as the bundle does, in its order, or name background alone.")


def _starting_weights(bundle: Path) -> Path:
    """Return the trained weights of a bundle, or those of its pre-trained encoder where it was not trained yet.

    Raises:
        CheckpointError: If it has neither.
    """
    trained, pretrained = (bundle / "models" / name for name in ("model.pt", "encoder.pt"))
    if not trained.is_file() and not pretrained.is_file():
        message = (
            f"{trained}: the bundle has no weights to start from. Give a trained or pre-trained bundle, or ask for "
            "--from-scratch."
        )
        raise CheckpointError(message)
    return trained if trained.is_file() else pretrained


def _start_of(request: Request) -> dict[str, Any]:
    """Return the overrides that decide what a training starts from."""
    if not request.from_scratch:
        return {"finetune": True, STARTING_WEIGHTS: str(_starting_weights(request.bundle).resolve())}
    # A bundle's encoder would be taken up by itself
    return {"finetune": False} if (request.bundle / "models" / "encoder.pt").is_file() else {}


def _once(task: _Task, manifest: Manifest) -> tuple[Scores | None, str]:
    """Train one network; score the held-out cases, if there are any, on which its checkpoint was chosen."""
    request = task.request
    fold, has_validation = _held_out(manifest)
    _train(request, request.out, fold=fold, select_best=has_validation)
    if not has_validation:
        return None, "No case was held out, so there is no score"
    cases = manifest.validation if fold is None else [case for case in manifest.training if case.fold == fold]
    predictions = request.out / "results" / "validation"
    task.predict(request.out, cases, predictions)
    optimistic = _was_validated(request.out)
    if optimistic:
        meaning = "held-out cases, on which the best checkpoint was chosen: optimistic"
    else:
        meaning = "held-out cases, of the last checkpoint (the run was shorter than val_interval, so none was chosen)"
    patients = len({case.group for case in manifest.training})
    meaning += f"; --folds {min(_MOST_FOLDS, patients)} gives an honest estimate" if patients > 1 else ""
    return _evaluate(task, manifest, cases, predictions, meaning=meaning, optimistic=optimistic), meaning


def _was_validated(out: Path) -> bool:
    log = out / "results" / "train_log.jsonl"
    return log.is_file() and '"kind": "validation"' in log.read_text(encoding="utf-8", errors="replace")


def _head_of_other_classes(request: Request) -> list[str]:
    """Name the tensors that depend on the number of classes, if the source bundle's classes are not the new ones.

    Equal numbers of classes are no reason to keep a head: a channel that meant one organ is a bad start for another.
    """
    if class_names(request.bundle) == class_names(request.out):
        return []
    config = load_config(request.out, request.config_files, request.overrides, trust=request.trust)
    classes = len(class_names(request.out))
    shapes = [
        {name: tensor.shape for name, tensor in build_network(config, out_channels=count).state_dict().items()}
        for count in (classes, classes + 1)
    ]
    return sorted(name for name in shapes[0] if shapes[0][name] != shapes[1].get(name))


def _cross_validated(task: _Task, manifest: Manifest) -> tuple[Scores, str]:
    """Train and predict fold by fold, score all predictions together, then train on all labelled cases."""
    request = task.request
    predictions = request.out / "results" / "cross_validation"
    start = weights_to_start_from(request.bundle, request.config_files, {**_start_of(request), **request.overrides})
    seen = seen_folds(manifest, dict.fromkeys(range(request.folds), start))
    warn_of_seen_folds(seen)
    for fold in range(request.folds):
        out = request.out / "folds" / f"fold_{fold}"
        if not (out / "configs").is_dir():
            copy_bundle(request.out, out)
        _logger.info("fold %d of %d", fold + 1, request.folds)
        _train(request, out, fold=fold, select_best=False)
        held_out = [case for case in manifest.training if case.fold == fold]
        task.predict(out, held_out, predictions / f"fold_{fold}")  # the record of a run speaks of one network
    meaning = f"a {request.folds}-fold cross-validation: each case was predicted by a network not trained on it"
    meaning += "" if request.from_scratch else ", whatever its starting weights had seen"
    meaning += ", but its pre-training saw the image (transductive)" if seen else ""
    evaluation = _evaluate(task, manifest, manifest.training, predictions, meaning=meaning, optimistic=bool(seen))
    _logger.info("all %d cases", len(manifest.training))
    _train(request, request.out, fold=None, select_best=False)
    return evaluation, meaning


def _require_bundle_name(out: Path) -> None:
    """Refuse a folder name now that would make the finished bundle invalid."""
    for problem in folder_name(Subject(out)):
        message = f"--out {out}: {problem.text}. Name the new bundle like spleen_ct_finetuned."
        raise ConfigError(message)


def _with_folds(manifest: Manifest, request: Request) -> Manifest:
    """Give the training cases folds where they have none and there is no validation part."""
    if not manifest.training:
        message = f"{request.manifest}: no training case. Add labelled cases to the training part."
        raise ConfigError(message)
    groups = len({case.group for case in manifest.training})
    if request.folds:
        known = {case.fold for case in manifest.training}
        return manifest if known == set(range(request.folds)) else assign_folds(manifest, folds=request.folds, seed=0)
    has_folds = any(case.fold is not None for case in manifest.training)
    if manifest.validation or has_folds or groups < 2:
        return manifest
    return assign_folds(manifest, folds=min(_MOST_FOLDS, groups), seed=0)


def _held_out(manifest: Manifest) -> tuple[int | None, bool]:
    """Return the fold to hold out and whether a best checkpoint can be chosen at all."""
    if manifest.validation:
        return None, True
    folds = [case.fold for case in manifest.training if case.fold is not None]
    return (min(folds), True) if folds else (None, False)


def _train(request: Request, out: Path, *, fold: int | None, select_best: bool) -> None:
    fit = (
        {}
        if request.from_scratch
        else {
            "finetune_minimum_match": _MINIMUM_MATCH,
            "finetune_skip": _head_of_other_classes(request),
        }
    )
    train(
        request.bundle,
        manifest=request.out / "results" / "manifest.json",
        out=out,
        data_root=request.data_root,
        config_files=request.config_files,
        overrides={**_start_of(request), **fit, "fold": fold, "select_best": select_best, **request.overrides},
        trust=request.trust,
    )


def _evaluate(
    task: _Task, manifest: Manifest, cases: Sequence[Case], predictions: Path, *, meaning: str, optimistic: bool
) -> Scores:
    evaluation = task.evaluate(manifest, cases, predictions)
    record = provenance("finetune", manifest=manifest.sha256())
    results = task.request.out / "results"
    told = {"meaning": meaning, "optimistic": optimistic}
    write_json(results / "metrics.json", {"medssl": record, **told, **evaluation.to_json()})
    write_text(results / "metrics.csv", evaluation.to_csv())
    return evaluation


class _Task(Protocol):
    """What differs between bundles that segment and bundles that classify."""

    request: Request

    def prepare(self, manifest: Manifest, anonymous: Manifest) -> Sequence[Finding]:
        """Make the new bundle for the dataset, once; keep the manifest without patients beside the results."""

    def predict(self, bundle: Path, cases: Sequence[Case], predictions: Path) -> None:
        """Run a trained bundle over cases."""

    def evaluate(self, manifest: Manifest, cases: Sequence[Case], predictions: Path) -> Any:
        """Score predictions of cases."""

    def describe(self, manifest: Manifest, evaluation: Any, meaning: str) -> None:
        """Write metadata and documents of the new bundle."""
