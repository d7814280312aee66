"""Which cases the report shows, and what it says of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from medssl.core.errors import MedsslError
from medssl.core.findings import Finding
from medssl.reports.case_volumes import CaseVolumes, load_case
from medssl.reports.detection import is_detection
from medssl.reports.overlays import class_colour, draw_comparison, draw_prediction
from medssl.reports.scores import case_dice, ranked_cases
from medssl.reports.sources import Evaluation, Json, Sources
from medssl.reports.viewer import ViewerFolder

MOST_NAMES = 14
_ORDINALS = {0: "", 1: "second ", 2: "third "}
_GIVE = (
    "Give the manifest, --data-root and the folder of medssl infer together with the metrics; for cases that medssl "
    "finetune held out, that is results/validation of the bundle."
)


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One case as three planes.

    Attributes:
        role: Why it is shown, such as "Worst case".
        id: Case id.
        text: What the picture shows, in words.
        image: PNG data address.
        legend: (colour, value, name) of the coloured structures; empty where outlines are compared.
        viewer: Address of the case's viewer page, relative to the report, or None.
    """

    role: str
    id: str
    text: str
    image: str
    legend: tuple[tuple[str, int, str], ...] = ()
    viewer: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A case to draw, with the evaluation that scored it."""

    role: str
    id: str
    evaluation: Evaluation | None = None
    scores: Json | None = None


def choose_cases(metrics: Json, *, worst: int) -> list[tuple[str, Json]]:
    """Return the `worst` cases by mean Dice, and the median one, each with its role."""
    ranked = [case for case in ranked_cases(metrics) if case_dice(case) is not None]
    chosen = [
        (f"{_ORDINALS.get(order, f'{order + 1}th ')}worst case".capitalize(), ranked[order])
        for order in range(min(worst, len(ranked)))
    ]
    median = ranked[len(ranked) // 2] if ranked else None
    if median is not None and all(case is not median for _, case in chosen):
        chosen.append(("Median case", median))
    return chosen


def draw_cases(
    sources: Sources,
    *,
    worst: int,
    unscored: int,
    named: Collection[str] = (),
    viewers: ViewerFolder | None = None,
) -> tuple[list[CasePicture], list[Finding]]:
    """Draw the chosen scored cases, the first `unscored` predicted ones that no evaluation scored, and the named ones.

    A case whose files cannot be drawn becomes a finding, and so does one that gets no viewer page.

    Args:
        sources: What the report is made from.
        worst: Cases with the lowest mean Dice in each evaluation; its median one is added.
        unscored: Predicted cases without an evaluation.
        named: Ids of cases to draw in any case.
        viewers: Where viewer pages are written; None: none are.
    """
    pictures, findings = [], []
    for wanted in _wanted(sources, worst=worst, unscored=unscored, named=named):
        try:
            case = load_case(sources, wanted.id, evaluation=wanted.evaluation, scores=wanted.scores)
            picture = _picture(wanted, case)
        except MedsslError as error:
            findings.append(Finding(code="no-picture", severity="warning", case=wanted.id, text=str(error), fix=_GIVE))
            continue
        link, finding = _view(viewers, case, picture)
        findings += [finding] if finding is not None else []
        pictures.append(CasePicture(**{**vars(picture), "viewer": link}))
    return pictures, findings


def _wanted(sources: Sources, *, worst: int, unscored: int, named: Collection[str]) -> Iterator[_Wanted]:
    scored = {str(case.get("id")) for evaluation in sources.evaluations for case in evaluation.content["cases"]}
    drawn = set()
    # Detections have pictures of their own
    segmentations = [each for each in sources.evaluations if not is_detection(each.content)]
    several = len(segmentations) > 1
    for evaluation in segmentations:
        for role, case in choose_cases(evaluation.content, worst=worst):
            drawn.add(str(case["id"]))
            where = f"{role} of {evaluation.title}" if several else role
            yield _Wanted(role=where, id=str(case["id"]), evaluation=evaluation, scores=case)
    for case_id in [case_id for case_id in _done(sources) if case_id not in scored][:unscored]:
        drawn.add(case_id)
        yield _Wanted(role="Not scored", id=case_id)
    for case_id in named:
        if case_id not in drawn:
            yield from _named(sources, case_id)


def _named(sources: Sources, case_id: str) -> list[_Wanted]:
    found = [
        _Wanted(role=f"Asked for, {evaluation.title}", id=case_id, evaluation=evaluation, scores=case)
        for evaluation in sources.evaluations
        for case in evaluation.content["cases"]
        if str(case.get("id")) == case_id and not is_detection(evaluation.content)
    ]
    return found or [_Wanted(role="Asked for, without a reference", id=case_id)]


def _done(sources: Sources) -> list[str]:
    cases = [case for run in sources.inferences for case in run.content["cases"]]
    return list(dict.fromkeys(str(case["id"]) for case in cases if case.get("state") != "failed"))


def _picture(wanted: _Wanted, case: CaseVolumes) -> CasePicture:
    if case.reference is None:
        return _without_reference(wanted, case)
    drawn = draw_comparison(case.image, case.prediction, case.reference, modality=case.modality)
    return CasePicture(role=wanted.role, id=wanted.id, text=_dice_text(wanted.scores or {}), image=drawn)


def _without_reference(wanted: _Wanted, case: CaseVolumes) -> CasePicture:
    values = case.values()
    drawn = draw_prediction(case.image, case.prediction, values, modality=case.modality)
    counts = [f"{case.name(v)} {case.volume_ml(case.prediction, v):.0f} ml" for v in values]
    text = "Predicted: " + (", ".join(counts[:MOST_NAMES]) or "nothing")
    legend = [(class_colour(order), value, case.name(value)) for order, value in enumerate(values)]
    return CasePicture(role=wanted.role, id=wanted.id, text=text, image=drawn, legend=tuple(legend[:MOST_NAMES]))


def _view(viewers: ViewerFolder | None, case: CaseVolumes, picture: CasePicture) -> tuple[str | None, Finding | None]:
    if viewers is None or not viewers.wants(case.id):
        return None, None
    try:
        return viewers.write(case, role=picture.role, text=picture.text), None
    except MedsslError as error:
        fix = error.fix or "Open the files themselves in a viewer."
        return None, Finding(code="no-viewer", severity="warning", case=case.id, text=error.text, fix=fix)


def _dice_text(scores: Json) -> str:
    texts = []
    for name, entry in list((scores.get("classes") or {}).items())[:MOST_NAMES]:
        dice, state = entry.get("dice"), entry.get("state", "both")
        text = "not defined" if dice is None else f"{dice:.3f}"
        texts.append(f"{name} {text}" if state == "both" else f"{name} {text} ({state})")
    return "Dice: " + ", ".join(texts)
