"""Means with intervals: the bootstrap resamples patients, because cases of one patient are not independent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MINIMUM_GROUPS = 3
DRAWS = 2000
_DRAWS_AT_ONCE = 500  # bounds the table of draws x groups


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95% interval.

    Attributes:
        mean: Mean over the defined values, or None without any.
        low: 2.5th percentile of the bootstrapped means; None with fewer than `MINIMUM_GROUPS` groups.
        high: 97.5th percentile.
        n: Number of defined values.
        groups: Number of groups (patients) that they come from.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    groups: int

    def to_json(self) -> dict[str, Any]:
        """Return the interval as plain JSON values."""
        return asdict(self)


def mean_with_interval(
    values: Sequence[float | None], groups: Sequence[str], *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Return the mean of the defined values with a patient-level bootstrap 95% interval.

    Whole groups are drawn with replacement, as many as there are, and the mean is taken over all values of the drawn
    groups; the interval is the 2.5th to the 97.5th percentile of these means. Groups without a defined value take no
    part. Below three groups an interval would say nothing and is None.

    Args:
        values: One value for each case; None is undefined.
        groups: The group, normally the patient, of each case.
        seed: Seed of the draws.
        draws: Number of bootstrap draws.

    Raises:
        ValueError: If `values` and `groups` differ in length.
    """
    defined = [(value, group) for value, group in zip(values, groups, strict=True) if value is not None]
    if not defined:
        return Interval(mean=None, low=None, high=None, n=0, groups=0)
    sums, sizes = _by_group(defined)
    # fsum is exact, so that the mean does not depend on the order of the cases
    mean = math.fsum(value for value, _ in defined) / len(defined)
    low, high = None, None
    if len(sizes) >= MINIMUM_GROUPS:
        means = _bootstrap_means(sums, sizes, seed=seed, draws=draws)
        low, high = (float(bound) for bound in np.percentile(means, [2.5, 97.5]))
    return Interval(mean=mean, low=low, high=high, n=len(defined), groups=len(sizes))


def paired_difference(
    a: Sequence[float | None],
    b: Sequence[float | None],
    groups: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Interval:
    """Return the mean of a - b over the cases where both are defined, with a patient-level bootstrap 95% interval.

    The pairing removes what makes a case hard for both, so this is much sharper than comparing two intervals.

    Args:
        a: One value for each case; None is undefined.
        b: The values of the same cases, in the same order.
        groups: The group, normally the patient, of each case.
        seed: Seed of the draws.
        draws: Number of bootstrap draws.

    Raises:
        ValueError: If the lengths differ.
    """
    differences = [None if x is None or y is None else x - y for x, y in zip(a, b, strict=True)]
    return mean_with_interval(differences, groups, seed=seed, draws=draws)


def draw_groups(groups: Sequence[str], *, seed: int, draws: int = DRAWS) -> Iterator[NDArray[np.float64]]:
    """Yield bootstrap draws of groups as weights (draws, cases), some hundred at once; none for too few groups.

    For statistics of all cases together, such as the area under a curve, that are no mean of one value a case.

    Args:
        groups: The group, normally the patient, of each case.
        seed: Seed of the draws.
        draws: Number of draws in all.
    """
    position = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    if len(position) < MINIMUM_GROUPS:
        return
    columns = [position[group] for group in groups]
    for times in _draw_times(len(position), seed=seed, draws=draws):
        yield times[:, columns].astype(np.float64)


def _by_group(defined: Sequence[tuple[float, str]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of values of each group, in order of appearance."""
    position = {group: index for index, group in enumerate(dict.fromkeys(group for _, group in defined))}
    rows = [position[group] for _, group in defined]
    sums = np.bincount(rows, weights=[value for value, _ in defined]).astype(np.float64)
    return sums, np.bincount(rows).astype(np.float64)


def _bootstrap_means(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], *, seed: int, draws: int
) -> NDArray[np.float64]:
    draws_of_groups = _draw_times(len(sizes), seed=seed, draws=draws)
    return np.concatenate([(times @ sums) / (times @ sizes) for times in draws_of_groups])


def _draw_times(count: int, *, seed: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each of `count` groups is drawn, (draws, groups); the same law as drawing them one by one."""
    generator = np.random.default_rng(seed)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        yield generator.multinomial(count, np.full(count, 1 / count), size=min(_DRAWS_AT_ONCE, draws - start))


def bounds_of_draws(drawn: NDArray[np.float64], draws: int) -> tuple[float | None, float | None, int]:
    """Return the 2.5th and 97.5th percentile of the defined draws of a metric, and how many these are.

    The bounds are None if fewer than half of the draws are defined.

    Args:
        drawn: The metric in each draw; NaN where it is not defined.
        draws: Number of draws that were wanted.
    """
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < max(draws / 2, 1):
        return None, None, len(defined)
    low, high = (float(bound) for bound in np.percentile(defined, [2.5, 97.5]))
    return low, high, len(defined)
