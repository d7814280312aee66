"""Volumes of a pre-training: without labels, at least two, of one orientation, long enough."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.core.errors import ConfigError, GeometryError
from medssl.methods.global_local import pretraining_cases


def _write(folder: Path, shapes: list[tuple[int, int, int]], *, codes: str = "RAS") -> str:
    for number, shape in enumerate(shapes):
        turn = nib.orientations.axcodes2ornt(codes if number == 1 else "RAS")
        image = nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4))
        nib.save(image.as_reoriented(turn), folder / f"{number}.nii.gz")
    cases = [{"id": f"case_{number}", "image": f"{number}.nii.gz"} for number in range(len(shapes))]
    content = {"name": "images", "modality": "MR", "labels": {"0": "background", "1": "heart"}, "unlabeled": cases}
    (folder / "manifest.json").write_text(json.dumps(content))
    return str(folder / "manifest.json")


def test_images_need_no_label_file(tmp_path: Path) -> None:
    cases = pretraining_cases(manifest=_write(tmp_path, [(5, 5, 6)] * 2))
    assert [case["case_id"] for case in cases] == ["case_0", "case_1"]
    assert all("label" not in case for case in cases)


def test_labels_of_training_cases_are_not_listed(tmp_path: Path) -> None:
    manifest = Path(_write(tmp_path, [(5, 5, 6)] * 2))
    content = json.loads(manifest.read_text())
    content["training"] = [content["unlabeled"].pop() | {"label": "absent.nii.gz"}]
    manifest.write_text(json.dumps(content))
    cases = pretraining_cases(manifest=str(manifest))
    assert len(cases) == 2
    assert all("label" not in case for case in cases)


def test_one_volume_cannot_be_compared_with_others(tmp_path: Path) -> None:
    manifest = _write(tmp_path, [(5, 5, 6)])
    with pytest.raises(ConfigError, match="found only case case_0"):
        pretraining_cases(manifest=manifest)
    with pytest.raises(ConfigError, match="'refused'"):
        pretraining_cases(manifest=manifest, orientation="refused")
    assert len(pretraining_cases(manifest=manifest, across_volumes=False)) == 1


def test_a_volume_with_fewer_slices_than_partitions_is_named(tmp_path: Path) -> None:
    manifest = _write(tmp_path, [(5, 5, 6), (5, 5, 3), (5, 5, 2)])
    short = r"4 slices along SI.* fewer in case_1 \(3 in 1.nii.gz\), case_2 \(2 in 2.nii.gz\)\. Take"
    with pytest.raises(GeometryError, match=short):
        pretraining_cases(manifest=manifest)
    manifest = _write(tmp_path, [(5, 5, 6), (5, 5, 3)])
    assert len(pretraining_cases(manifest=manifest, cells=(1, 1, 3))) == 2


def test_slices_are_counted_along_the_axis_of_the_body(tmp_path: Path) -> None:
    manifest = _write(tmp_path, [(5, 5, 6), (5, 5, 3)], codes="SRA")
    with pytest.raises(GeometryError, match=r"case_1 \(3 in"):
        pretraining_cases(manifest=manifest)


def test_mixed_orientations_are_reoriented_or_refused_by_key(tmp_path: Path) -> None:
    manifest = _write(tmp_path, [(5, 5, 6)] * 3, codes="LPS")
    assert len(pretraining_cases(manifest=manifest)) == 3
    with pytest.raises(GeometryError, match=r"expected RAS as in 2 volumes, found others in: case_1 \(LPS\)"):
        pretraining_cases(manifest=manifest, orientation="refuse")


@pytest.mark.parametrize("part", ["unlabelled", "test", "validation"])
def test_a_part_that_is_not_learnt_from_is_refused(tmp_path: Path, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        pretraining_cases(manifest=_write(tmp_path, [(5, 5, 6)] * 2), parts=["unlabeled", part])
