"""A folder of detection maps against a manifest: which cases count, and agreement with picai_eval."""

import json
from dataclasses import replace

import pytest
from evaluation.small_detections import LEFT, Detections, usual, volume

from medssl.core.errors import ConfigError
from medssl.evaluation.detection import differences_to_picai_eval, evaluate_detections
from medssl.evaluation.detection_summary import Estimate


def _evaluate(study, **options):
    return evaluate_detections(study.manifest, root=study.root, predictions=study.predictions, workers=1, **options)


def test_a_folder_is_scored_as_picai_eval_scores_it(tmp_path):
    study = usual(tmp_path)
    evaluation = _evaluate(study)
    assert [finding for finding in evaluation.findings if finding.severity == "error"] == []
    import picai_eval

    detections = [study.predictions / f"{case['id']}_detection_map.nii.gz" for case in study.cases]
    reference = picai_eval.evaluate(detections, [study.root / case["label"] for case in study.cases])
    assert evaluation.metrics["auroc"].value == pytest.approx(reference.auroc)
    assert evaluation.metrics["ap"].value == pytest.approx(reference.AP)
    assert evaluation.metrics["score"].value == pytest.approx(reference.score)


def test_no_patient_is_named(tmp_path):
    text = json.dumps(_evaluate(usual(tmp_path)).to_json())
    assert "Doe" not in text
    assert '"g003"' in text


def test_two_exams_of_a_patient_are_one_group_of_the_bootstrap(tmp_path):
    study = usual(tmp_path, patients=4)
    study.cases[3]["patient"] = study.cases[0]["patient"]
    evaluation = _evaluate(study)
    assert [case.group for case in evaluation.scored] == ["g001", "g002", "g003", "g001"]
    assert (evaluation.patients, evaluation.counts["groups"]) == (3, 3)


def test_cases_without_reference_are_left_out_but_known_negatives_count(tmp_path):
    study = Detections(tmp_path)
    study.add("positive", volume((LEFT, 1)), volume((LEFT, 0.9)))
    study.add("negative", None, volume(), **{"class": 0})
    study.add("unknown", None, volume())
    evaluation = _evaluate(study)
    assert [case.id for case in evaluation.scored] == ["positive", "negative"]
    assert {finding.code for finding in evaluation.findings} == {"reference-absent", "patients-unknown"}
    assert evaluation.metrics["auroc"].value == 1


def test_one_bad_case_does_not_stop_the_others(tmp_path):
    study = usual(tmp_path)
    study.add("bad", volume((LEFT, 1)), volume((LEFT, 7)))
    study.add("gone", volume((LEFT, 1)), None)
    evaluation = _evaluate(study)
    assert [case.id for case in evaluation.failed] == ["bad", "gone"]
    assert evaluation.counts["scored"] == 6


def test_what_run_json_gives_up_or_does_not_know_is_said(tmp_path):
    study = usual(tmp_path)
    known = [{"id": case["id"], "state": "done"} for case in study.cases[1:]]
    known[0] |= {"state": "failed", "finding": {"text": "no memory"}}
    run = {"labels": {"0": "background", "1": "lesion"}, "cases": known}
    (study.predictions / "run.json").write_text(json.dumps(run))
    codes = {(finding.case, finding.code) for finding in _evaluate(study).findings}
    assert {("c0", "prediction-unlisted"), ("c1", "prediction-missing")} <= codes


def test_a_difference_to_picai_eval_is_an_error(tmp_path):
    evaluation = _evaluate(usual(tmp_path))
    assert differences_to_picai_eval(evaluation) == []
    wrong = replace(evaluation)
    wrong.__dict__["metrics"] = evaluation.metrics | {"ap": Estimate(value=0.123)}
    assert [finding.code for finding in differences_to_picai_eval(wrong)] == ["metrics"]


def test_several_classes_are_refused(tmp_path):
    study = usual(tmp_path)
    labels = {"0": "background", "1": "gland", "2": "lesion"}
    manifest = study.manifest.model_copy(update={"labels": labels})
    with pytest.raises(ConfigError, match="expected one class besides background"):
        evaluate_detections(manifest, root=study.root, predictions=study.predictions)


@pytest.mark.parametrize("overlap", [0.0, -0.1, 1.5, float("nan")])
def test_an_overlap_that_is_no_share_is_refused(tmp_path, overlap):
    with pytest.raises(ConfigError, match="minimum overlap"):
        _evaluate(usual(tmp_path), minimum_overlap=overlap)


def test_a_larger_overlap_is_harder_to_reach(tmp_path):
    study = Detections(tmp_path)
    study.add("a", volume((LEFT, 1)), volume(((slice(2, 4), slice(2, 5)), 0.9)))
    assert _evaluate(study, minimum_overlap=0.6).counts["found"] == 1
    assert _evaluate(study, minimum_overlap=0.7).counts["found"] == 0
