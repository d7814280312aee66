"""The volumes of a case: the right files, on one grid, with structures matched by name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from medssl.core.errors import MedsslError
from medssl.core.files import sha256_file
from medssl.reports.case_volumes import find_prediction, load_case, match_by_name
from medssl.reports.sources import Evaluation, read_sources


def _evaluation(name, run_sha256):
    return Evaluation(name=name, content={"medssl": {"inputs": {"run": {"sha256": run_sha256}}}, "cases": []})


def _load(sources, case_id):
    evaluation = sources.evaluations[0]
    scores = next(case for case in evaluation.content["cases"] if case["id"] == case_id)
    return load_case(sources, case_id, evaluation=evaluation, scores=scores)


@pytest.mark.parametrize("swapped", [True, False])
def test_structures_are_matched_by_name(study, swapped):
    sources = read_sources([study["metrics"], study["predictions"], study["manifest"]])
    if swapped:
        sources.inferences[0].content["labels"] = {"0": "other", "2": "grey matter", "1": "white matter"}
    case = _load(sources, "front-01")
    values, counts = np.unique(case.prediction[case.reference == 2], return_counts=True)
    assert values[counts.argmax()] == (1 if swapped else 2)


def test_structure_that_the_manifest_does_not_know_takes_no_other_ones_value():
    prediction = np.array([[[0, 1, 2, 3]]], dtype=np.uint8)
    labels, names = match_by_name(prediction, {0: "other", 1: "tumour", 2: "liver", 3: "cyst"}, {0: "rest", 1: "liver"})
    assert [names[int(value)] for value in labels.ravel()] == ["rest", "tumour", "liver", "cyst"]
    assert len(set(labels.ravel().tolist())) == 4


def test_labels_without_names_stay_what_they_are():
    prediction = np.array([[[0, 1, 2]]], dtype=np.uint8)
    assert match_by_name(prediction, {}, {0: "rest", 1: "liver"})[0] is prediction


def test_only_scored_structures_of_the_reference_are_kept(study):
    sources = read_sources([study["metrics"], study["predictions"], study["manifest"]])
    for scores in sources.evaluations[0].content["cases"]:
        del scores["classes"]["grey matter"]
    assert np.unique(_load(sources, "front-01").reference).tolist() == [0, 2]


def test_volume_counts_voxels_times_their_size(study):
    case = _load(read_sources([study["metrics"], study["predictions"], study["manifest"]]), "front-01")
    assert case.values() == [1, 2] and case.name(1) == "grey matter" and case.name(9) == "9"
    assert case.volume_ml(case.prediction, 1) == pytest.approx((case.prediction == 1).sum() / 1000)


def test_scores_are_shown_with_the_label_maps_they_were_made_from(study, tmp_path):
    shutil.copytree(study["predictions"], tmp_path / "second")
    run = json.loads((tmp_path / "second" / "run.json").read_text())
    (tmp_path / "second" / "run.json").write_text(json.dumps({**run, "wall_seconds": 1.0}))
    sources = read_sources([study["predictions"], tmp_path / "second"])
    first, second = (sha256_file(run.folder / "run.json") for run in sources.inferences)
    sources.evaluations += [_evaluation("a", second), _evaluation("b", first)]
    found = [find_prediction(sources, "front-01", evaluation=each)[0].name for each in sources.evaluations]
    assert found == ["second", "predictions"]


def test_label_maps_of_other_scores_are_not_taken(study):
    sources = read_sources([study["predictions"]])
    sources.evaluations += [_evaluation("a", "gone"), _evaluation("b", sources.inferences[0].sha256)]
    with pytest.raises(MedsslError, match="no output folder"):
        find_prediction(sources, "front-01", evaluation=sources.evaluations[0])
    sources.evaluations.pop()  # nothing else claims them: a run that was continued has another hash
    assert find_prediction(sources, "front-01", evaluation=sources.evaluations[0])[0].name == "predictions"


def test_output_name_that_leaves_the_folder_is_not_followed(study, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    run = json.loads((study["predictions"] / "run.json").read_text())
    run["cases"] = [{"id": "front-01", "state": "done", "output": "../../front-01.nii.gz"}]
    (folder / "run.json").write_text(json.dumps(run))
    _, path = find_prediction(read_sources([folder]), "front-01", evaluation=None)
    assert path == folder / "front-01.nii.gz"


def test_cases_that_a_run_held_out_are_drawn_from_its_own_predictions(study, tmp_path):
    results = tmp_path / "bundle" / "results"
    shutil.copytree(study["predictions"], results / "validation")
    shutil.copy(next(study["metrics"].glob("metrics.json")), results)
    sources = read_sources([results / "metrics.json", study["manifest"], study["predictions"]])
    inference, path = find_prediction(sources, "front-01", evaluation=sources.evaluations[0])
    assert path == results / "validation" / "front-01.nii.gz"
    assert [each.folder for each in sources.inferences] == [study["predictions"]]
    assert inference.folder == results / "validation"
