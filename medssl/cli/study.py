"""`medssl study`: methods x numbers of labelled cases x draws x seeds on one manifest, and their curve."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest
    from medssl.studies.plan import Arm, Pretraining, Run, StudyPlan
    from medssl.studies.run import Hands


def study(
    plan: Annotated[Path, typer.Argument(help="JSON file with the plan of the study.", metavar="PLAN")],
    *,
    manifest: Annotated[Path, typer.Option(help="Manifest with all labels; each run sees those of its draw.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on where it stopped.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths start from.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this arm. May be repeated.")] = None,
    known: Annotated[
        Path | None, typer.Option(help="study.json made elsewhere; its runs of this plan and data are not run again.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Run nothing; make the tables of what is there.")] = False,
) -> int:
    """Compare methods at several numbers of labels under one budget, resumable run by run.

    Writes study.json, study.md and curve.png into --out. Every network is its last checkpoint, so the scored cases
    choose nothing. Exit code 3: some runs failed and are listed; the same command tries them again.
    """
    from medssl.data.manifest import load_manifest
    from medssl.studies.plan import load_plan
    from medssl.studies.run import read_results, run_study, take_results

    content, dataset = load_plan(plan), load_manifest(manifest)
    if known is not None:
        typer.echo(f"{take_results(content, dataset, out, known)} runs taken from {known}")
    if table:
        results = read_results(content, dataset, out)
    else:
        hands = _hands(content, data_root or manifest.parent, plan.parent, trust=trust)
        results = run_study(content, dataset, out, hands, only=only or ())
    failed = [each for each in results if "error" in each]
    command = f"medssl study {plan} --manifest {manifest}{f' --data-root {data_root}' if data_root else ''} --out {out}"
    _write(content, dataset, results, out, command=command)
    for each in failed:
        typer.echo(f"failed: {each['arm']}, {each['labelled']} labelled, draw {each['draw']}: {each['error']}")
    return exit_codes.SOME_FAILED if failed else exit_codes.OK


def _write(plan: StudyPlan, manifest: Manifest, results: list[dict[str, Any]], out: Path, *, command: str) -> None:
    from medssl.core.files import write_json, write_text
    from medssl.core.provenance import provenance
    from medssl.studies.curve import draw_curve
    from medssl.studies.summary import INTERVAL, labels_saved, markdown, summarise

    rows = summarise(plan, results)
    block = provenance("study", plan=plan.sha256(), manifest={"name": manifest.name, "sha256": manifest.sha256()})
    record: dict[str, Any] = {
        "medssl": block,
        "command": command,
        "plan": plan.to_json(),
        "interval": INTERVAL,
    }
    record |= {"rows": [row.to_json() for row in rows], "labels_saved": labels_saved(rows, plan.baseline)}
    write_json(out / "study.json", {**record, "runs": results})
    text = markdown(plan, rows)
    write_text(out / "study.md", f"# {plan.name}\n\n{plan.about}\n\n{text}\nMade by:\n\n    {command}\n")
    if rows:
        draw_curve(out / "curve.png", rows, title=plan.name)
    typer.echo(text)


def _hands(plan: StudyPlan, root: Path, plan_folder: Path, *, trust: bool) -> Hands:
    """Return what trains and scores: the same functions that `medssl train`, `infer` and `evaluate` call."""
    from medssl.bundle.adapt import Wishes
    from medssl.bundle.catalog import find_bundle
    from medssl.bundle.ensemble import assemble_ensemble, split_views
    from medssl.bundle.prepare import prepare_bundle, serves
    from medssl.bundle.pretrain import pretrain as run_pretraining
    from medssl.bundle.run import train
    from medssl.data.manifest import load_manifest
    from medssl.studies.run import Hands

    def bundle_of(arm: Arm) -> Path:
        given = str(arm.bundle)
        inside = plan_folder / given
        return find_bundle(inside if (inside / "configs").is_dir() else given)

    score = partial(_score, part=plan.part, root=root, trust=trust)

    def pretrain(arm: Arm, manifest: Path, folder: Path) -> None:
        made = cast("Pretraining", arm.pretrain)
        iterations, per_epoch = plan.length(made.iterations)
        fixed = {"epochs": iterations // per_epoch, "iterations_per_epoch": per_epoch, "seed": made.seed}
        run_pretraining(
            bundle_of(arm),
            manifest=manifest,
            out=folder,
            data_root=root,
            stages=made.stages,
            overrides={**made.set, **fixed},
            trust=trust,
        )

    def execute(run: Run, manifest: Path, folder: Path) -> Mapping[str, Any]:
        bundle = bundle_of(run.arm)
        out = folder / "bundle"
        dataset = load_manifest(manifest)
        if not serves(bundle, dataset):
            prepare_bundle(bundle, out, dataset, root, wishes=Wishes(), settings={}, trust=trust)
        train(
            bundle,
            manifest=manifest,
            out=out,
            data_root=root,
            config_files=run.arm.config_files,
            overrides=_overrides(run, plan),
            trust=trust,
        )
        return score(out, manifest, folder)

    def fuse(run: Run, members: list[Path], manifest: Path, folder: Path) -> Mapping[str, Any]:
        out = folder / "bundle"
        shutil.rmtree(out, ignore_errors=True)  # what an interrupted call left of it
        assemble_ensemble([member / "bundle" for member in members], out, trust=trust)
        return score(out, manifest, folder)

    def part(run: Run, trained: Path, manifest: Path, folder: Path) -> list[Mapping[str, Any]]:
        scores = []
        for view, bundle in split_views(trained / "bundle", folder / "views", trust=trust).items():
            scores.append(score(bundle, manifest, folder / "views" / view))
        return scores

    return Hands(execute=execute, fuse=fuse, part=part, pretrain=pretrain)


def _overrides(run: Run, plan: StudyPlan) -> dict[str, Any]:
    """Return the settings that make every arm's run comparable: length, seed, last checkpoint, no look at cases."""
    _, per_epoch = plan.length(run.iterations)
    epochs = run.iterations // per_epoch
    fixed = {"epochs": epochs, "iterations_per_epoch": per_epoch, "seed": run.seed}
    return {"select_best": False, "val_interval": epochs + 1, **run.arm.set, **fixed}


def _score(bundle: Path, manifest: Path, folder: Path, *, part: Any, root: Path, trust: bool) -> Mapping[str, Any]:
    from medssl.bundle.predictor import load_predictor
    from medssl.core.files import write_json
    from medssl.data.manifest import load_manifest
    from medssl.evaluation import evaluate_segmentations
    from medssl.inference.batch import run_batch
    from medssl.inference.cases import gather_cases

    predictions = folder / "predictions"
    with load_predictor(bundle, trust=trust) as predictor:
        run_batch(predictor, gather_cases([manifest], part=part, data_root=root), predictions)
    content = load_manifest(manifest)
    found = evaluate_segmentations(content, root=root, predictions=predictions, part=part).to_json()
    write_json(folder / "metrics.json", found)
    return found
