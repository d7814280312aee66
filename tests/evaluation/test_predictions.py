"""run.json and the matching of labels by name."""

import json

import pytest

from medssl.core.errors import ConfigError
from medssl.data.manifest import Manifest
from medssl.evaluation.predictions import PredictionFolder, match_labels, open_predictions


def manifest(**labels):
    return Manifest(name="m", modality="MR", labels={value[1:]: name for value, name in labels.items()})


TWO = manifest(v0="background", v1="anterior", v2="posterior")


def predicted(tmp_path, labels):
    return PredictionFolder(folder=tmp_path, labels=labels)


def test_equal_names_with_other_values_are_matched_by_name_and_told(tmp_path):
    classes, findings = match_labels(TWO, predicted(tmp_path, {0: "background", 1: "Posterior", 7: "anterior"}))
    assert classes == {"anterior": (1, 7), "posterior": (2, 1)}
    assert [finding.code for finding in findings] == ["labels-mapped"]
    assert "anterior 7 -> 1" in findings[0].text


def test_equal_names_and_values_need_no_word(tmp_path):
    labels = {0: "background", 1: "anterior", 2: "posterior"}
    assert match_labels(TWO, predicted(tmp_path, labels)) == ({"anterior": (1, 1), "posterior": (2, 2)}, [])


def test_a_class_that_the_bundle_does_not_know_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(ConfigError, match=r'posterior are not among.*Did you mean "posteriour"\?'):
        match_labels(TWO, predicted(tmp_path, {0: "background", 1: "anterior", 2: "posteriour"}))


def test_a_class_that_only_the_bundle_knows_is_a_warning(tmp_path):
    _, findings = match_labels(TWO, predicted(tmp_path, {1: "anterior", 2: "posterior", 3: "tail"}))
    assert [(finding.code, finding.severity) for finding in findings] == [("labels-extra", "warning")]


def test_without_run_json_the_values_are_assumed_and_that_is_told(tmp_path):
    classes, findings = match_labels(TWO, open_predictions(tmp_path))
    assert classes == {"anterior": (1, 1), "posterior": (2, 2)}
    assert [finding.code for finding in findings] == ["labels-assumed"]


def test_a_manifest_with_background_only_has_nothing_to_score(tmp_path):
    with pytest.raises(ConfigError, match="besides background"):
        match_labels(manifest(v0="background"), open_predictions(tmp_path))


def test_run_json_gives_labels_failures_and_hashes(tmp_path):
    case = {"id": "a", "state": "failed", "finding": {"text": "out of memory"}, "output_sha256": None}
    content = {"labels": {"0": "background", "1": "x"}, "cases": [case], "bundle": {"name": "b"}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    folder = open_predictions(tmp_path)
    assert (folder.labels, folder.failure("a"), folder.failure("b")) == (
        {0: "background", 1: "x"},
        "out of memory",
        None,
    )


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": {"x": "y"}, "cases": []}', '{"labels": {}}', '{"cases":[]}']
)
def test_a_run_json_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run\.json: expected"):
        open_predictions(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        open_predictions(tmp_path / "nowhere")


def _fold(folder, number, *cases, labels=None):
    part = folder / f"fold_{number}"
    part.mkdir()
    content = {"labels": labels or {"0": "background", "1": "a"}, "cases": [{"id": case} for case in cases]}
    (part / "run.json").write_text(json.dumps(content | {"bundle": {"name": f"b{number}"}}))


def test_folds_of_a_cross_validation_are_read_as_one(tmp_path):
    _fold(tmp_path, 0, "x", "y")
    _fold(tmp_path, 1, "z")
    found = open_predictions(tmp_path)
    assert list(found.cases) == ["x", "y", "z"]
    assert found.path("z") == tmp_path / "fold_1" / "z.nii.gz"
    assert [each["name"] for each in found.bundle["folds"]] == ["b0", "b1"]


def test_folds_that_share_a_case_or_differ_in_labels_are_refused(tmp_path):
    _fold(tmp_path, 0, "x")
    _fold(tmp_path, 1, "x")
    with pytest.raises(ConfigError, match="expected folds of different cases"):
        open_predictions(tmp_path)
    (tmp_path / "fold_1" / "run.json").unlink()
    (tmp_path / "fold_1").rmdir()
    _fold(tmp_path, 1, "z", labels={"0": "background", "1": "b"})
    with pytest.raises(ConfigError, match="the same labels"):
        open_predictions(tmp_path)
