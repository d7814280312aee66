"""Comparison of classifications and detections: the same draws, values as evaluated, refusal of other tasks."""

import json

import numpy as np
import pytest

from medssl.cli.main import run
from medssl.core.errors import ConfigError
from medssl.evaluation.classification_summary import ClassCase, ClassEvaluation, paired_class_difference
from medssl.evaluation.comparison import ALL, compare_evaluations
from medssl.evaluation.detection_case import DetectionCase
from medssl.evaluation.detection_summary import DetectionEvaluation
from medssl.metrics.classification import auc
from medssl.metrics.lesion_matching import Candidate, LesionMatch

INPUTS = {"medssl": {"inputs": {"manifest": {"name": "m", "sha256": "a"}, "part": "test"}}}


def classified(seed, *, skill):
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(40):
        truth = number % 2
        score = 1 / (1 + np.exp(-(rng.normal() + skill * (2 * truth - 1))))
        group = f"g{number // 2}"
        cases.append(ClassCase(id=f"c{number}", group=group, truth=truth, probabilities=(1 - score, score)))
    return ClassEvaluation(classes=("no", "yes"), seed=0, cases=tuple(cases))


def detected(confidences):
    cases = []
    for number, confidence in enumerate(confidences):
        positive = number % 2
        outcome = "hit" if positive else "false"
        found = Candidate(
            confidence=confidence, voxels=4, outcome=outcome, overlap=0.5 * positive, centre=(1.0, 2.0, 3.0)
        )
        match = LesionMatch(candidates=(found,), lesions=positive, confidence=confidence)
        cases.append(DetectionCase(id=f"c{number}", group=f"g{number}", match=match))
    return DetectionEvaluation(lesion="csPCa", minimum_overlap=0.1, seed=0, cases=tuple(cases))


def content(evaluation):
    return json.loads(json.dumps({**evaluation.to_json(), **INPUTS}))


def find(comparison, metric):
    (found,) = [each for each in comparison.differences if (each.name, each.metric) == (ALL, metric)]
    return found


def test_classifications_are_compared_as_they_are_evaluated():
    good, poor = classified(0, skill=2.0), classified(1, skill=0.1)
    found = find(compare_evaluations(content(good), content(poor)), "auc")
    assert found.a.mean == pytest.approx(good.metrics["auc"].value)
    assert (found.a.low, found.a.high) == pytest.approx((good.metrics["auc"].low, good.metrics["auc"].high))
    plain = paired_class_difference(good.cases, poor.cases, auc, 2)
    assert (found.difference.mean, found.difference.low) == pytest.approx((plain.value, plain.low))
    assert found.decided


def test_an_evaluation_does_not_differ_from_itself():
    found = find(compare_evaluations(content(classified(0, skill=1.0)), content(classified(0, skill=1.0))), "f1")
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)
    assert not found.decided


def test_detections_are_compared_as_they_are_evaluated():
    good = detected([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.1, 0.9])
    poor = detected([0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.9, 0.1])
    comparison = compare_evaluations(content(good), content(poor))
    for metric in ("auroc", "ap", "score", "sensitivity_at_1"):
        found = find(comparison, metric)
        assert found.a.mean == pytest.approx(good.metrics[metric].value)
        assert found.b.mean == pytest.approx(poor.metrics[metric].value)
    assert find(comparison, "auroc").decided


def test_an_undefined_metric_is_no_number():
    negative = content(detected([0.5]))
    assert find(compare_evaluations(negative, negative), "auroc").difference.mean is None


def test_other_tasks_and_overlaps_are_refused():
    other = {**content(detected([0.5, 0.6])), "minimum_overlap": 0.5}
    with pytest.raises(ConfigError, match="minimum_overlap"):
        compare_evaluations(content(detected([0.5, 0.6])), other)
    with pytest.raises(ConfigError, match="task"):
        compare_evaluations(content(detected([0.5, 0.6])), content(classified(0, skill=1.0)))


def test_the_command_shows_them(tmp_path, capsys):
    for name, skill in (("a", 2.0), ("b", 0.1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content(classified(0, skill=skill))))
    assert run(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c.json")]) == 0
    shown = capsys.readouterr().out
    assert "AUC" in shown
    assert "A better" in shown
    assert json.loads((tmp_path / "c.json").read_text())["differences"][0]["metric"] == "auc"
