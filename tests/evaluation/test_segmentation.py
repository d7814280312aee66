"""A folder against a manifest, and arrays in memory: the same numbers, nothing dropped."""

import json

import numpy as np
import pytest

from medssl.core.errors import ConfigError
from medssl.evaluation import ArrayCase, evaluate_arrays, evaluate_segmentations
from medssl.evaluation.segmentation import _choose_workers

SPACING = (2.0, 1.5, 3.0)


def evaluate(study, **options):
    return evaluate_segmentations(study.manifest, root=study.root, predictions=study.predictions, **options)


def write_run(study, labels, *cases):
    (study.predictions / "run.json").write_text(json.dumps({"labels": labels, "cases": cases}))


def test_folder_and_arrays_give_the_same_scores(study, tissue, shifted):
    for voxels in range(4):
        study.add(f"c{voxels}", tissue, shifted(voxels), patient=f"Doe {voxels}")
    cases = [
        ArrayCase(id=f"c{v}", group=f"Doe {v}", reference=tissue, prediction=shifted(v), spacing_mm=SPACING)
        for v in range(4)
    ]
    expected = evaluate_arrays(iter(cases), labels=study.labels).to_json()
    found = evaluate(study).to_json()
    assert found["summary"] == expected["summary"]
    assert [case["classes"] for case in found["cases"]] == [case["classes"] for case in expected["cases"]]
    assert found["summary"]["grey"]["dice"]["mean"] < 1.0 == found["cases"][0]["classes"]["grey"]["dice"]


def test_two_processes_give_the_same_result_in_the_same_order(study, tissue, shifted):
    for voxels in (3, 0, 2, 1):
        study.add(f"c{voxels}", tissue, shifted(voxels))
    study.add("c9", tissue)
    assert evaluate(study, workers=2).to_json() == evaluate(study, workers=1).to_json()


def test_bad_cases_are_counted_and_do_not_stop_the_rest(study, tissue):
    study.add("good", tissue, tissue)
    study.add("none", tissue)
    study.add("grid", tissue, tissue, affine=np.eye(4))
    content = evaluate(study).to_json()
    assert content["counts"] == {"cases": 3, "scored": 1, "failed": 2, "groups": 1}
    assert [each["id"] for each in content["failed"]] == ["none", "grid"]
    errors = [each["code"] for each in content["findings"] if each["severity"] == "error"]
    assert errors == ["prediction-missing", "prediction-affine"]


def test_a_case_that_failed_in_the_run_is_not_scored_on_an_old_file(study, tissue):
    study.add("a", tissue, tissue)
    labels = {"0": "background", "1": "grey", "2": "white"}
    write_run(study, labels, {"id": "a", "state": "failed", "finding": {"text": "image is truncated"}})
    result = evaluate(study)
    assert (result.scored, result.findings[-1].code) == ((), "prediction-missing")
    assert "image is truncated" in result.findings[-1].text


def test_a_label_map_of_another_run_is_told(study, tissue):
    study.add("a", tissue, tissue)
    study.add("b", tissue, tissue)
    write_run(study, study.labels, {"id": "a", "state": "done"})
    result = evaluate(study)
    told = [(each.case, each.severity) for each in result.findings if each.code == "prediction-unlisted"]
    assert told == [("b", "warning")]
    assert len(result.scored) == 2


def test_labels_are_matched_by_name(study, tissue):
    swapped = np.array([0, 2, 1], np.uint8)[tissue]
    study.add("a", tissue, swapped)
    write_run(study, {"0": "background", "1": "white", "2": "grey"})
    result = evaluate(study)
    assert result.mean["dice"].mean == 1.0
    assert "labels-mapped" in [finding.code for finding in result.findings]


def test_missed_and_false_structures_are_in_no_distance_but_in_the_counts(study, tissue):
    grey, white = np.where(tissue == 1, 1, 0).astype(np.uint8), np.where(tissue == 2, 2, 0).astype(np.uint8)
    study.add("missed white, false grey", white, grey)
    study.add("both", tissue, tissue)
    study.labels["3"] = "lesion"
    summary = evaluate(study).to_json()["summary"]
    assert summary["white"]["counts"] == {"both": 1, "missed": 1, "false": 0, "absent": 0}
    assert summary["grey"]["counts"] == {"both": 1, "missed": 0, "false": 1, "absent": 0}
    assert (summary["white"]["hd95_mm"]["n"], summary["white"]["dice"]["mean"]) == (1, 0.5)
    assert (summary["lesion"]["evaluated"], summary["lesion"]["dice"]["mean"]) == (False, None)


def test_patients_stay_together_and_never_reach_the_result(study, tissue):
    for case_id, patient in (("a", "Doe^Jane"), ("b", "Roe^Rick"), ("c", "Doe^Jane")):
        study.add(case_id, tissue, tissue, patient=patient)
    result = evaluate(study)
    text = json.dumps(result.to_json()) + result.to_csv()
    assert [case.group for case in result.cases] == ["g001", "g002", "g001"]
    assert not {"Doe", "Roe", "Jane"} & set(text.replace("^", " ").replace('"', " ").split())


def test_cases_without_a_patient_are_told(study, tissue):
    study.add("a", tissue, tissue)
    assert "patients-unknown" in [finding.code for finding in evaluate(study).findings]


def test_cases_without_a_label_are_a_warning(study, tissue):
    study.add("a", tissue, tissue)
    study.cases.append({"id": "b", "image": "b.nii.gz"})
    result = evaluate(study)
    assert [(f.code, f.case, f.severity) for f in result.findings if f.case] == [("reference-absent", "b", "warning")]


def test_a_part_without_labels_names_the_others(study, tissue):
    study.add("a", tissue, tissue)
    with pytest.raises(ConfigError, match=r"part validation.*test \(1\)"):
        evaluate(study, part="validation")


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_no_length_is_refused(study, tissue, tolerance):
    study.add("a", tissue, tissue)
    with pytest.raises(ConfigError, match="length in mm"):
        evaluate(study, tolerance_mm=tolerance)


def test_csv_has_a_row_for_each_case_and_class_even_when_it_failed(study, tissue):
    study.add("a", tissue, tissue)
    study.add("b", tissue)
    rows = evaluate(study).to_csv().splitlines()
    assert rows[1].startswith("a,g001,grey,both,1.0,0.0,1.0,0.0,0.0")
    assert rows[3:] == ["b,g002,grey,failed,,,,,", "b,g002,white,failed,,,,,"]


def test_processes_are_started_only_for_much_work():
    assert _choose_workers([36 * 50 * 35] * 200) == 1
    assert _choose_workers([]) == 1
    assert _choose_workers([512 * 512 * 400] * 2) in (1, 2)


def test_a_volume_beyond_memory_is_worked_on_alone():
    assert _choose_workers([10**15, 10**15]) == 1


def test_real_hippocampi_score_perfectly_against_themselves(shared_data, study):
    study.root = shared_data / "hippocampus"
    study.predictions = study.root / "labelsTr"
    study.labels = {"0": "background", "1": "anterior", "2": "posterior"}
    names = sorted(path.name for path in study.predictions.glob("*.nii.gz"))[:5]
    study.cases = [{"id": name[:-7], "image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    result = evaluate(study)
    assert {metric: interval.mean for metric, interval in result.mean.items()} == {"dice": 1, "hd95_mm": 0, "nsd": 1}
