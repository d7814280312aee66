"""Run times by stage."""

from __future__ import annotations

import json

from medssl.reports.times import summarise_times


def test_stages_show_median_slowest_and_sum(study):
    summary = summarise_times(json.loads((study["predictions"] / "run.json").read_text()), source="predictions")
    rows = {row.name: (row.median, row.slowest, row.total) for row in summary.stages}
    assert rows["Network"] == ("3.50", "6.00", "21.00")
    assert dict(summary.states) == {"done": 7, "already there": 0, "failed": 1}
    assert dict(summary.facts) == {
        "Wall time": "25.5 s",
        "Start, with loading the model": "3.2 s",
        "Peak memory": "1.00 GiB",
    }


def test_skipped_and_failed_cases_have_no_time():
    cases = [{"id": "a", "state": "skipped", "seconds": {"total": 9.0}}, {"id": "b", "state": "failed"}]
    summary = summarise_times({"cases": cases}, source="predictions")
    assert summary.stages == () and summary.facts == () and summary.name == "Inference: predictions"
    assert dict(summary.states) == {"done": 0, "already there": 1, "failed": 1}
