"""`medssl study`: methods x numbers of labelled cases x draws x seeds on one manifest, and their curve."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest
    from medssl.studies.plan import StudyPlan


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
    workers: Annotated[
        int, typer.Option(min=0, help="Runs that are carried out at the same time; they share the cores and the GPU.")
    ] = 0,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Run nothing; make the tables of what is there.")] = False,
) -> int:
    """Compare methods at several numbers of labels under one budget, resumable run by run.

    Writes study.json, study.md, curve.png and curve.html into --out. Every network is its last checkpoint, so the
    scored cases choose nothing. The data is checked first, as by medssl check, and for scans that are in it twice where
    a draw would label one of them only; exit code 2: errors were found and nothing was run. Exit code 3: some runs
    failed and are listed; the same command tries them again.
    """
    from medssl.core.files import keep_source
    from medssl.core.optional import require
    from medssl.data.manifest import load_manifest
    from medssl.studies.plan import load_plan
    from medssl.studies.run import run_study, take_results

    for module in ("matplotlib", "jinja2"):  # which draw the curve, after hours or days
        require(module, feature="medssl study", extra="report")
    keep_source(out / "study.json", [plan, manifest])
    content, dataset = load_plan(plan), load_manifest(manifest)
    if not table:  # which is made of what is there, also where the bundles are not
        from medssl.cli.study_hands import with_recipes

        content.require_cases(dataset)
        content = with_recipes(content, plan.parent)
    if known is not None:
        typer.echo(f"{take_results(content, dataset, out, known)} runs taken from {known}")
    if table:
        results = _results_there(content, dataset, out)
    else:
        from medssl.cli.study_hands import study_hands

        root = data_root or manifest.parent
        _refuse_leaks(content, dataset, root)
        hands = study_hands(content, dataset, root=root, plan_folder=plan.parent, trust=trust)
        results = run_study(content, dataset, out, hands, only=only or (), workers=workers)
    failed = [each for each in results if "error" in each]
    places = {"": plan, "--manifest": manifest, "--data-root": data_root, "--out": out}
    command = _command(places) + (" --trust" if trust else "")
    _write(content, dataset, results, out, command=command)
    for each in failed:
        typer.echo(f"failed: {each['arm']}, {each['labelled']} labelled, draw {each['draw']}: {each['error']}")
    return exit_codes.SOME_FAILED if failed else exit_codes.OK


def _results_there(plan: StudyPlan, manifest: Manifest, out: Path) -> list[dict[str, Any]]:
    from medssl.core.errors import ConfigError
    from medssl.studies.run import read_results

    results = read_results(plan, manifest, out)
    if not results:
        message = f"{out}: expected runs of this plan and this data, found none."
        raise ConfigError(message, fix="Give the plan and manifest that they were made with; nothing was changed.")
    return results


def _command(places: dict[str, Path | None]) -> str:
    """Return the command with its paths as they were given, but of absolute ones the names: folders may name people."""
    shown = {option: path.name if path.is_absolute() else str(path) for option, path in places.items() if path}
    words = [word for option, path in shown.items() for word in (option, path) if word]
    return shlex.join(["medssl", "study", *words])


def _keep_earlier(path: Path, results: list[dict[str, Any]]) -> None:
    """Move a study.json aside that has results which the new one would not have."""
    from medssl.core.files import set_aside
    from medssl.studies.records import is_result, readable_json

    content = readable_json(path) if path.is_file() else None
    runs = content.get("runs") if isinstance(content, dict) else None
    lost = {each["sha256"] for each in runs or () if is_result(each)} - {each["sha256"] for each in results}
    if lost:
        typer.echo(f"{len(lost)} results of another plan, bundle or data: kept in {set_aside(path)}", err=True)


def _refuse_leaks(plan: StudyPlan, manifest: Manifest, root: Path) -> None:
    """Stop before anything runs where a case is broken, or is both trained on and scored, or labelled and unlabelled.

    Only what the plan uses is read: the other held-out part chooses nothing and is scored by no run.
    """
    from medssl.cli.check import refuse_broken_data

    unused = "test" if plan.part == "validation" else "validation"
    draws = [ids for draws in plan.draws.values() for ids in draws]
    refuse_broken_data(manifest.model_copy(update={unused: ()}), root, draws=draws)


def _write(plan: StudyPlan, manifest: Manifest, results: list[dict[str, Any]], out: Path, *, command: str) -> None:
    from medssl.core.files import write_json, write_text
    from medssl.core.provenance import provenance
    from medssl.reports.study_page import StudyPage
    from medssl.studies.conditions import grids_told, machines_told
    from medssl.studies.curve import curve_figure, write_curve
    from medssl.studies.run import patient_numbers
    from medssl.studies.summary import INTERVAL, labels_saved, summarise
    from medssl.studies.tables import HEADINGS, markdown, notes, table

    rows = summarise(plan, results, groups=patient_numbers(plan, manifest))
    block = provenance("study", plan=plan.sha256(), manifest={"name": manifest.name, "sha256": manifest.sha256()})
    record: dict[str, Any] = {
        "medssl": block,
        "command": command,
        "plan": plan.to_json(),
        "interval": INTERVAL,
    }
    record |= {"rows": [row.to_json() for row in rows], "labels_saved": labels_saved(rows)}
    _keep_earlier(out / "study.json", results)
    write_json(out / "study.json", {**record, "runs": results})
    told = [*notes(plan, rows, results), *filter(None, [grids_told(results), machines_told(results)])]
    text = markdown(rows, told)
    write_text(out / "study.md", f"# {plan.name}\n\n{plan.about}\n\n{text}\nMade by:\n\n    {command}\n")
    if rows:
        figure = curve_figure(rows, title=plan.name)
        write_curve(out / "curve.png", figure)
        page: dict[str, Any] = {"title": plan.name, "about": plan.about, "figure": figure, "command": command}
        page |= {"headings": HEADINGS, "lines": table(rows)}
        write_text(out / "curve.html", StudyPage(**page, notes=told).html())
    typer.echo(text)
