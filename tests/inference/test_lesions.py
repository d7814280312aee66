"""What a lesion detector writes: maps on the grid of the image and of the T2W, and a list of candidates."""

import json
import logging
import shutil

import nibabel as nib
import numpy as np
import pytest
from data.small_exams import write_exam
from inference.tiny_bundle import make_tiny_bundle
from scipy import ndimage

from medssl.bundle.predictor import load_predictor
from medssl.core.errors import ConfigError
from medssl.data.exam_import import ExamOptions
from medssl.data.grids import Grid
from medssl.data.import_cases import ImportOptions
from medssl.data.importers import import_data
from medssl.data.manifest import save_manifest
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.inference.lesions import candidate_rule, lesion_maps, list_candidates, lost_candidates, on_t2w
from medssl.metrics.lesion_candidates import CandidateRule, require_detection_map

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


def _probabilities():
    probability = np.full((12, 12, 4), 0.05, np.float32)
    probability[2:5, 2:5, 1:3] = 0.8
    probability[8:11, 8:11, 1:3] = 0.4
    return np.stack([1 - probability, probability], axis=-1)


def test_the_lesion_class_becomes_a_probability_and_candidates():
    maps = lesion_maps(_probabilities(), CandidateRule())
    np.testing.assert_allclose(maps["lesion_probability"], _probabilities()[..., 1])
    assert np.unique(maps["detection_map"]).tolist() == pytest.approx([0, 0.4, 0.8])


def test_rounding_outside_of_probabilities_is_taken_back():
    probabilities = _probabilities()
    probabilities[0, 0, 0, 1] = 1 + 1e-6
    assert lesion_maps(probabilities, CandidateRule())["lesion_probability"].max() == 1


def test_candidates_are_listed_in_mm_the_most_confident_first():
    maps = lesion_maps(_probabilities(), CandidateRule())
    listed = list_candidates(maps["detection_map"], Grid(shape=(12, 12, 4), affine=AFFINE))
    assert listed[0] == {"confidence": pytest.approx(0.8), "volume_mm3": 13.5, "centre_mm": [1.5, 1.5, 4.5]}
    assert [each["confidence"] for each in listed] == pytest.approx([0.8, 0.4])
    assert list_candidates(np.zeros((2, 2, 2), np.float32), Grid(shape=(2, 2, 2), affine=AFFINE)) == []


def test_maps_on_a_finer_t2w_keep_one_confidence_a_candidate():
    maps = lesion_maps(_probabilities(), CandidateRule())
    native = Grid(shape=(30, 30, 4), affine=np.diag([0.3, 0.3, 3.0, 1.0]) + np.eye(4, k=3) * -0.6)
    moved = on_t2w(maps, Grid(shape=(12, 12, 4), affine=AFFINE), native)
    require_detection_map(moved["t2w_detection_map"])
    assert set(np.unique(moved["t2w_detection_map"])) == set(np.unique(maps["detection_map"]))
    voxels = (moved["t2w_detection_map"] > 0.7).sum() * 0.3 * 0.3 * 3
    assert voxels == pytest.approx((maps["detection_map"] > 0.7).sum() * 0.5 * 0.5 * 3, rel=0.2)
    assert not moved["t2w_lesion_probability"][0].any()  # outside the crop


@pytest.mark.parametrize("spacing", [(0.3, 0.3, 3.0), (0.6, 0.6, 3.0), (0.75, 0.75, 3.6), (1.0, 1.0, 5.0)])
def test_candidates_on_any_t2w_stay_apart_and_are_counted(spacing):
    rng, moved_count = np.random.default_rng(0), 0
    for _ in range(10):
        probability = rng.uniform(0.1, 0.9, (30, 30, 6)).astype(np.float32)
        probability[rng.random(probability.shape) < 0.9] = 0  # many small candidates, often one voxel apart
        maps = lesion_maps(np.stack([1 - probability, probability], -1), CandidateRule(mode=0.2, minimum_voxels=1))
        native = Grid(shape=tuple(int(15 / side) for side in spacing), affine=np.diag([*spacing, 1.0]))
        moved = on_t2w(maps, Grid(shape=probability.shape, affine=AFFINE), native)
        require_detection_map(moved["t2w_detection_map"])
        before, after = (
            ndimage.label(each, structure=np.ones((3, 3, 3)))[1]
            for each in (maps["detection_map"], moved["t2w_detection_map"])
        )
        assert after + len(lost_candidates(maps, moved)) == before
        moved_count += after
    assert moved_count > 100


@pytest.mark.parametrize("other", [0.6, 0.8])  # with the same confidence they would become one in silence
def test_of_two_that_touch_on_a_coarse_t2w_the_weaker_gives_way(other):
    detection = np.zeros((12, 12, 2), np.float32)
    detection[0:5], detection[6:12] = 0.8, other  # one voxel apart
    maps = {"lesion_probability": detection, "detection_map": detection}
    native = Grid(shape=(6, 6, 2), affine=np.diag([1.0, 1.0, 3.0, 1.0]))
    moved = on_t2w(maps, Grid(shape=detection.shape, affine=AFFINE), native)
    assert moved["t2w_detection_map"][:, 0, 0].tolist() == pytest.approx([0.8, 0.8, 0.8, 0, other, other])
    assert lost_candidates(maps, moved) == []


def test_a_candidate_between_the_voxels_of_the_t2w_is_named():
    detection = np.zeros((12, 12, 2), np.float32)
    detection[1, 1, 0], detection[6:9, 6:9] = 0.9, 0.4
    maps = {"lesion_probability": detection, "detection_map": detection}
    native = Grid(shape=(4, 4, 2), affine=np.diag([1.5, 1.5, 3.0, 1.0]))
    moved = on_t2w(maps, Grid(shape=detection.shape, affine=AFFINE), native)
    assert lost_candidates(maps, moved) == pytest.approx([0.9])


def test_settings_of_a_bundle_are_read_strictly():
    assert candidate_rule(None) is None
    assert candidate_rule({"mode": "dynamic-v2", "most": 3}) == CandidateRule(mode="dynamic-v2", most=3)
    for wrong in ({"mod": "dynamic-v2"}, ["dynamic-v2"]):
        with pytest.raises(ConfigError, match="lesion_candidates: expected some of"):
            candidate_rule(wrong)


def _bundle(folder, classes=2):
    make_tiny_bundle(folder, spacing=(0.5, 0.5, 3.0), roi=(16, 16, 4), classes=classes, channels=3)
    file = folder / "configs" / "inference.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"lesion_candidates": {"minimum_voxels": 5}}))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An imported exam, and what a detector with random weights writes for it; the second run skips it."""
    root = tmp_path_factory.mktemp("run")
    write_exam(root / "source" / "exam", spacing=(0.4, 0.4, 3.0))
    options = ImportOptions(root=root, exams=ExamOptions(crop=(24, 24, 5)))
    save_manifest(root / "manifest.json", import_data(root / "source", options, layout="bpmri").manifest)
    with load_predictor(_bundle(root / "tiny"), device="cpu", workers=1) as predictor:
        cases = gather_cases([root / "manifest.json"])
        first = run_batch(predictor, cases, root / "out")
        return root, first[0], run_batch(predictor, cases, root / "out")[0]


def test_maps_lie_on_the_grids_of_image_and_t2w(run):
    root, record, _ = run
    prepared, t2w = nib.load(root / "exams/exam/t2w.nii.gz"), (40, 40, 5)
    for name in ("lesion_probability", "detection_map"):
        own, on_t2w_grid = (nib.load(root / "out" / f"exam_{start}{name}.nii.gz") for start in ("", "t2w_"))
        np.testing.assert_allclose(own.affine, prepared.affine, atol=1e-4)
        assert (own.shape, on_t2w_grid.shape) == (prepared.shape, t2w)
    assert record["state"] == "done"


def test_the_record_lists_candidates_and_hashes(run):
    root, record, _ = run
    detection = nib.load(root / "out/exam_detection_map.nii.gz").get_fdata()
    assert record["lesion_candidates"][0]["confidence"] == pytest.approx(detection.max(), abs=1e-6)
    assert len(record["more_outputs"]) == 4
    settings = json.loads((root / "out/run.json").read_text())["settings"]
    assert settings["lesion_candidates"]["minimum_voxels"] == 5


def test_a_finished_case_keeps_its_candidates(run):
    _, record, again = run
    assert again["state"] == "skipped"
    assert again["lesion_candidates"] == record["lesion_candidates"]


def test_the_record_names_candidates_that_the_t2w_cannot_hold(run, tmp_path, monkeypatch):
    root, _, _ = run
    lost = np.zeros((40, 40, 5), np.float32)
    monkeypatch.setattr("medssl.inference.batch.on_t2w", lambda *_: {"t2w_detection_map": lost})
    with load_predictor(root / "tiny", device="cpu", workers=1) as predictor:
        cases = gather_cases([root / "manifest.json"])
        (record,), (again,) = (run_batch(predictor, cases, tmp_path / "out") for _ in range(2))
    count = len(record["lesion_candidates"])
    assert (record["state"], record["finding"]["code"]) == ("done", "candidate-lost")
    assert f"found {count} of {count} without a voxel" in record["finding"]["text"]
    assert again["finding"] == record["finding"]


def test_a_case_whose_exam_record_is_damaged_leaves_nothing_half_written(run, tmp_path):
    root, _, _ = run
    shutil.copytree(root / "exams", tmp_path / "exams")
    shutil.copy(root / "manifest.json", tmp_path)
    (tmp_path / "exams" / "exam" / "exam.json").write_text("{")
    with load_predictor(root / "tiny", device="cpu", workers=1) as predictor:
        (record,) = run_batch(predictor, gather_cases([tmp_path / "manifest.json"]), tmp_path / "out")
    assert (record["state"], record["finding"]["code"]) == ("failed", "exam-record")
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == []


def test_images_that_no_import_recorded_are_told_once_to_have_no_maps_on_the_t2w(run, tmp_path, caplog):
    root, _, _ = run
    shutil.copytree(root / "exams", tmp_path / "exams")
    shutil.copy(root / "manifest.json", tmp_path)
    (tmp_path / "exams" / "exam" / "exam.json").unlink()
    caplog.set_level(logging.INFO, logger="medssl.inference")
    with load_predictor(root / "tiny", device="cpu", workers=1) as predictor:
        cases = gather_cases([tmp_path / "manifest.json"])
        for _ in range(2):
            (done,) = run_batch(predictor, cases, tmp_path / "out", skip_finished=False)
    assert done["state"] == "done"
    assert not [name for name in done["more_outputs"] if "t2w" in name]
    told = [each for each in caplog.messages if "grid of the images alone" in each]
    assert len(told) == 2  # once in each run


def test_a_sequence_alone_is_refused_before_the_network_runs(run, tmp_path):
    root, _, _ = run
    shutil.copytree(root / "tiny", tmp_path / "tiny")
    path = tmp_path / "tiny" / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    names = {"0": "T2W", "1": "ADC", "2": "high-b DWI"}
    content["network_data_format"]["inputs"] = {"image": {"num_channels": 3, "channel_def": names}}
    path.write_text(json.dumps(content))
    with load_predictor(tmp_path / "tiny", device="cpu", workers=1) as predictor:
        (record,) = run_batch(predictor, gather_cases([root / "exams/exam/t2w.nii.gz"]), tmp_path / "out")
    assert record["finding"]["code"] == "channels"
    assert "expected 3 image files a case (T2W, ADC, high-b DWI), found 1" in record["finding"]["text"]


def test_probabilities_are_those_of_the_label_map(run):
    root, _, _ = run
    labels = nib.load(root / "out/exam.nii.gz").get_fdata()
    probability = nib.load(root / "out/exam_lesion_probability.nii.gz").get_fdata()
    np.testing.assert_array_equal(labels > 0, probability > 0.5)


def test_lesions_of_three_classes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one lesion class, found 3 classes"):
        load_predictor(_bundle(tmp_path / "tiny", classes=3), device="cpu")
