"""Which cases are drawn, and what is said when one cannot be."""

from __future__ import annotations

import shutil
from functools import partial

import nibabel as nib
import numpy as np

from medssl.reports import viewer as viewer_module
from medssl.reports.cases import choose_cases, draw_cases
from medssl.reports.embedded import embed
from medssl.reports.sources import read_sources
from medssl.reports.viewer import ViewerFolder


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
    assert [picture.role for picture in pictures] == ["Worst case", "Median case", "Not scored"]
    assert findings == [] and all(picture.image.startswith("data:image/png") for picture in pictures)
    assert pictures[0].text.startswith("Dice: grey matter 0.")
    assert [name for _, _, name in pictures[2].legend] == ["grey matter", "white matter"]


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


def test_numbers_in_the_legend_are_those_in_the_picture(study):
    pictures, _ = draw_cases(read_sources([study["predictions"], study["whole"]]), worst=0, unscored=10)
    assert [(value, name) for _, value, name in pictures[0].legend] == [(1, "grey matter"), (2, "white matter")]


def test_named_cases_are_drawn_beside_the_chosen_ones(study):
    sources = read_sources(list(study.values()))
    pictures, findings = draw_cases(sources, worst=0, unscored=0, named=["front-03", "whole-template", "nobody"])
    assert [(picture.role, picture.id) for picture in pictures] == [
        ("Median case", "front-04"),
        ("Asked for, metrics", "front-03"),
        ("Asked for, without a reference", "whole-template"),
    ]
    assert [(finding.code, finding.case) for finding in findings] == [("no-picture", "nobody")]


def test_roles_name_their_scores_where_there_are_several(study, tmp_path):
    shutil.copytree(study["metrics"], tmp_path / "validation")
    sources = read_sources([*study.values(), tmp_path / "validation"])
    pictures, _ = draw_cases(sources, worst=1, unscored=0)
    assert [picture.role for picture in pictures] == [
        f"{role} of {name}" for name in ("metrics", "validation") for role in ("Worst case", "Median case")
    ]


def test_viewer_pages_are_written_for_the_cases_that_want_one(study, tmp_path):
    viewers = ViewerFolder(report=tmp_path / "r.html", title="T", cases=["front-04"])
    pictures, _ = draw_cases(read_sources(list(study.values())), worst=1, unscored=0, viewers=viewers)
    assert [picture.viewer for picture in pictures] == [None, "r_viewer/front-04.html"]
    assert [path.name for path in (tmp_path / "r_viewer").iterdir()] == ["front-04.html"]


def test_case_that_is_too_large_for_a_page_is_drawn_and_said(study, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer_module, "embed", partial(embed, most_voxels=1000))
    viewers = ViewerFolder(report=tmp_path / "r.html", title="T")
    pictures, findings = draw_cases(read_sources(list(study.values())), worst=1, unscored=0, viewers=viewers)
    assert [picture.viewer for picture in pictures] == [None, None]
    assert {finding.code for finding in findings} == {"no-viewer"}
    assert "expected at most 1,000 voxels" in findings[0].text and not (tmp_path / "r_viewer").exists()
