"""What `medssl study` does for each run: the same functions that `medssl train`, `infer` and `evaluate` call."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from medssl.bundle.adapt import Wishes
from medssl.bundle.catalog import find_bundle
from medssl.bundle.ensemble import assemble_ensemble, split_views
from medssl.bundle.predictor import load_predictor
from medssl.bundle.prepare import prepare_bundle, serves
from medssl.bundle.pretrain import pretrain
from medssl.bundle.run import train
from medssl.core.files import write_json
from medssl.data.manifest import load_manifest
from medssl.evaluation import evaluate_segmentations
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.studies.run import Hands

if TYPE_CHECKING:
    from medssl.studies.plan import Arm, Pretraining, Run, StudyPlan

Scores = Mapping[str, Any]


def study_hands(plan: StudyPlan, *, root: Path, plan_folder: Path, trust: bool) -> Hands:
    """Return what trains and scores the runs of a plan.

    Args:
        plan: The study.
        root: Folder the manifest's paths start from.
        plan_folder: Folder that the plan's bundles are relative to.
        trust: Run code that bundles do not need.
    """
    work = _Work(plan, root, plan_folder, trust)
    return Hands(execute=work.execute, fuse=work.fuse, part=work.part, pretrain=work.pretrain)


@dataclass(frozen=True)
class _Work:
    plan: StudyPlan
    root: Path
    plan_folder: Path
    trust: bool

    def pretrain(self, arm: Arm, manifest: Path, folder: Path) -> None:
        made = cast("Pretraining", arm.pretrain)
        iterations, per_epoch = self.plan.length(made.iterations)
        fixed = {"epochs": iterations // per_epoch, "iterations_per_epoch": per_epoch, "seed": made.seed}
        pretrain(
            self._bundle_of(arm),
            manifest=manifest,
            out=folder,
            data_root=self.root,
            stages=made.stages,
            overrides={**made.set, **fixed},
            trust=self.trust,
        )

    def execute(self, run: Run, manifest: Path, folder: Path) -> Scores:
        bundle, out = self._bundle_of(run.arm), folder / "bundle"
        dataset = load_manifest(manifest)
        if not serves(bundle, dataset):
            prepare_bundle(bundle, out, dataset, self.root, wishes=Wishes(), settings={}, trust=self.trust)
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

    def _bundle_of(self, arm: Arm) -> Path:
        inside = self.plan_folder / str(arm.bundle)
        return find_bundle(inside if (inside / "configs").is_dir() else str(arm.bundle))

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
        content = load_manifest(manifest)
        found = evaluate_segmentations(content, root=self.root, predictions=predictions, part=part).to_json()
        write_json(folder / "metrics.json", found)
        return found
