"""How long a batch took: each stage over the cases, and what ran beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.reports.sources import Json

_STAGES = {
    "read": "Read and prepare",
    "network": "Network",
    "restore": "Restore to the native grid",
    "write": "Write",
    "total": "Whole case",
}


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """Seconds of one stage over the cases that were computed."""

    name: str
    median: str
    slowest: str
    total: str


@dataclass(frozen=True, kw_only=True)
class TimeSummary:
    """The section on one batch."""

    name: str
    states: tuple[tuple[str, int], ...]
    stages: tuple[StageRow, ...]
    facts: tuple[tuple[str, str], ...]


def summarise_times(run: Json, *, source: str) -> TimeSummary:
    """Summarise run.json: cases by state, seconds of each stage, wall time and peak memory.

    Args:
        run: Content of run.json.
        source: Name that tells this run from others in the report.
    """
    cases: list[Json] = run["cases"]
    computed = [case["seconds"] for case in cases if case.get("state") == "done" and case.get("seconds")]
    known = [
        (label, sum(case.get("state") == state for case in cases))
        for state, label in (("done", "done"), ("skipped", "already there"), ("failed", "failed"))
    ]
    bundle = run.get("bundle") or {}
    made_by = " ".join(str(bundle[key]) for key in ("name", "version") if bundle.get(key)) or "Inference"
    return TimeSummary(
        name=f"{made_by}: {source}",
        states=tuple(known),
        stages=tuple(row for row in (_stage(key, label, computed) for key, label in _STAGES.items()) if row),
        facts=_facts(run),
    )


def _stage(key: str, label: str, seconds: Sequence[Json]) -> StageRow | None:
    values = [entry[key] for entry in seconds if isinstance(entry.get(key), int | float)]
    if not values:
        return None
    median, slowest, total = (f"{value:.2f}" for value in (np.median(values), max(values), sum(values)))
    return StageRow(name=label, median=median, slowest=slowest, total=total)


def _facts(run: Json) -> tuple[tuple[str, str], ...]:
    facts = []
    if run.get("wall_seconds") is not None:
        facts.append(("Wall time", f"{run['wall_seconds']:.1f} s"))
    if run.get("startup_seconds") is not None:
        facts.append(("Start, with loading the model", f"{run['startup_seconds']:.1f} s"))
    if run.get("peak_memory_bytes"):
        facts.append(("Peak memory", f"{run['peak_memory_bytes'] / 2**30:.2f} GiB"))
    return tuple(facts)
