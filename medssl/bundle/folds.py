"""Train a bundle fold by fold: each case is predicted by a network that never saw it, and the networks are joined."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.config import merge_config, walk
from medssl.bundle.ensemble import assemble_ensemble
from medssl.bundle.predictor import load_predictor
from medssl.bundle.run import STARTING_WEIGHTS, train, weights_to_start_from
from medssl.core.errors import ConfigError
from medssl.data.manifest import Manifest, load_manifest
from medssl.inference.batch import run_batch
from medssl.inference.cases import image_cases
from medssl.training.encoder_weights import read_encoder_json, saw_cases

_logger = logging.getLogger("medssl.bundle")
_PSEUDO_LABELS, PREDICTIONS_DIR = "medssl.data.datasets.pseudo_labelled_cases", "predictions_dir"
_SPLIT = "Run: medssl split {} --folds 5 --out NEW.json"

MEMBERS, ENSEMBLE, PREDICTIONS = "folds", "ensemble", "cross_validation"
"""Folders of a run in folds: the networks, their ensemble, and what each network predicts for its held-out cases."""


def train_folds(
    bundle: Path,
    *,
    manifest: Path,
    out: Path,
    data_root: Path | None = None,
    config_files: Sequence[str] = ("train",),
    overrides: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> list[dict[str, Any]]:
    """Train one network for each fold of a manifest, or continue; predict the held-out cases; join the networks.

    The last checkpoint of each network counts, so that the held-out cases choose nothing (`select_best` may say
    otherwise). Below `out`: folds/fold_K are the networks, each a bundle; cross_validation/ holds what each predicts
    for the cases it never saw; ensemble/ is a bundle of all networks, for other cases.

    A pre-training that learnt from the images of a fold that is scored makes the result transductive, which is warned
    of. One pre-training for each fold avoids it: `{fold}` in `finetune_model_path` stands for the number of the fold,
    and so it does in `predictions_dir`, without which self-training is refused: the network that made pseudo-labels for
    all folds would have learnt from the labels that are scored.

    Args:
        bundle: Bundle folder.
        manifest: Manifest whose training cases have folds.
        out: Folder of the run.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        config_files: Files of configs/, merged in this order.
        overrides: Configuration ids and their values for every network.
        trust: Run code that bundles do not need.

    Returns:
        The record of each training.

    Raises:
        ConfigError: If training cases have no fold, a patient is in two of them, folds share their pseudo-labels, or a
            training is refused.
    """
    if learns_from_predictions(bundle, config_files) and "{fold}" not in str((overrides or {}).get(PREDICTIONS_DIR)):
        message = "--folds: expected pseudo-labels of one network for each fold, found the same for all."
        fix = f"Predict with each fold's own network, and give --set '{PREDICTIONS_DIR}=FOLDER_{{fold}}'."
        raise ConfigError(message, fix=fix)
    dataset = load_manifest(manifest)
    folds = _folds(dataset, manifest)
    settings = {fold: _settings_of(fold, overrides or {}) for fold in folds}
    _warn_of_seen_images(bundle, config_files, dataset, settings)
    records = []
    for fold in folds:
        member = out / MEMBERS / f"fold_{fold}"
        _logger.info("fold %d of %s", fold, folds)
        common: dict[str, Any] = {"manifest": manifest, "data_root": data_root, "trust": trust}
        records.append(train(bundle, out=member, config_files=config_files, overrides=settings[fold], **common))
        held_out = image_cases((case for case in dataset.training if case.fold == fold), data_root or manifest.parent)
        with load_predictor(member, trust=trust) as predictor:
            # One folder a fold: the record of a run speaks of one network
            run_batch(predictor, held_out, out / PREDICTIONS / f"fold_{fold}")
    if not (out / ENSEMBLE / "configs").is_dir():
        assemble_ensemble([out / MEMBERS / f"fold_{fold}" for fold in folds], out / ENSEMBLE, trust=trust)
    return records


def _settings_of(fold: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    values = {"select_best": False, **overrides, "fold": fold}
    for name in (STARTING_WEIGHTS, PREDICTIONS_DIR):
        if isinstance(path := values.get(name), str):
            values[name] = path.replace("{fold}", str(fold))
    return values


def learns_from_predictions(bundle: Path, config_files: Sequence[str]) -> bool:
    """Tell whether a training learns from label maps that a network made."""
    values = [value for _, value in walk(merge_config(bundle, config_files).content) if isinstance(value, Mapping)]
    return any(value.get("_target_") == _PSEUDO_LABELS for value in values)


def _warn_of_seen_images(
    bundle: Path, config_files: Sequence[str], dataset: Manifest, settings: Mapping[int, Mapping[str, Any]]
) -> None:
    """Warn where the weights that the networks start from learnt from images of the fold that scores them."""
    weights = {fold: weights_to_start_from(bundle, config_files, values) for fold, values in settings.items()}
    warn_of_seen_folds(seen_folds(dataset, weights))


def warn_of_seen_folds(folds: Sequence[int]) -> None:
    """Warn of folds whose images a pre-training learnt from, if there are any."""
    if folds:
        _logger.warning(
            "folds %s: transductive: the encoder saw the images, not the labels, of the scored folds. Say so with the "
            "scores, or pre-train once for each fold with --set exclude_fold=K (docs/detection.md).",
            ", ".join(map(str, folds)),
        )


def seen_folds(dataset: Manifest, weights: Mapping[int, Path | None]) -> list[int]:
    """Return the folds whose held-out images the pre-training of their network learnt from.

    Args:
        dataset: Manifest whose training cases have folds.
        weights: The file that the network of each fold starts from, or None.
    """
    seen = []
    for fold, path in weights.items():
        encoder = read_encoder_json(path) if path is not None and path.is_file() else None
        held_out = [case for case in dataset.training if case.fold == fold]
        if encoder is not None and saw_cases(encoder, held_out, dataset.sha256()):
            seen.append(fold)
    return seen


def _folds(dataset: Manifest, manifest: Path) -> list[int]:
    folds = {case.fold for case in dataset.training}
    if None in folds or len(folds) < 2:
        found = ", ".join(sorted(map(str, folds)))
        message = f"{manifest}: expected a fold in every training case, and two folds at least, found {found}."
        raise ConfigError(message, fix=_SPLIT.format(shlex.quote(str(manifest))))
    places: dict[str, set[int | None]] = {}
    for case in dataset.training:
        places.setdefault(case.group, set()).add(case.fold)
    torn = sum(len(each) > 1 for each in places.values())
    if torn:
        message = f"{manifest}: expected all cases of a patient in one fold, found {torn} patients in several."
        raise ConfigError(message, fix=_SPLIT.format(shlex.quote(str(manifest))))
    return sorted(fold for fold in folds if fold is not None)
