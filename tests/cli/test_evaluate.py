"""`medssl evaluate` in-process: files, table and exit codes."""

import csv
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from evaluation.small_detections import LEFT, Detections, usual, volume

from medssl.cli.main import run


@pytest.fixture
def study(tmp_path):
    """Four cases of four patients, a bar and a copy of it, with a run.json."""
    cases = []
    for index in range(4):
        labels = np.zeros((12, 10, 8), np.uint8)
        labels[2 : 8 + index % 2, 2:8, 2:6] = 1
        for folder in ("labels", "out"):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / folder / f"c{index}.nii.gz")
        cases.append(
            {"id": f"c{index}", "image": "i.nii.gz", "label": f"labels/c{index}.nii.gz", "patient": f"Doe{index}"}
        )
    content = {"name": "bars", "modality": "CT", "labels": {"0": "background", "1": "bar"}, "test": cases}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    done = [{"id": case["id"], "state": "done"} for case in cases]
    runs = {"labels": content["labels"], "cases": done, "bundle": {"name": "b", "weights_sha256": "ab"}}
    (tmp_path / "out" / "run.json").write_text(json.dumps(runs))
    return tmp_path


def evaluate(study, *more):
    return run(["evaluate", str(study / "out"), "--manifest", str(study / "manifest.json"), *more])


def test_scores_are_written_and_shown_with_the_policy(study, capsys):
    assert evaluate(study) == 0
    content = json.loads((study / "out" / "metrics.json").read_text())
    assert content["summary"]["bar"]["dice"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 4, "groups": 4}
    shown = " ".join(capsys.readouterr().out.split())
    assert "1.000 (n 4)" in shown
    assert "Policy: Each case and class is in one of four states." in shown


def test_inputs_are_named_by_hash_and_patients_not_at_all(study):
    evaluate(study)
    text = (study / "out" / "metrics.json").read_text()
    content = json.loads(text)
    inputs = content["medssl"]["inputs"]
    assert (len(inputs["manifest"]["sha256"]), inputs["bundle"]["weights_sha256"]) == (64, "ab")
    assert len(content["cases"][0]["prediction_sha256"]) == 64
    assert "Doe" not in text


def test_table_of_values_goes_to_the_chosen_folder(study):
    assert evaluate(study, "--out", str(study / "scores")) == 0
    with (study / "scores" / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[0]["case"], rows[0]["class"], rows[0]["dice"]) == ("c0", "bar", "1.0")
    assert not (study / "out" / "metrics.json").exists()


def test_some_failed_cases_give_code_3_and_are_named(study, capsys):
    (study / "out" / "c2.nii.gz").unlink()
    assert evaluate(study) == 3
    shown = capsys.readouterr().out
    assert "3 of 4 cases scored (1 failed)" in shown
    assert "error: prediction-missing: case c2:" in shown


def test_nothing_scored_gives_code_2_and_still_says_why(study):
    for path in (study / "out").glob("*.nii.gz"):
        path.unlink()
    assert evaluate(study) == 2
    content = json.loads((study / "out" / "metrics.json").read_text())
    assert (content["counts"]["failed"], len(content["findings"])) == (4, 4)


@pytest.mark.parametrize("options", [("--part", "tests"), ("--part", "training"), ("--tolerance-mm", "-1")])
def test_wrong_options_give_code_1(study, options):
    assert evaluate(study, *options) == 1
    assert not (study / "out" / "metrics.json").exists()


def test_a_misspelt_part_is_helped(study, capsys):
    evaluate(study, "--part", "tests")
    assert 'Did you mean "test"?' in capsys.readouterr().err


def test_class_names_with_brackets_are_shown_as_they_are(study, capsys):
    path = study / "manifest.json"
    path.write_text(path.read_text().replace('"bar"', '"[red]"'))
    (study / "out" / "run.json").unlink()
    assert evaluate(study) == 0
    assert "[red]" in capsys.readouterr().out


def test_data_root_may_be_elsewhere(study):
    (study / "elsewhere").mkdir()
    (study / "labels").rename(study / "elsewhere" / "labels")
    assert evaluate(study) == 2
    assert evaluate(study, "--data-root", str(study / "elsewhere")) == 0


def test_help_needs_neither_torch_nor_numpy():
    heavy = ("torch", "monai", "numpy", "nibabel")
    code = f"import sys, medssl.cli.evaluate; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_detections_are_scored_with_intervals_and_folds(tmp_path, capsys):
    study = usual(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(study.manifest.to_json()))
    assert evaluate(tmp_path, "--task", "detection", "--workers", "1") == 0
    shown = capsys.readouterr().out
    assert "AUROC (cases): 1.000 [1.000, 1.000]" in shown
    assert "2 of 3 lesions found" in shown
    assert "fold 2: 2 cases, 1 positive" in shown
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (content["task"], content["summary"]["ap"]["value"]) == ("detection", pytest.approx(2 / 3))
    assert (tmp_path / "out" / "metrics.csv").is_file()


def test_what_is_not_defined_is_said_and_not_scored_as_zero(tmp_path, capsys):
    study = Detections(tmp_path)
    study.add("a", volume((LEFT, 1)), volume())
    (tmp_path / "manifest.json").write_text(json.dumps(study.manifest.to_json()))
    assert evaluate(tmp_path, "--task", "detection", "--workers", "1") == 0
    shown = capsys.readouterr().out
    assert "AUROC (cases): not defined" in shown
    assert "Note: AUROC is not defined: all 1 scored cases are positive" in shown


def test_an_unknown_task_is_refused(study, capsys):
    assert evaluate(study, "--task", "detect") == 1
    assert 'Did you mean "detection"?' in " ".join(capsys.readouterr().err.split())
