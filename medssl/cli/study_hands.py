"""What `medssl study` does for each run: the same functions that `medssl train`, `infer` and `evaluate` call."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medssl.bundle.catalog import find_bundle
from medssl.bundle.config import configurations_sha256, merge_config, read_json
from medssl.bundle.dataset_plan import Needs, Wishes
from medssl.bundle.ensemble import assemble_ensemble, split_views
from medssl.bundle.inherit import DROPOUT, inherited
from medssl.bundle.predictor import load_predictor
from medssl.bundle.prepare import bundle_needs, prepare_bundle, serves
from medssl.bundle.pretrain import pretrain, stage_names
from medssl.bundle.run import train, weights_to_start_from
from medssl.cli.evaluate import scored_inputs
from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file, sha256_json, write_json
from medssl.data.manifest import load_manifest
from medssl.evaluation import evaluate_segmentations
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.reports.sources import read_log
from medssl.studies.plan import Recipe
from medssl.studies.run import Hands

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest
    from medssl.studies.plan import Arm, Pretraining, Run, StudyPlan

Scores = Mapping[str, Any]


def study_hands(plan: StudyPlan, manifest: Manifest, *, root: Path, plan_folder: Path, trust: bool) -> Hands:
    """Return what trains and scores the runs of a plan.

    Args:
        plan: The study.
        manifest: The dataset, with all labels.
        root: Folder the manifest's paths start from.
        plan_folder: Folder that the plan's bundles are relative to.
        trust: Run code that bundles do not need.
    """
    work = _Work(plan, manifest, root, plan_folder, trust)
    return Hands(
        execute=work.execute,
        fuse=work.fuse,
        part=work.part,
        pretrain=work.pretrain,
        spent=spent,
        conditions=conditions,
    )


def with_recipes(plan: StudyPlan, folder: Path) -> StudyPlan:
    """Return a plan that knows what its bundles' configurations say.

    Args:
        plan: The study.
        folder: Folder that the plan's bundles are relative to.

    Raises:
        ConfigError: If a bundle or a configuration that an arm names is missing, or has no place for what the arm sets.
    """
    recipes = {arm.name: _recipe_of(arm, folder) for arm in plan.arms if arm.bundle is not None}
    return plan.model_copy(update={"recipes": recipes})


def _recipe_of(arm: Arm, folder: Path) -> Recipe:
    try:
        return _recipe(arm, _bundle_of(arm, folder))
    except ConfigError as error:
        message = f"arm {arm.name}: {error.text}"
        raise ConfigError(message, fix=error.fix) from error


def _recipe(arm: Arm, bundle: Path) -> Recipe:
    merge_config(bundle, arm.config_files, arm.set)  # refuses what does not fit now, and not after hours of other arms
    training = configurations_sha256(bundle, [arm.config_files, ("inference",)])
    start = weights_to_start_from(bundle, arm.config_files, arm.set)
    if start is not None and start.is_file():
        training = sha256_json([training, sha256_file(start)])
    if arm.pretrain is None:
        return Recipe(training=training)
    stages = arm.pretrain.stages or stage_names(bundle)
    return Recipe(training=training, pretraining=configurations_sha256(bundle, [(stage,) for stage in stages]))


def _bundle_of(arm: Arm, folder: Path) -> Path:
    inside = folder / str(arm.bundle)
    return find_bundle(inside if (inside / "configs").is_dir() else str(arm.bundle))


def spent(folder: Path) -> tuple[float, int | None]:
    """Return the seconds of all parts of a run's training, also of those that were killed, and its patches.

    Time that a killed part spent on scoring is not known. Patches are those that passed forward and back through all
    networks; None where the training is not over, or its version did not count.
    """
    events = _log_of(folder)
    parts: list[float] = []
    for event in events:
        if event.get("kind") == "start":
            parts.append(0.0)
        elif parts and "seconds" in event:
            parts[-1] = float(event["seconds"])
    return sum(parts), events[-1].get("patches") if events else None


def conditions(folder: Path) -> dict[str, Any]:
    """Return the voxel size in mm that a run's network works at, if its bundle states it plainly, and its machine."""
    found: dict[str, Any] = {}
    size = read_json(folder / "bundle" / "configs" / "inference.json").get("resample_to_spacing")
    if isinstance(size, list) and all(isinstance(each, int | float) for each in size):
        found["spacing_mm"] = [float(each) for each in size]
    start: dict[str, Any] = next((event for event in reversed(_log_of(folder)) if event.get("kind") == "start"), {})
    if "device" in start:
        found["machine"] = f"{start['device']}, {start['precision']}"
    return found


def _log_of(folder: Path) -> tuple[dict[str, Any], ...]:
    file = folder / "bundle" / "results" / "train_log.jsonl"
    return read_log(file)[0] if file.is_file() else ()


@dataclass(frozen=True)
class _Work:
    plan: StudyPlan
    manifest: Manifest
    root: Path
    plan_folder: Path
    trust: bool

    def pretrain(self, arm: Arm, manifest: Path, folder: Path) -> None:
        made = cast("Pretraining", arm.pretrain)
        iterations, per_epoch = self.plan.length(made.iterations)
        fixed = {"epochs": iterations // per_epoch, "iterations_per_epoch": per_epoch, "seed": made.seed}
        pretrain(
            _bundle_of(arm, self.plan_folder),
            manifest=manifest,
            out=folder,
            data_root=self.root,
            stages=made.stages,
            overrides={**made.set, **fixed},
            trust=self.trust,
        )

    def execute(self, run: Run, manifest: Path, folder: Path) -> Scores:
        bundle, out = _bundle_of(run.arm, self.plan_folder), folder / "bundle"
        dataset = load_manifest(manifest)
        if not serves(bundle, dataset):
            common: dict[str, Any] = {"wishes": Wishes(), "settings": {}, "trust": self.trust}
            common["overrides"] = inherited(run.arm.set, (DROPOUT,))
            prepare_bundle(bundle, out, dataset, self.root, beside=self._needs_of_arms, **common)
        train(
            bundle,
            manifest=manifest,
            out=out,
            data_root=self.root,
            config_files=run.arm.config_files,
            overrides=self._overrides(run),
            trust=self.trust,
        )
        return self._score(out, manifest, folder)

    def fuse(self, run: Run, members: list[Path], manifest: Path, folder: Path) -> Scores:
        out = folder / "bundle"
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted call left of it
        assemble_ensemble([member / "bundle" for member in members], out, trust=self.trust)
        return self._score(out, manifest, folder)

    def part(self, run: Run, trained: Path, manifest: Path, folder: Path) -> list[Scores]:
        views = split_views(trained / "bundle", folder / "views", trust=self.trust)
        return [self._score(bundle, manifest, folder / "views" / view) for view, bundle in views.items()]

    @cached_property
    def _needs_of_arms(self) -> tuple[Needs, ...]:
        """What the plan's bundles need that are adapted to the data: on different grids, arms could not be compared."""
        bundles = {_bundle_of(arm, self.plan_folder) for arm in self.plan.arms if arm.bundle is not None}
        adapted = [bundle for bundle in sorted(bundles) if not serves(bundle, self.manifest)]
        return tuple(bundle_needs(bundle, trust=self.trust) for bundle in adapted)

    def _overrides(self, run: Run) -> dict[str, Any]:
        """Return the settings that make every arm's run comparable: length, seed, last checkpoint, no look at cases."""
        _, per_epoch = self.plan.length(run.iterations)
        epochs = run.iterations // per_epoch
        fixed = {"epochs": epochs, "iterations_per_epoch": per_epoch, "seed": run.seed}
        return {**run.arm.set, **fixed, "select_best": False, "val_interval": epochs + 1}

    def _score(self, bundle: Path, manifest: Path, folder: Path) -> Scores:
        predictions, part = folder / "predictions", self.plan.part
        with load_predictor(bundle, trust=self.trust) as predictor:
            run_batch(predictor, gather_cases([manifest], part=part, data_root=self.root), predictions)
        # The draw of a run changes nothing that is scored, so runs of all draws are compared by the whole manifest
        found = evaluate_segmentations(self.manifest, root=self.root, predictions=predictions, part=part).to_json()
        block = scored_inputs(self.manifest, predictions, part)
        write_json(folder / "metrics.json", {"medssl": block, **found})
        return found
