"""Which cases are drawn, and what is said when one cannot be."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from medssl.reports import cases as cases_module
from medssl.reports.cases import choose_cases, draw_cases
from medssl.reports.sources import read_sources


def _metrics(*dice):
    return {"cases": [{"id": f"c{n}", "classes": {"a": {"dice": value}}} for n, value in enumerate(dice)]}


def test_worst_and_median_cases_are_chosen():
    chosen = choose_cases(_metrics(0.9, 0.2, 0.7, None, 0.5, 0.8), worst=2)
    assert [(role, case["id"]) for role, case in chosen] == [
        ("Worst case", "c1"),
        ("Second worst case", "c4"),
        ("Median case", "c2"),
    ]


def test_a_case_is_not_shown_twice():
    assert [role for role, _ in choose_cases(_metrics(0.5), worst=2)] == ["Worst case"]
    assert choose_cases(_metrics(None), worst=2) == []


def test_scored_cases_and_one_without_reference_are_drawn(study):
    pictures, findings = draw_cases(read_sources(list(study.values())), worst=1, unscored=1)
    assert [picture.role for picture in pictures] == ["Worst case", "Median case", "Without a reference"]
    assert findings == [] and all(picture.image.startswith("data:image/png") for picture in pictures)
    assert pictures[0].text.startswith("Dice: grey matter 0.")
    assert [name for _, name in pictures[2].legend] == ["grey matter", "white matter"]


def test_volumes_of_the_whole_template_are_plausible(study):
    pictures, _ = draw_cases(read_sources(list(study.values())), worst=0, unscored=1)
    assert pictures[-1].text.startswith("Predicted: grey matter 1082 ml")


def test_missing_manifest_or_predictions_are_said(study):
    for sources, text in (
        ([study["metrics"], study["predictions"]], "no manifest"),
        ([study["metrics"], study["manifest"]], "no output folder of medssl infer"),
    ):
        pictures, findings = draw_cases(read_sources(sources), worst=1, unscored=0)
        assert pictures == [] and all(text in finding.text for finding in findings) and findings


def test_prediction_on_another_grid_is_not_drawn(study, tmp_path):
    folder = tmp_path / "predictions"
    shutil.copytree(study["predictions"], folder)
    for path in folder.glob("front-*.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), path)
    _, findings = draw_cases(read_sources([study["metrics"], folder, study["manifest"]]), worst=1, unscored=0)
    assert all("another grid" in finding.text for finding in findings) and len(findings) == 2


def test_output_name_that_leaves_the_folder_is_not_followed(study, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    run = json.loads((study["predictions"] / "run.json").read_text())
    run["cases"] = [{"id": "front-01", "state": "done", "output": "../../front-01.nii.gz"}]
    (folder / "run.json").write_text(json.dumps(run))
    _, path = cases_module._find_prediction(read_sources([folder]).inferences, "front-01")
    assert path == folder / "front-01.nii.gz"


@pytest.mark.parametrize("swapped", [True, False])
def test_structures_are_matched_by_name(study, monkeypatch, swapped):
    seen = []

    def spy(image, prediction, reference, *, modality):
        seen.append(np.unique(prediction[reference == 2], return_counts=True))
        return "data:"

    sources = read_sources([study["metrics"], study["predictions"], study["manifest"]])
    if swapped:
        sources.inferences[0].content["labels"] = {"0": "other", "2": "grey matter", "1": "white matter"}
    monkeypatch.setattr(cases_module, "draw_comparison", spy)
    draw_cases(sources, worst=1, unscored=0)
    values, counts = seen[0]
    assert values[counts.argmax()] == (1 if swapped else 2)
