"""Which detection cases are drawn, and what is said where one cannot be."""

import json
import shutil

import nibabel as nib
import numpy as np
from reports.detection_study import write_study

from medssl.core.files import sha256_file
from medssl.reports import detection_cases
from medssl.reports.detection_cases import choose_detections, draw_detections
from medssl.reports.sources import read_sources


def _metrics(sources):
    return json.loads((sources[2] / "metrics.json").read_text())


def test_cases_are_chosen_by_what_went_wrong(tmp_path):
    metrics = _metrics(write_study(tmp_path))
    chosen = [(role, case["id"]) for role, case in choose_detections(metrics, worst=2)]
    assert chosen == [
        ("Missed lesion", "c4"),
        ("Most confident false candidate", "c5"),
        ("Most confident false candidate", "c3"),
        ("Found lesion", "c0"),
    ]


def test_pictures_say_what_was_found(tmp_path):
    pictures, findings = draw_detections(read_sources(write_study(tmp_path)), worst=1)
    assert findings == []
    assert pictures[0].text == "0 of 1 lesions found; candidates: 0.60 (false)"
    assert pictures[-1].text == "1 of 1 lesions found; candidates: 0.90 (on a lesion)"


def test_the_plane_goes_through_the_lesion_or_candidate_that_is_meant(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection_cases, "draw_sequences", lambda *_, plane, **__: drawn.append(plane) or "")
    sources = write_study(tmp_path)
    path = sources[2] / "metrics.json"
    metrics = json.loads(path.read_text())
    by_id = {case["id"]: case for case in metrics["cases"]}
    by_id["c4"]["missed_centres"] = [[1.0, 2.0, 3.4]]
    by_id["c5"]["candidates"][0]["centre"] = [0.0, 0.0, 2.0]
    by_id["c0"]["candidates"][0]["centre"] = [0.0, 0.0, 1.0]
    path.write_text(json.dumps(metrics))
    draw_detections(read_sources(sources), worst=1)
    assert drawn == [3, 2, 1]


def test_the_plane_is_right_for_files_whose_axes_the_report_turns(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection_cases, "draw_sequences", lambda *_, plane, **__: drawn.append(plane) or "")
    sources = write_study(tmp_path)
    metrics = _metrics(sources)
    case = next(each for each in metrics["cases"] if each["id"] == "c4")
    case["missed_centres"] = [[1.0, 2.0, 1.0]]
    for path in [sources[1] / "c4_detection_map.nii.gz", *tmp_path.glob("c4_*.nii.gz")]:
        image = nib.load(path)
        turned = image.affine @ np.diag([1.0, 1.0, -1.0, 1.0])
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), turned), path)
        planes = image.shape[2]
    case["prediction_sha256"] = sha256_file(sources[1] / "c4_detection_map.nii.gz")
    (sources[2] / "metrics.json").write_text(json.dumps(metrics))
    draw_detections(read_sources(sources), worst=1)
    assert drawn[0] == planes - 2


def test_another_map_than_the_one_that_was_scored_is_not_drawn(tmp_path):
    sources = write_study(tmp_path)
    shutil.copy(sources[1] / "c0_detection_map.nii.gz", sources[1] / "c4_detection_map.nii.gz")
    pictures, findings = draw_detections(read_sources(sources), worst=1)
    assert "c4" not in [picture.id for picture in pictures]
    assert "another detection map of it than the one that was scored" in findings[0].text


def test_a_case_without_its_map_or_image_is_a_finding(tmp_path):
    sources = write_study(tmp_path)
    (sources[1] / "c4_detection_map.nii.gz").unlink()
    (tmp_path / "c5_adc.nii.gz").unlink()
    pictures, findings = draw_detections(read_sources(sources), worst=1)
    assert [picture.id for picture in pictures] == ["c0"]
    assert [(finding.case, finding.code) for finding in findings] == [("c4", "no-picture"), ("c5", "no-picture")]


def test_without_manifest_nothing_is_drawn_and_it_is_said(tmp_path):
    sources = write_study(tmp_path / "study")
    pictures, findings = draw_detections(read_sources(sources[1:]), worst=1)
    assert pictures == []
    assert "no manifest among the sources" in findings[0].text
    shutil.rmtree(tmp_path / "study")
