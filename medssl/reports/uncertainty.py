"""Which cases to look at first, and how well uncertainty tells the good from the bad."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from medssl.reports.sources import Json

MOST_CASES = 40
FEWEST_CASES = 5
"""Scored cases below which a rank correlation says nothing."""
MEASURES = ("disagreement", "variance")


@dataclass(frozen=True, kw_only=True)
class UncertainCase:
    """One case: its two numbers, and its mean Dice where it was scored."""

    id: str
    disagreement: str
    variance: str
    dice: str


@dataclass(frozen=True, kw_only=True)
class UncertaintySummary:
    """The section on one batch, the most uncertain cases first.

    Attributes:
        source: Name of the batch.
        cases: At most `MOST_CASES`.
        sorted_by: The measure they are sorted by, "disagreement" or "variance".
        number_of_cases: All with an uncertainty.
        correlation: Sentence on the rank correlations with the Dice, or why there are none.
    """

    source: str
    cases: tuple[UncertainCase, ...]
    sorted_by: str
    number_of_cases: int
    correlation: str


def summarise_uncertainty(run: Json, evaluations: Iterable[Json], *, source: str) -> UncertaintySummary | None:
    """Sort the cases of a batch by the uncertainty of the network; None if the batch has none.

    Args:
        run: Content of run.json.
        evaluations: Contents of metrics.json that score this batch.
        source: Name that tells this batch from others in the report.
    """
    told = [case for case in run["cases"] if case.get("uncertainty")]
    if not told:
        return None
    dice = {case["id"]: case["mean"]["dice"] for each in evaluations for case in each["cases"]}
    measure = telling_measure(told)
    told.sort(key=lambda case: -case["uncertainty"][measure])
    return UncertaintySummary(
        source=source,
        sorted_by=measure,
        cases=tuple(_row(case, dice.get(case["id"])) for case in told[:MOST_CASES]),
        number_of_cases=len(told),
        correlation=_correlation(told, dice),
    )


def telling_measure(records: Iterable[Json]) -> str:
    """Return the measure that tells the cases apart: disagreement, or variance where a single network has only that.

    Args:
        records: Records of run.json with an "uncertainty".
    """
    disagreements = {record["uncertainty"]["disagreement"] for record in records}
    return "disagreement" if len(disagreements) > 1 else "variance"


def _row(case: Json, dice: float | None) -> UncertainCase:
    return UncertainCase(
        id=case["id"],
        disagreement=f"{case['uncertainty']['disagreement']:.4f}",
        variance=f"{case['uncertainty']['variance']:.5f}",
        dice="" if dice is None else f"{dice:.3f}",
    )


def _correlation(told: Iterable[Json], dice: dict[str, float | None]) -> str:
    scored = [(case["uncertainty"], score) for case in told if (score := dice.get(case["id"])) is not None]
    if len(scored) < FEWEST_CASES:
        return (
            f"{len(scored)} of these cases are scored; from {FEWEST_CASES} on their ranks are compared with the Dice."
        )
    from scipy.stats import spearmanr

    scores = [score for _, score in scored]
    found = []
    for measure in MEASURES:
        values = [uncertainty[measure] for uncertainty, _ in scored]
        if len(set(values)) > 1 and len(set(scores)) > 1:
            found.append(f"{measure} {float(spearmanr(values, scores).statistic):+.2f}")
    if not found:
        return "All cases have the same uncertainty or the same Dice, so their ranks cannot be compared."
    return (
        f"Rank correlation (Spearman) with the Dice over {len(scored)} scored cases: {', '.join(found)}; "
        "-1 would mean that the order by uncertainty is the order by quality, 0 that it says nothing."
    )
