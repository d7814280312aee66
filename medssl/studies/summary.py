"""What a study says: mean Dice, intervals over draws and cases, paired differences, labels saved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.statistics import MINIMUM_GROUPS, draw_groups
from medssl.studies.plan import Arm, StudyPlan

Results = Sequence[dict[str, Any]]
_Table = dict[tuple[int, int], dict[str, Any]]  # (draw, seed) -> case -> mean Dice, None where it is undefined
_Groups = Mapping[str, str]  # case -> patient

BOOTSTRAP = 4000
MINIMUM_DRAWS = 3
MINIMUM_DRAWS_OF_P = 6  # the least with which a sign test of draws can reach 0.05
INTERVAL = (
    "95% intervals: draws of labelled cases and patients (cases, if none is named) are resampled, patients alike for "
    f"all draws ({BOOTSTRAP} times, percentiles); none with fewer than {MINIMUM_DRAWS} draws or {MINIMUM_GROUPS} "
    "patients. Seeds of one draw are averaged; where there is no other draw, they are resampled in the place of draws. "
    "A case whose Dice is undefined in any run (nothing there and nothing found) is left out of all, so what arms find "
    "where nothing is does not count. p: two-sided, from the same resamples, which resolve no less than 1 in "
    f"{BOOTSTRAP}, corrected by Holm over the table; none with fewer than {MINIMUM_DRAWS_OF_P} draws. Few draws make "
    "both look surer than they are (docs/studies.md)."
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over draws and cases; where there is one draw, over its seeds and cases.

    Attributes:
        mean: Mean Dice, or mean difference.
        low: 2.5th percentile; None with fewer than `MINIMUM_DRAWS` draws or `MINIMUM_GROUPS` patients.
        high: 97.5th percentile.
        p: Two-sided bootstrap p-value of a difference; None for a mean, or with fewer than `MINIMUM_DRAWS_OF_P` draws.
        draws: Number of draws.
        cases: Number of cases scored in each.
        seeds: Number of seeds that are in the place of draws; 0 where there are several draws.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    draws: int
    cases: int
    seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm at one number of labelled cases.

    Attributes:
        arm: The arm.
        labelled: Number of labelled cases.
        dice: Mean Dice.
        difference: Paired difference to the arm of comparison; None for that arm itself.
        against: Name of the arm of comparison.
        p_holm: p-value corrected by Holm over all differences of the table.
        per_draw: Mean Dice of each draw.
        seconds: Mean seconds of a run.
        patches: Mean number of patches that a run passed forward and back; None where they were not counted.
        undefined: Number of cases left out, because their Dice is undefined in some run.
    """

    arm: str
    labelled: int
    dice: Estimate
    difference: Estimate | None
    against: str
    p_holm: float | None
    per_draw: tuple[float, ...]
    seconds: float
    patches: float | None
    undefined: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return asdict(self)


def summarise(
    plan: StudyPlan, results: Results, *, groups: Mapping[str, int] | None = None, seed: int = 0
) -> list[Row]:
    """Return the rows of a study's table, by number of labelled cases and then in the order of the arms.

    Args:
        plan: The study.
        results: From `run_study`; failed runs are left out.
        groups: Number of the patient of each scored case, as `patient_numbers` has them; default: as results tell.
        seed: Seed of the bootstrap.
    """
    rows = []
    patients = dict(_groups(results)) | {case: str(number) for case, number in (groups or {}).items()}
    for count in sorted({int(each) for each in plan.draws}):
        tables, undefined = _of_defined_cases({arm.name: _table(results, arm.name, count) for arm in plan.arms})
        for arm in plan.arms:
            if tables[arm.name]:
                costs = {key: _mean_of(results, arm.name, count, key) for key in ("seconds", "patches")}
                row = _row(plan, arm, count, tables, costs, groups=patients, seed=seed)
                rows.append(replace(row, undefined=undefined))
    return _with_holm(rows)


def contrast(results: Results, arm: str, against: str, labelled: int, *, seed: int = 0) -> Estimate | None:
    """Return the paired difference of any two arms at a number of labelled cases, or None without a common draw.

    Args:
        results: From `run_study`, or the `runs` of a study.json.
        arm: The arm.
        against: What is subtracted.
        labelled: Number of labelled cases.
        seed: Seed of the bootstrap.
    """
    tables, _ = _of_defined_cases({each: _table(results, each, labelled) for each in (arm, against)})
    return _difference(tables[arm], tables[against], groups=_groups(results), seed=seed)


def labels_saved(rows: Sequence[Row]) -> dict[str, dict[int, float | None]]:
    """Return for each arm and number of labels how many labels its arm of comparison needs for the same Dice.

    Interpolated linearly in the logarithm of the number of labels; None outside what was measured of that arm, and
    where its curve has this Dice more than once.
    """
    found: dict[str, dict[int, float | None]] = {}
    for row in rows:
        if row.against:
            base = sorted((each.labelled, each.dice.mean) for each in rows if each.arm == row.against)
            found.setdefault(row.arm, {})[row.labelled] = _needed(base, row.dice.mean)
    return found


def estimate(
    values: NDArray[np.float64],
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    paired: bool = False,
    of_seeds: bool = False,
) -> Estimate:
    """Return the mean of a table (draws, cases), or (seeds, cases), with a two-level bootstrap interval; `INTERVAL`.

    Args:
        values: Dice, or differences of it.
        groups: The patient of each case; by default every case has its own.
        seed: Seed of the bootstrap.
        paired: Whether the values are differences, which have a p-value.
        of_seeds: Whether the lines are the seeds of one draw.
    """
    replicates, cases = values.shape
    groups = [str(number) for number in range(cases)] if groups is None else groups
    low = high = p = None
    if replicates >= MINIMUM_DRAWS and len(set(groups)) >= MINIMUM_GROUPS:
        means = _bootstrap(values, groups, seed)
        low, high = (float(each) for each in np.percentile(means, [2.5, 97.5]))
        if paired and replicates >= MINIMUM_DRAWS_OF_P:
            share = min(float((means <= 0).mean()), float((means >= 0).mean()))
            p = min(1.0, max(2 * share, 1 / BOOTSTRAP))
    draws, seeds = (1, replicates) if of_seeds else (replicates, 0)
    return Estimate(mean=float(values.mean()), low=low, high=high, p=p, draws=draws, cases=cases, seeds=seeds)


def _row(
    plan: StudyPlan,
    arm: Arm,
    count: int,
    tables: dict[str, _Table],
    costs: dict[str, float | None],
    *,
    groups: _Groups,
    seed: int,
) -> Row:
    own = tables[arm.name]
    against = plan.ensemble_baseline if arm.group == "ensemble" and plan.ensemble_baseline else plan.baseline
    difference = None if arm.name == against else _difference(own, tables.get(against, {}), groups=groups, seed=seed)
    return Row(
        arm=arm.name,
        labelled=count,
        dice=_estimate(own, groups=groups, seed=seed),
        difference=difference,
        against="" if arm.name == against else against,
        p_holm=None,
        per_draw=tuple(float(each) for each in _by_draw(own)[0].mean(1)),
        seconds=costs["seconds"] or 0.0,
        patches=costs["patches"],
    )


def _difference(own: _Table, other: _Table, *, groups: _Groups, seed: int) -> Estimate | None:
    common = sorted(own.keys() & other.keys())
    if not common:
        return None
    return _estimate({key: _minus(own[key], other[key]) for key in common}, groups=groups, seed=seed, paired=True)


def _table(results: Results, arm: str, count: int) -> _Table:
    return {
        (each["draw"], each["seed"]): {case: score["mean"] for case, score in each["dice"].items()}
        for each in results
        if each["arm"] == arm and each["labelled"] == count and "dice" in each
    }


def _of_defined_cases(tables: dict[str, _Table]) -> tuple[dict[str, _Table], int]:
    """Return the tables with the cases whose Dice is defined in every run, and how many cases are not.

    Without any such case there is nothing to estimate, and the tables are empty.
    """
    runs = [scores for table in tables.values() for scores in table.values()]
    cases = {case for scores in runs for case in scores}
    kept = {case for case in cases if all(scores.get(case) is not None for scores in runs)}
    if not kept:
        return {arm: {} for arm in tables}, len(cases)
    return {
        arm: {run: {case: scores[case] for case in kept} for run, scores in table.items()}
        for arm, table in tables.items()
    }, len(cases) - len(kept)


def _groups(results: Results) -> _Groups:
    """Return the patient of each case that has others, by the number that results give him."""
    return {case: str(group) for each in results for case, group in each.get("groups", {}).items()}


def _mean_of(results: Results, arm: str, count: int, key: str) -> float | None:
    own = [each[key] for each in results if (each["arm"], each["labelled"]) == (arm, count) and key in each]
    return float(np.mean(own)) if own else None


def _minus(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    return {case: a[case] - b[case] for case in a}


def _estimate(table: _Table, *, groups: _Groups, seed: int, paired: bool = False) -> Estimate:
    """Return the estimate of a table; where all runs are of one draw, its seeds take the place of draws."""
    of_seeds = len({draw for draw, _ in table}) == 1 < len(table)
    values, cases = _by_draw({(number, 0): scores for (_, number), scores in table.items()} if of_seeds else table)
    patients = [groups.get(case, f"case {case}") for case in cases]
    return estimate(values, groups=patients, seed=seed, paired=paired, of_seeds=of_seeds)


def _by_draw(table: _Table) -> tuple[NDArray[np.float64], list[str]]:
    """Return (draws, cases), the seeds of each draw averaged, and the cases, which are the same in every run."""
    cases = sorted(next(iter(table.values())))
    rows: dict[int, list[list[float]]] = {}
    for (draw, _), scores in sorted(table.items()):
        rows.setdefault(draw, []).append([scores[case] for case in cases])
    return np.array([np.mean(each, axis=0) for each in rows.values()], dtype=np.float64), cases


def _bootstrap(values: NDArray[np.float64], groups: Sequence[str], seed: int) -> NDArray[np.float64]:
    draws, _ = values.shape
    chosen = np.random.default_rng(seed).integers(draws, size=(BOOTSTRAP, draws))
    # a patient is the same in every draw of labels, so one resampling of patients serves all draws of a sample
    weights = np.concatenate(list(draw_groups(groups, seed=seed + 1, draws=BOOTSTRAP)))
    per_draw = weights @ values.T / weights.sum(1, keepdims=True)  # (BOOTSTRAP, draws)
    means: NDArray[np.float64] = np.take_along_axis(per_draw, chosen, axis=1).mean(1)
    return means


def _with_holm(rows: list[Row]) -> list[Row]:
    tested = [(row.difference.p, index) for index, row in enumerate(rows) if row.difference and row.difference.p]
    corrected, so_far = {}, 0.0
    for rank, (p, index) in enumerate(sorted(tested)):
        so_far = max(so_far, min(1.0, p * (len(tested) - rank)))
        corrected[index] = so_far
    return [Row(**{**vars(row), "p_holm": corrected.get(index)}) for index, row in enumerate(rows)]


def _needed(base: Sequence[tuple[int, float]], dice: float) -> float | None:
    crossings = {
        (float(few * (more / few) ** ((dice - low) / (high - low))), high > low)
        for (few, low), (more, high) in itertools.pairwise(base)
        if min(low, high) <= dice <= max(low, high) and high != low
    }
    needed = [count for count, _ in crossings]
    # two pieces of a rising curve meet at a measured count, each with its own rounding
    unique = bool(needed) and math.isclose(min(needed), max(needed), rel_tol=1e-9)
    return min(needed) if unique and all(rises for _, rises in crossings) else None
