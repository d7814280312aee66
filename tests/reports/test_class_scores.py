"""Scores of classes in a report, beside runs that have no label maps."""

from __future__ import annotations

import json
from pathlib import Path

from medssl.evaluation.classification_summary import ClassCase, ClassEvaluation
from medssl.reports.build import write_report
from medssl.reports.class_scores import is_of_classes, summarise_class_scores


def _content() -> dict:
    cases = [ClassCase(id=str(n), group=f"g{n}", truth=n % 2, probabilities=(0.7, 0.3)) for n in range(6)]
    return ClassEvaluation(classes=("plain", "<b>spot</b>"), seed=0, cases=tuple(cases)).to_json()


def test_metrics_and_confusion_are_put_into_words() -> None:
    found = summarise_class_scores(_content(), source="run")
    assert found.metrics[0] == ("auc", "0.500", "[0.500, 0.500]")
    assert dict(found.metrics[i][:2] for i in range(3))["accuracy"] == "0.500"
    assert found.confusion == (("plain", (3, 0)), ("<b>spot</b>", (3, 0)))
    assert is_of_classes(_content())


def test_a_report_of_classes_draws_no_label_maps(tmp_path: Path) -> None:
    case = {"id": "0", "state": "done", "output": "0_classes.json", "seconds": {"total": 0.1}, "finding": None}
    run = {"task": "classification", "labels": {}, "cases": [case]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "metrics.json").write_text(json.dumps(_content()))
    write_report([tmp_path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "True classes (rows) and predicted classes (columns)" in page
    assert "&lt;b&gt;spot&lt;/b&gt;" in page
