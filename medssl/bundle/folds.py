"""Train a bundle fold by fold: each case is predicted by a network that never saw it, and the networks are joined."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.ensemble import assemble_ensemble
from medssl.bundle.predictor import load_predictor
from medssl.bundle.run import train
from medssl.core.errors import ConfigError
from medssl.data.manifest import Manifest, load_manifest
from medssl.inference.batch import run_batch
from medssl.inference.cases import image_cases

_logger = logging.getLogger("medssl.bundle")

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
        ConfigError: If training cases have no fold, a patient is in two of them, or a training is refused.
    """
    dataset = load_manifest(manifest)
    folds = _folds(dataset, manifest)
    records = []
    for fold in folds:
        member = out / MEMBERS / f"fold_{fold}"
        _logger.info("fold %d of %s", fold, folds)
        values = {"select_best": False, **(overrides or {}), "fold": fold}
        common: dict[str, Any] = {"manifest": manifest, "data_root": data_root, "trust": trust}
        records.append(train(bundle, out=member, config_files=config_files, overrides=values, **common))
        held_out = image_cases((case for case in dataset.training if case.fold == fold), data_root or manifest.parent)
        with load_predictor(member, trust=trust) as predictor:
            # One folder a fold: the record of a run speaks of one network
            run_batch(predictor, held_out, out / PREDICTIONS / f"fold_{fold}")
    if not (out / ENSEMBLE / "configs").is_dir():
        assemble_ensemble([out / MEMBERS / f"fold_{fold}" for fold in folds], out / ENSEMBLE, trust=trust)
    return records


def _folds(dataset: Manifest, manifest: Path) -> list[int]:
    folds = {case.fold for case in dataset.training}
    if None in folds or len(folds) < 2:
        found = ", ".join(sorted(map(str, folds)))
        message = f"{manifest}: expected a fold in every training case, and two folds at least, found {found}."
        raise ConfigError(message, fix=f"Run: medssl split {manifest} --folds 5 --out NEW.json")
    places: dict[str, set[int | None]] = {}
    for case in dataset.training:
        places.setdefault(case.group, set()).add(case.fold)
    torn = sum(len(each) > 1 for each in places.values())
    if torn:
        message = f"{manifest}: expected all cases of a patient in one fold, found {torn} patients in several."
        raise ConfigError(message, fix=f"Run: medssl split {manifest} --folds 5 --out NEW.json")
    return sorted(fold for fold in folds if fold is not None)
