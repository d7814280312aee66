"""Two evaluations of the same cases, compared case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medssl.core.errors import ConfigError
from medssl.core.strict_json import parse_json
from medssl.evaluation.statistics import Interval, mean_with_interval, paired_difference
from medssl.evaluation.summary import MEAN_METRICS
from medssl.evaluation.table_comparison import Rows, paired_metrics

MEAN = "mean of classes"
ALL = "all cases"
TASKS = ("segmentation", "classification", "detection")
DISTANCES = frozenset({"hd95_mm"})
"""Metrics of which less is better."""
Content = Mapping[str, Any]
_Pair = tuple[float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one class in two evaluations, over the cases where both are defined.

    Attributes:
        name: Class, or `MEAN`; `ALL` for the metrics of classification and detection.
        metric: "dice", "hd95_mm" or "nsd"; "auc", "f1", ... of classes, "auroc", "ap", ... of detections.
        a: Mean (or metric) of the first, with its interval.
        b: That of the second.
        difference: First minus second, paired, with its interval.
        one_sided: Number of cases where it is defined in one evaluation only, such as a distance to what one missed.
    """

    name: str
    metric: str
    a: Interval
    b: Interval
    difference: Interval
    one_sided: int = 0

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)

    @property
    def better(self) -> Literal["a", "b"] | None:
        """Which one is better, or None where that is undecided; of a distance, that is the one with less.

        A distance that only one of them has in some case says nothing of the other there, and decides nothing.
        """
        if not self.decided or self.difference.mean is None or (self.one_sided and self.metric in DISTANCES):
            return None
        return "a" if (self.difference.mean > 0) != (self.metric in DISTANCES) else "b"

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain JSON values."""
        return {**asdict(self), "decided": self.decided, "better": self.better}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two evaluations of the same cases say about each other.

    Attributes:
        differences: One for each class and metric, the mean of the classes last.
        cases: Ids of the cases that both scored.
        only_a: Ids that only the first scored.
        only_b: Ids that only the second scored.
    """

    differences: tuple[Difference, ...]
    cases: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {**asdict(self), "differences": [each.to_json() for each in self.differences]}


def compare_evaluations(a: Content, b: Content, *, seed: int = 0) -> Comparison:
    """Compare two contents of metrics.json on the cases that both scored; intervals resample patients.

    Args:
        a: The first.
        b: The second; differences are first minus second.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If they score other data, tasks, classes or tolerances, or have no case in common.
    """
    _refuse_other_data(a, b)
    rows_a, rows_b = _cases(a), _cases(b)
    common = [case for case in rows_a if case in rows_b]
    if not common:
        message = "the two evaluations have no scored case in common. Compare runs over the same part of a manifest."
        raise ConfigError(message)
    both = [rows_a[case] for case in common], [rows_b[case] for case in common]
    names, by_case = list(a["labels"].values()), a["task"] == "segmentation"
    differences = _by_case(names, *both, seed) if by_case else _by_table(a["task"], names, *both, seed)
    return Comparison(
        differences=tuple(differences),
        cases=tuple(common),
        only_a=tuple(case for case in rows_a if case not in rows_b),
        only_b=tuple(case for case in rows_b if case not in rows_a),
    )


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read metrics.json, given the file or its folder.

    Raises:
        ConfigError: If it is not there, or was not written by `medssl evaluate`.
    """
    file = path / "metrics.json" if path.is_dir() else path
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{file}: expected the metrics.json of medssl evaluate, found none that can be read ({error})."
        raise ConfigError(message, fix="Run medssl evaluate first.") from error
    if not _is_evaluation(content):
        message = f"{file}: expected the metrics.json of medssl evaluate, found other content."
        raise ConfigError(message, fix="Give the file or folder that medssl evaluate wrote.")
    return content


def _is_evaluation(content: Any) -> bool:
    cases, labels = (content.get(key) if isinstance(content, dict) else None for key in ("cases", "labels"))
    if not isinstance(cases, list) or not isinstance(labels, dict) or content.get("task") not in TASKS:
        return False
    if not all(isinstance(case, dict) and {"id", "group"} <= case.keys() for case in cases):
        return False
    names = set(labels.values())
    return content["task"] != "segmentation" or all(
        isinstance(case.get("mean"), dict) and names <= (case.get("classes") or {}).keys() for case in cases
    )


def _by_case(names: Sequence[str], a: Rows, b: Rows, seed: int) -> list[Difference]:
    groups = [str(case["group"]) for case in a]
    differences = []
    for name in (*names, MEAN):
        for metric in MEAN_METRICS:
            pairs = [(_score(x, name, metric), _score(y, name, metric)) for x, y in zip(a, b, strict=True)]
            differences.append(_difference(name, metric, pairs, groups, seed))
    return differences


def _by_table(task: str, names: Sequence[str], a: Rows, b: Rows, seed: int) -> list[Difference]:
    return [
        Difference(name=ALL, metric=metric, a=first, b=second, difference=difference)
        for metric, (first, second, difference) in paired_metrics(task, names, a, b, seed=seed).items()
    ]


def _difference(name: str, metric: str, pairs: Sequence[_Pair], groups: Sequence[str], seed: int) -> Difference:
    # the means are over the same cases as their difference, so that the three agree
    a = [None if y is None else x for x, y in pairs]
    b = [None if x is None else y for x, y in pairs]
    return Difference(
        name=name,
        metric=metric,
        a=mean_with_interval(a, groups, seed=seed),
        b=mean_with_interval(b, groups, seed=seed),
        difference=paired_difference(a, b, groups, seed=seed),
        one_sided=sum((x is None) != (y is None) for x, y in pairs),
    )


def _score(case: Content, name: str, metric: str) -> float | None:
    found: float | None = (case["mean"] if name == MEAN else case["classes"][name])[metric]
    return found


def _cases(content: Content) -> dict[str, Mapping[str, Any]]:
    return {case["id"]: case for case in content["cases"]}


def _refuse_other_data(a: Content, b: Content) -> None:
    keys = ("task", "labels", "tolerance_mm", "minimum_overlap")
    stated = [{key: each.get(key) for key in keys} | _inputs(each) for each in (a, b)]
    different = [
        f"{key}: {stated[0][key]} and {stated[1][key]}" for key in stated[0] if stated[0][key] != stated[1][key]
    ]
    if different:
        message = f"the two evaluations do not score the same thing ({'; '.join(different)})."
        raise ConfigError(message, fix="Evaluate both with the same manifest, part and tolerance.")


def _inputs(content: Content) -> dict[str, Any]:
    """Return what was scored; metrics that do not say so (of cross-validation, or damaged) compare with themselves."""
    block = content.get("medssl")
    inputs = block.get("inputs", {}) if isinstance(block, Mapping) else {}
    manifest = inputs.get("manifest") if isinstance(inputs, Mapping) else None
    if not isinstance(manifest, Mapping):
        return {"manifest": str(manifest), "part": "not stated"}
    return {"manifest": f"{manifest.get('name')} {str(manifest.get('sha256'))[:8]}", "part": inputs.get("part")}
