"""Detection metrics over cases: intervals by patient, folds, and plain words where a number would mislead."""

import csv
import io
import json

import numpy as np
import pytest

from medssl.evaluation.detection_case import DetectionCase
from medssl.evaluation.detection_summary import METRICS, DetectionEvaluation, estimate
from medssl.metrics.lesion_matching import Candidate, LesionMatch


def _case(number, lesions, *candidates, group=None, fold=None):
    listed = tuple(
        Candidate(confidence=confidence, voxels=20, outcome=outcome, overlap=0.5, centre=(0, 0, 0))
        for confidence, outcome in candidates
    )
    highest = max((confidence for confidence, _ in candidates), default=0.0)
    match = LesionMatch(candidates=listed, lesions=lesions, confidence=highest)
    return DetectionCase(id=f"c{number}", group=group or f"g{number:03d}", fold=fold, match=match)


def _evaluation(*cases):
    return DetectionEvaluation(lesion="csPCa", minimum_overlap=0.1, seed=0, cases=cases)


def _usual(count=40):
    rng = np.random.default_rng(0)
    cases = []
    for number in range(count):
        candidates = [(float(rng.uniform(0.01, 0.7)), "false") for _ in range(rng.integers(0, 3))]
        if number % 3 == 0:
            candidates.append((float(rng.uniform(0.2, 1)), "hit"))
        cases.append(_case(number, int(number % 3 == 0) + int(number % 9 == 0), *candidates, fold=number % 5))
    return cases


def test_the_score_is_the_mean_of_auroc_and_ap():
    metrics = _evaluation(*_usual()).metrics
    assert list(metrics) == ["auroc", "ap", "score", "sensitivity_at_0.5", "sensitivity_at_1", "sensitivity_at_2"]
    assert metrics["score"].value == pytest.approx((metrics["auroc"].value + metrics["ap"].value) / 2)
    for each in metrics.values():
        assert each.low < each.value < each.high
        assert each.draws == 2000


def test_intervals_resample_patients_not_cases():
    cases = _usual()
    twins = [
        DetectionCase(id=f"{case.id}{side}", group=case.group, match=case.match) for case in cases for side in "ab"
    ]
    narrow = [DetectionCase(id=case.id, group=case.id, match=case.match) for case in twins]
    one, two, wrong = (estimate(each, seed=0)["ap"] for each in (cases, twins, narrow))
    # A second scan that adds nothing must not narrow the interval; counted as other patients it would
    assert two.high - two.low == pytest.approx(one.high - one.low, abs=0.02)
    assert wrong.high - wrong.low < 0.85 * (one.high - one.low)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered, runs = np.random.default_rng(1), 0, 60
    for run in range(runs):
        cases = []
        for number in range(60):
            positive = number < 30
            confidence = min(max(rng.normal(0.5 if positive else 0.35, 0.1), 0.01), 0.99)
            cases.append(_case(number, int(positive), (confidence, "hit" if positive else "false")))
        found = estimate(cases, seed=run, draws=500)["auroc"]
        truth = 0.856  # P(X > Y) of two normals 1.5 deviations apart: Phi(1.5 / sqrt 2)
        covered += found.low <= truth <= found.high
    assert 0.85 <= covered / runs <= 1


def test_only_positive_cases_give_a_statement_instead_of_nan():
    evaluation = _evaluation(*[_case(number, 1, (0.5, "hit")) for number in range(4)])
    assert evaluation.metrics["auroc"].value is None
    assert evaluation.metrics["ap"].value == 1
    assert evaluation.statements[0] == "AUROC is not defined: all 4 scored cases are positive, none is negative."
    assert "NaN" not in json.dumps(evaluation.to_json())


def test_only_negative_cases_give_statements():
    evaluation = _evaluation(*[_case(number, 0, (0.5, "false")) for number in range(4)])
    assert {name for name in METRICS if evaluation.metrics[name].value is not None} == set()
    assert any("no scored case has a lesion" in statement for statement in evaluation.statements)
    assert len(evaluation.statements) == len(set(evaluation.statements))


def test_no_detection_at_all_is_said():
    evaluation = _evaluation(_case(0, 1), _case(1, 0), _case(2, 0))
    assert (evaluation.metrics["auroc"].value, evaluation.metrics["ap"].value) == (0.5, 0.0)
    assert "No case has any candidate" in " ".join(evaluation.statements)


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ((_case(0, 1), _case(1, 0)), "No case has any candidate, which gives an AUROC of 0.5 and an AP of 0."),
        ((_case(0, 1), _case(1, 1)), "No case has any candidate, which gives an AP of 0."),
        ((_case(0, 0), _case(1, 0)), "No case has any candidate."),
        ((_case(0, 1, (0.9, "false")), _case(1, 1)), "None of the 2 lesions was found."),
    ],
)
def test_only_what_is_defined_is_given_as_a_sign_of_no_detection(cases, said):
    evaluation = _evaluation(*cases)
    (statement,) = [each for each in evaluation.statements if said in each]
    for name in ("AUROC", "AP"):
        assert evaluation.metrics[name.lower()].value is not None or f"{name} of" not in statement


def test_a_fold_says_why_a_metric_is_not_defined():
    cases = [_case(0, 1, (0.9, "hit"), fold=0), _case(1, 0, fold=0), _case(2, 0, fold=1), _case(3, 1, fold=2)]
    evaluation = _evaluation(*cases)
    negative = "AUROC is not defined: all 1 scored cases are negative, none is positive."
    assert evaluation.folds[1].reasons["auroc"] == negative
    assert [fold.reasons.keys() == METRICS.keys() for fold in evaluation.folds] == [False, True, False]
    assert evaluation.folds[0].reasons == {}
    assert f"Fold 1: {negative}" in evaluation.statements
    assert len(evaluation.statements) == len(set(evaluation.statements))


def test_folds_do_not_repeat_what_is_said_of_all():
    evaluation = _evaluation(*[_case(number, 1, (0.5, "hit"), fold=number) for number in range(4)])
    assert not [statement for statement in evaluation.statements if statement.startswith("Fold")]


def test_a_high_auroc_from_false_candidates_alone_is_said():
    evaluation = _evaluation(_case(0, 1, (0.9, "false")), _case(1, 0), _case(2, 0))
    assert (evaluation.metrics["auroc"].value, evaluation.metrics["ap"].value) == (1.0, 0.0)
    assert evaluation.statements == (
        "None of the 1 lesions was found; the AUROC rests on false candidates (1 in all).",
    )


def test_few_patients_have_no_interval():
    metrics = _evaluation(_case(0, 1, (0.9, "hit")), _case(1, 0)).metrics
    assert (metrics["auroc"].value, metrics["auroc"].low, metrics["auroc"].draws) == (1.0, None, 0)


def test_draws_of_one_kind_are_left_out_and_counted():
    metrics = _evaluation(*[_case(number, int(number == 0), (0.5, "hit")) for number in range(4)]).metrics
    assert 0 < metrics["auroc"].draws < 2000


def test_folds_are_scored_apart():
    folds = _evaluation(*_usual()).folds
    assert [fold.fold for fold in folds] == [0, 1, 2, 3, 4]
    assert sum(fold.cases for fold in folds) == 40
    own = [case for case in _usual() if case.fold == 2]
    assert folds[2].metrics["ap"] == _evaluation(*own).metrics["ap"].value
    assert _evaluation(_case(0, 1, (0.9, "hit"))).folds == ()


def test_counts_and_table_say_what_happened():
    failed = DetectionCase(id="x", group="g999")
    evaluation = _evaluation(_case(0, 2, (0.9, "hit"), (0.5, "second"), (0.4, "false")), _case(1, 0), failed)
    counts = evaluation.counts
    assert (counts["cases"], counts["scored"], counts["failed"]) == (3, 2, 1)
    assert (counts["lesions"], counts["found"], counts["missed"], counts["false_candidates"]) == (2, 1, 1, 1)
    assert (counts["second_candidates"], counts["cases_without_candidate"]) == (1, 1)
    rows = list(csv.DictReader(io.StringIO(evaluation.to_csv())))
    assert [row["state"] for row in rows] == ["positive", "negative", "failed"]
    assert (rows[0]["found"], rows[0]["missed"], rows[0]["false"]) == ("1", "1", "1")
