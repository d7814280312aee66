"""Which cases to look at first, and how well uncertainty tells the good from the bad."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from medssl.reports.sources import Json

MOST_CASES = 40
FEWEST_CASES = 5
"""Scored cases below which a rank correlation says nothing."""


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
        number_of_cases: All with an uncertainty.
        correlation: Sentence on the rank correlation with the Dice, or why there is none.
    """

    source: str
    cases: tuple[UncertainCase, ...]
    number_of_cases: int
    correlation: str


def summarise_uncertainty(run: Json, evaluations: Iterable[Json], *, source: str) -> UncertaintySummary | None:
    """Sort the cases of a batch by the disagreement of the network's members; None if the batch has no uncertainty.

    Args:
        run: Content of run.json.
        evaluations: Contents of metrics.json that score this batch.
        source: Name that tells this batch from others in the report.
    """
    told = [case for case in run["cases"] if case.get("uncertainty")]
    if not told:
        return None
    dice = {case["id"]: case["mean"]["dice"] for each in evaluations for case in each["cases"]}
    told.sort(key=lambda case: -case["uncertainty"]["disagreement"])
    return UncertaintySummary(
        source=source,
        cases=tuple(_row(case, dice.get(case["id"])) for case in told[:MOST_CASES]),
        number_of_cases=len(told),
        correlation=_correlation(told, dice),
    )


def _row(case: Json, dice: float | None) -> UncertainCase:
    return UncertainCase(
        id=case["id"],
        disagreement=f"{case['uncertainty']['disagreement']:.4f}",
        variance=f"{case['uncertainty']['variance']:.5f}",
        dice="" if dice is None else f"{dice:.3f}",
    )


def _correlation(told: Iterable[Json], dice: dict[str, float | None]) -> str:
    pairs = [
        (case["uncertainty"]["disagreement"], score) for case in told if (score := dice.get(case["id"])) is not None
    ]
    if len(pairs) < FEWEST_CASES:
        return f"{len(pairs)} of these cases are scored; from {FEWEST_CASES} on their ranks are compared with the Dice."
    from scipy.stats import spearmanr

    if any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return "All cases have the same uncertainty or the same Dice, so their ranks cannot be compared."
    found = float(spearmanr(*zip(*pairs, strict=True)).statistic)
    return (
        f"Rank correlation (Spearman) of disagreement and Dice over {len(pairs)} scored cases: {found:+.2f}; "
        "-1 would mean that the order by uncertainty is the order by quality, 0 that it says nothing."
    )
