"""The demo's volume: blocks of a real template, and the thresholds beside it."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.core.errors import DependencyError
from medssl.data import template
from medssl.data.manifest import Manifest, load_manifest


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("template")
    return folder, template.write_blocks(folder)


def _box_mm(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    first = image.affine @ (0, 0, 0, 1)
    last = image.affine @ (*(np.array(image.shape) - 1), 1)
    return first[:3], last[:3]


def test_manifest_reads_back_with_labels_by_name_and_no_patient(written):
    folder, manifest = written
    assert load_manifest(folder / "manifest.json") == manifest
    assert manifest.labels == {"0": "other", "1": "grey matter", "2": "white matter"}
    assert [len(manifest.part(part)) for part in ("training", "unlabeled", "test")] == [6, 4, 6]
    assert all(case.patient is None for _, case in manifest.cases())


def test_all_blocks_lie_in_one_hemisphere(written):
    folder, manifest = written
    assert all(_box_mm(folder / case.image[0])[0][0] > 0 for _, case in manifest.cases())


def test_learning_blocks_end_8_mm_behind_the_first_test_block(written):
    folder, manifest = written
    learn = [_box_mm(folder / case.image[0])[1][1] for case in (*manifest.training, *manifest.unlabeled)]
    test = [_box_mm(folder / case.image[0])[0][1] for case in manifest.test]
    assert min(test) - max(learn) - 1 == 8


def test_blocks_do_not_overlap(written):
    folder, manifest = written
    boxes = [_box_mm(folder / case.image[0]) for _, case in manifest.cases()]
    for number, (first, last) in enumerate(boxes):
        for other_first, other_last in boxes[number + 1 :]:
            assert ((last < other_first) | (other_last < first)).any()


def test_blocks_keep_their_world_coordinates(written):
    folder, manifest = written
    whole = nib.load(folder / "whole.nii.gz")
    block = nib.load(folder / manifest.test[0].image[0])
    middle = np.array([18, 20, 24, 1])
    in_whole = np.rint(np.linalg.inv(whole.affine) @ block.affine @ middle)[:3].astype(int)
    assert whole.dataobj[tuple(in_whole)] == block.dataobj[tuple(middle[:3])]


def test_labels_lie_on_the_image_grid(written):
    folder, manifest = written
    case = manifest.training[0]
    image, label = nib.load(folder / case.image[0]), nib.load(folder / str(case.label))
    assert image.shape == label.shape
    assert np.array_equal(image.affine, label.affine)
    assert set(np.unique(label.dataobj)) == {0, 1, 2}


def test_unlabelled_blocks_have_no_label_file(written):
    folder, manifest = written
    assert all(case.label is None for case in manifest.unlabeled)
    assert len(list((folder / "labels").iterdir())) == 12


def test_writing_again_gives_the_same_bytes(written, tmp_path):
    folder, _ = written
    template.write_blocks(tmp_path)
    for path in sorted(folder.rglob("*.nii.gz")):
        again = tmp_path / path.relative_to(folder)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(again.read_bytes()).digest()


@pytest.mark.parametrize(
    ("grey", "white", "expected"),
    [(130, 100, 1), (100, 130, 2), (60, 60, 0), (120, 20, 1), (0, 0, 0), (110, 110, 1), (85, 85, 0)],
)
def test_most_probable_tissue_wins(grey, white, expected):
    labels = template.tissue_labels(np.uint8([grey]), np.uint8([white]))
    assert labels.tolist() == [expected]


def test_thresholds_separate_what_intensity_separates():
    image = np.uint8([10, 20, 100, 110, 200, 210])
    label = np.uint8([0, 0, 1, 1, 2, 2])
    fitted = template.fit_thresholds([image], [label])
    assert 20 < fitted.grey <= 100 and 110 < fitted.white <= 200
    assert template.threshold_dice([image], [label], fitted) == {"grey matter": 1.0, "white matter": 1.0}


def test_fitted_thresholds_equal_an_exhaustive_search():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, 400).astype(np.uint8)
    image = np.clip(40 * label + generator.normal(60, 25, 400), 0, 160).astype(np.uint8)

    def total(low: int, high: int) -> float:
        return sum(template.threshold_dice([image], [label], template.Thresholds(low, high)).values())

    best = max(total(low, high) for low in range(0, 161, 2) for high in range(low, 161, 2))
    fitted = template.fit_thresholds([image], [label])
    assert total(fitted.grey, fitted.white) >= best - 1e-12


def test_thresholds_on_the_real_blocks_are_a_strong_yardstick(written):
    scores = template.threshold_yardstick(*written)
    assert scores.keys() == {"grey matter", "white matter"}
    assert all(0.8 < score < 0.99 for score in scores.values())


def test_missing_nilearn_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"medssl\[demo\]"):
        template.write_blocks(tmp_path)
