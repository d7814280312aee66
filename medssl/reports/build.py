"""The report: sources in, one HTML file out, that opens without a network."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.files import write_text
from medssl.core.findings import Finding
from medssl.core.provenance import provenance
from medssl.reports.cases import draw_cases
from medssl.reports.class_scores import is_of_classes, summarise_class_scores
from medssl.reports.curves import summarise_training
from medssl.reports.dataset import summarise_dataset
from medssl.reports.detection import is_detection, summarise_detection
from medssl.reports.detection_cases import draw_detections
from medssl.reports.figures import PREDICTION, REFERENCE
from medssl.reports.pages import render
from medssl.reports.reduction import summarise_reduction
from medssl.reports.scores import summarise_scores
from medssl.reports.sources import Json, Sources, read_sources
from medssl.reports.times import summarise_times
from medssl.reports.uncertainty import UncertaintySummary, summarise_uncertainty
from medssl.reports.viewer import ViewerFolder

MOST_FINDINGS = 200
_SEVERITIES = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One line of the table of findings."""

    source: str
    severity: str
    code: str
    case: str
    text: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Which cases are drawn, and where their viewer pages go."""

    worst: int
    unscored: int
    named: Collection[str]
    viewers: ViewerFolder | None


def write_report(
    sources: Sequence[Path],
    out: Path,
    *,
    data_root: Path | None = None,
    title: str = "medssl report",
    worst: int = 2,
    unscored: int = 1,
    viewers: bool = False,
    viewer_cases: Collection[str] = (),
) -> list[Finding]:
    """Write one HTML file from runs, predictions, metrics, checks and manifests.

    The file holds everything it shows. What the sources do not give is said in its place. Viewer pages hold a whole
    case each, so they are files of their own: they lie beside the report, in a folder of its name with "_viewer".

    Args:
        sources: Folders or JSON files, recognised by their content, in any order.
        out: HTML file to write, whole or not at all.
        data_root: Folder that the manifests' paths are relative to; by default each manifest's own.
        title: Heading of the page.
        worst: Cases with the lowest mean Dice to draw; the median one is added.
        unscored: Predicted cases without an evaluation to draw.
        viewers: Write a viewer page for every case that is drawn.
        viewer_cases: Ids of cases that are drawn, and get a viewer page, in any case.

    Returns:
        What could not be shown.

    Raises:
        ConfigError: If a source is missing, broken or of no known kind, or there is none; or `out` is a file of
            another kind.
        ManifestError: If a manifest breaks its schema.
        DependencyError: If jinja2 or matplotlib is not installed.
    """
    if not sources:
        message = "a report needs at least one source: a run, predictions, metrics, a check or a manifest."
        raise ConfigError(message)
    _keep_other_files(Path(out))
    content = read_sources(sources, data_root=data_root)
    folder = None
    if viewers or viewer_cases:
        folder = ViewerFolder(report=Path(out), title=title, cases=None if viewers else viewer_cases)
    choice = _Choice(worst=worst, unscored=unscored, named=viewer_cases, viewers=folder)
    page, findings = _collect(content, choice)
    write_text(Path(out), render("report.html", {**page, "title": title}))
    return findings


def _keep_other_files(out: Path) -> None:
    """Refuse to write over what is no page: `--out` behind a source that was meant to be one more source."""
    if out.exists() and out.suffix.lower() not in {".html", ".htm"}:
        message = f"--out {out}: expected a new file or an .html to replace, found another one. Choose another name."
        raise ConfigError(message)


def _collect(content: Sources, choice: _Choice) -> tuple[dict[str, Any], list[Finding]]:
    try:
        datasets = [summarise_dataset(source) for source in content.manifests]
        reductions = [each for each in map(summarise_reduction, content.manifests) if each is not None]
        classified = [each for each in content.evaluations if is_of_classes(each.content)]
        others = _without_classes(content)
        pictures, picture_findings = draw_cases(others, **vars(choice))
        detected, detection_findings = draw_detections(others, worst=choice.worst)
        findings = [finding for part in (datasets, reductions) for each in part for finding in each.findings]
        findings += picture_findings + detection_findings
        rows = _finding_rows(content, findings)
        page = {
            "datasets": datasets,
            "trainings": [summarise_training(run) for run in content.runs],
            "reductions": reductions,
            "scores": [
                summarise_scores(each.content, source=each.title)
                for each in others.evaluations
                if not is_detection(each.content)
            ],
            "class_scores": [summarise_class_scores(each.content, source=each.title) for each in classified],
            "detections": [
                summarise_detection(each.content, source=each.title)
                for each in others.evaluations
                if is_detection(each.content)
            ],
            "detected": detected,
            "uncertainties": _uncertainties(content),
            "pictures": pictures,
            "times": [summarise_times(run.content, source=run.name) for run in content.inferences],
            "findings": rows[:MOST_FINDINGS],
            "number_of_findings": len(rows),
            "errors": sum(row.severity == "error" for row in rows),
            "weights": _weights(content),
            "provenances": _provenances(content),
            "hashes": sorted(content.hashes.items()),
            "reference_colour": REFERENCE,
            "prediction_colour": PREDICTION,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        names = ", ".join(sorted(content.hashes))
        message = (
            f"{names}: one of these does not have the layout that medssl writes ({type(error).__name__}: {error})."
        )
        raise ConfigError(f"{message} Write it again with this version, or leave it out.") from error
    return page, findings


def _without_classes(content: Sources) -> Sources:
    """Return the sources without what is of classified images, which has no label maps to draw."""
    inferences = [each for each in content.inferences if not is_of_classes(each.content)]
    evaluations = [each for each in content.evaluations if not is_of_classes(each.content)]
    return replace(content, inferences=inferences, evaluations=evaluations)


def _uncertainties(content: Sources) -> list[UncertaintySummary]:
    found = []
    for run in content.inferences:
        own = [
            each.content
            for each in content.evaluations
            if each.run_sha256 == run.sha256 and not is_detection(each.content)
        ]
        found.append(summarise_uncertainty(run.content, own, source=run.name))
    return [each for each in found if each is not None]


def _finding_rows(content: Sources, own: Sequence[Finding]) -> list[_Row]:
    rows = [_row("infer", case.get("finding") or _failure(case)) for case in _failed(content)]
    scores = [each.content for each in content.evaluations]
    for source, blocks in (("evaluate", scores), ("check", content.checks)):
        rows += [_row(source, finding) for block in blocks for finding in block.get("findings") or []]
    rows += [_row("report", finding.to_json()) for finding in own]
    return sorted(rows, key=lambda row: _SEVERITIES.get(row.severity, 3))


def _failed(content: Sources) -> list[Json]:
    cases = [case for run in content.inferences for case in run.content["cases"]]
    return [case for case in cases if case.get("state") == "failed" or case.get("finding")]


def _failure(case: Json) -> Json:
    return {"severity": "error", "code": "failed", "case": case.get("id"), "text": "No result, no reason given."}


def _row(source: str, finding: Json) -> _Row:
    texts = {key: str(finding.get(key) or "") for key in ("severity", "code", "case", "text", "fix")}
    return _Row(source=source, **texts)


def _weights(content: Sources) -> list[tuple[str, str]]:
    facts = []
    for run in content.inferences:
        bundle = run.content.get("bundle") or {}
        name = str(bundle.get("name") or "bundle")
        facts += [
            (f"{name}: {what}", str(bundle[key]))
            for key, what in (("version", "version"), ("weights_sha256", "weights"), ("config_sha256", "configuration"))
            if bundle.get(key)
        ]
    for training in content.runs:
        start = (training.weights or {}).get("source") or {}
        if start.get("sha256"):
            facts.append((f"{training.name}: started from", str(start["sha256"])))
    return facts


def _provenances(content: Sources) -> list[tuple[str, Json]]:
    """Return what was run, named so that it is told from others, with its versions; this report comes first."""
    own = provenance("report")
    named = [(each.title, each.content) for each in content.evaluations]
    named += [(each.name, each.content) for each in content.inferences]
    named += [(str(number), check) for number, check in enumerate(content.checks, 1)]
    blocks = [("report", own)]
    for name, source in named:
        block = source.get("medssl")
        if isinstance(block, dict) and own.keys() <= block.keys():
            blocks.append((f"{block['command']}, {name}", block))
    return blocks
