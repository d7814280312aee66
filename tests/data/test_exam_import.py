"""One exam: its sequences meet on one grid, faults are one clear finding each, and nothing names a person."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
from data.small_exams import grid, lesion, positions, save, save_itk, t2w_grid, write_exam

from medssl.core.errors import GeometryError
from medssl.data.exam_files import find_exams
from medssl.data.exam_import import ExamJob, ExamOptions, import_exam, native_grid

OPTIONS = {"crop": (36, 36, 5)}


def _run(source, *, replace=True, **options):
    (exam,), _ = find_exams(source)
    wanted = ExamOptions(**OPTIONS | options)
    return import_exam(ExamJob(exam=exam, folder=source.parent / "out", options=wanted, replace=replace))


def _codes(result):
    return [(finding.code, finding.severity) for finding in result.findings]


def _read(tmp_path, name):
    return nib.load(tmp_path / "out" / f"{name}.nii.gz")


def test_three_sequences_and_the_lesion_meet_on_one_grid(tmp_path):
    result = _run(write_exam(tmp_path / "exam"))
    assert (_codes(result), result.significant) == ([], True)
    images = {name: _read(tmp_path, name) for name in ("t2w", "adc", "hbv", "label")}
    assert {image.shape for image in images.values()} == {(36, 36, 5)}
    label = images["label"].get_fdata() > 0
    np.testing.assert_array_equal(label, lesion(positions((36, 36, 5), images["label"].affine)))
    adc, hbv = images["adc"].get_fdata(), images["hbv"].get_fdata()
    assert adc[label].mean() < adc[~label].mean() - 1
    assert hbv[label].mean() > hbv[~label].mean() + 1


def test_the_t2w_grid_can_be_found_again(tmp_path):
    _run(write_exam(tmp_path / "exam"))
    grid, (shape, affine) = native_grid(tmp_path / "out"), t2w_grid()
    assert grid.shape == shape
    np.testing.assert_allclose(grid.affine, affine, atol=1e-6)
    assert native_grid(tmp_path) is None
    (tmp_path / "out" / "exam.json").write_text("{}")
    with pytest.raises(GeometryError, match="expected the grid of the exam's T2W"):
        native_grid(tmp_path / "out")


def test_no_name_of_a_person_reaches_the_results(tmp_path):
    _run(write_exam(tmp_path / "exam"))
    for path in (tmp_path / "out").iterdir():
        content = nib.load(path).header.binaryblock if path.suffix == ".gz" else path.read_bytes()
        assert b"DOE" not in content


@pytest.mark.parametrize(("grade", "kind", "significant"), [(1, "isup", False), (2, "isup", True), (1, "binary", True)])
def test_what_is_significant_depends_on_what_values_mean(tmp_path, grade, kind, significant):
    assert _run(write_exam(tmp_path / "exam", grade=grade), label_values=kind).significant is significant


def test_an_exam_without_a_label_is_unlabelled(tmp_path):
    assert _run(write_exam(tmp_path / "exam", label=False)).significant is None
    assert not (tmp_path / "out" / "label.nii.gz").exists()


def test_a_missing_sequence_is_one_finding(tmp_path):
    (write_exam(tmp_path / "exam") / "adc.mha").unlink()
    (finding,) = _run(tmp_path / "exam").findings
    assert (finding.code, finding.case) == ("sequence-missing", "exam")
    assert "found no ADC beside" in finding.text


def test_a_sequence_there_twice_is_one_finding(tmp_path):
    folder = write_exam(tmp_path / "exam")
    (folder / "T2.mha").write_bytes((folder / "t2w.mha").read_bytes())
    assert _codes(_run(folder)) == [("sequence-twice", "error")]


def test_sequences_that_do_not_overlap_are_one_finding_each(tmp_path):
    result = _run(write_exam(tmp_path / "exam", shift=(0, 0, 200)))
    assert _codes(result) == [("sequence-overlap", "error")] * 2


def test_a_small_field_of_view_is_one_warning(tmp_path):
    assert _codes(_run(write_exam(tmp_path / "exam"), crop=(80, 80, 8))) == [("t2w-coverage", "warning")]


def test_diffusion_beside_most_of_the_crop_is_one_error_each(tmp_path):
    result = _run(write_exam(tmp_path / "exam", shift=(20, 0, 0)))
    assert _codes(result) == [("sequence-coverage", "error")] * 2
    assert not (tmp_path / "out").exists()


def test_a_sequence_of_four_dimensions_gets_a_remedy_for_exams(tmp_path):
    folder = write_exam(tmp_path / "exam")
    save(folder / "hbv.nii.gz", np.zeros((14, 12, 5, 2), np.int16), np.eye(4))
    (finding,) = _run(folder).findings
    assert (finding.code, finding.where) == ("image-dimensions", "hbv.nii.gz")
    assert finding.fix.startswith("Write one 3D volume")


@pytest.mark.parametrize("factor", [0.001, 0.1, 10, 1000])
def test_adc_in_wrong_units_is_one_finding(tmp_path, factor):
    assert _codes(_run(write_exam(tmp_path / "exam", adc_factor=factor))) == [("adc-units", "error")]
    assert not (tmp_path / "out").exists()


def test_a_coarse_t2w_is_one_finding(tmp_path):
    assert _codes(_run(write_exam(tmp_path / "exam", spacing=(1.2, 1.2, 3.0)))) == [("t2w-spacing", "error")]


def test_a_label_on_another_grid_is_one_finding(tmp_path):
    folder = write_exam(tmp_path / "exam")
    shape, affine = t2w_grid()
    save(folder / "lesion.nii.gz", np.zeros(shape, np.uint8), affine @ nib.affines.from_matvec(np.eye(3), [3, 0, 0]))
    assert _codes(_run(folder)) == [("label-affine", "error")]


def test_an_unknown_grade_is_refused(tmp_path):
    assert _codes(_run(write_exam(tmp_path / "exam", grade=6))) == [("label-value", "error")]
    assert _codes(_run(tmp_path / "exam", label_values="binary")) == [("label-value", "error")]


def test_two_faults_are_two_findings(tmp_path):
    folder = write_exam(tmp_path / "exam", adc_factor=10, grade=9)
    assert [code for code, _ in _codes(_run(folder))] == ["adc-units", "label-value"]


def test_a_lesion_outside_the_crop_is_not_lost_in_silence(tmp_path):
    folder = write_exam(tmp_path / "exam")
    assert _codes(_run(folder, crop=(20, 20, 5))) == [("lesion-cropped", "warning")]
    assert _codes(_run(folder, crop=(4, 4, 5))) == [("lesion-cropped", "error")]


def test_a_lesion_of_one_thin_slice_is_kept_and_named(tmp_path):
    folder = write_exam(tmp_path / "exam")
    shape, affine = (40, 40, 15), grid((40, 40, 15), (0.5, 0.5, 1.0))
    save_itk(folder / "t2w.mha", np.random.default_rng(0).integers(50, 400, shape).astype(np.int16), affine)
    voxels = np.zeros(shape, np.uint8)
    voxels[18:24, 18:24, 5] = 3  # slices of 3 mm take the fourth, seventh and so on
    save(folder / "lesion.nii.gz", voxels, affine)
    result = _run(folder)
    assert (_codes(result), result.significant) == ([("lesion-thin", "info")], True)
    assert np.count_nonzero(_read(tmp_path, "label").get_fdata()) == 36


def test_a_pipe_or_a_closed_file_is_a_finding_of_its_own_and_hides_no_other(tmp_path):
    folder = write_exam(tmp_path / "exam", adc_factor=10)
    (folder / "hbv.nii.gz").unlink()
    os.mkfifo(folder / "hbv.nii.gz")
    result = _run(folder)
    assert _codes(result) == [("adc-units", "error"), ("file-kind", "error")]
    assert not any(str(tmp_path) in finding.text for finding in result.findings)


def test_a_source_that_is_out_of_reach_is_named_and_not_said_to_be_another(tmp_path):
    folder = write_exam(tmp_path / "exam")
    _run(folder)
    (folder / "adc.mha").unlink()
    os.mkfifo(folder / "adc.mha")
    assert _codes(_run(folder, replace=False)) == [("file-kind", "error")]
    assert native_grid(tmp_path / "out") is not None


def test_an_image_that_was_emptied_since_is_made_again(tmp_path):
    folder = write_exam(tmp_path / "exam")
    _run(folder)
    (tmp_path / "out" / "t2w.nii.gz").write_bytes(b"")
    assert _codes(_run(folder, replace=False)) == []
    assert _read(tmp_path, "t2w").shape == (36, 36, 5)


def test_voxels_that_end_early_are_told_as_that(tmp_path):
    folder = write_exam(tmp_path / "exam")
    whole = (folder / "adc.mha").read_bytes()
    (folder / "adc.mha").write_bytes(whole[:-2000])
    (finding,) = _run(folder).findings
    assert finding.code == "file-truncated"
    assert "its voxels end early" in finding.text


def test_what_another_version_wrote_is_imported_again(tmp_path):
    folder = write_exam(tmp_path / "exam")
    _run(folder)
    record = tmp_path / "out" / "exam.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"format": 0}))
    (tmp_path / "out" / "t2w.nii.gz").write_bytes(b"older")
    _run(folder)
    assert _read(tmp_path, "t2w").shape == (36, 36, 5)


def test_a_label_takes_the_value_of_its_nearest_voxel(tmp_path):
    folder = write_exam(tmp_path / "exam", spacing=(0.4, 0.4, 3.0))
    shape, affine = t2w_grid((0.4, 0.4, 3.0))
    ragged = np.random.default_rng(0).integers(0, 6, shape).astype(np.uint8)
    save(folder / "lesion.nii.gz", ragged, affine)
    _run(folder, crop=(20, 20, 5))
    label = _read(tmp_path, "label")
    places = np.moveaxis(np.indices(label.shape), 0, -1)
    index = nib.affines.apply_affine(np.linalg.solve(affine, label.affine), places)
    nearest = np.floor(index + 0.5).astype(int)
    sure = np.abs(index - nearest).max(-1) < 0.49  # a place between two voxels may take either
    assert (sure.sum(), np.abs(index - nearest).max() > 0.3) == (2000, True)
    expected = ragged[tuple(np.moveaxis(nearest, -1, 0))] >= 2
    np.testing.assert_array_equal(label.get_fdata()[sure] > 0, expected[sure])


def test_a_gland_mask_on_another_grid_moves_nothing_and_is_named(tmp_path):
    folder = write_exam(tmp_path / "exam")
    shape, affine = t2w_grid()
    gland = lesion(positions(shape, affine)).astype(np.uint8)
    beside = affine @ nib.affines.from_matvec(np.eye(3), [3, 0, 0])
    for voxels, where in ((gland[1:], affine), (gland, beside)):
        save(folder / "gland.nii.gz", voxels, where)
        (finding,) = _run(folder).findings
        assert (finding.code, finding.severity, finding.where) == ("gland-unusable", "warning", "gland.nii.gz")
    with_gland = _read(tmp_path, "label").affine
    (folder / "gland.nii.gz").unlink()
    _run(folder)
    np.testing.assert_array_equal(with_gland, _read(tmp_path, "label").affine)


def test_a_gland_mask_moves_the_crop(tmp_path):
    folder = write_exam(tmp_path / "exam")
    shape, affine = t2w_grid()
    gland = lesion(positions(shape, affine)).astype(np.uint8)
    save(folder / "gland.nii.gz", gland, affine)
    assert _codes(_run(folder, crop=(20, 20, 5))) == []
    assert (_read(tmp_path, "label").get_fdata() > 0).sum() == gland.sum()
    save(folder / "gland.nii.gz", np.zeros(shape, np.uint8), affine)
    assert _codes(_run(folder)) == [("gland-unusable", "warning")]


def test_a_second_import_keeps_what_is_unchanged(tmp_path):
    folder = write_exam(tmp_path / "exam")
    first = _run(folder, crop=(20, 20, 5))
    written = (tmp_path / "out" / "t2w.nii.gz").stat().st_mtime_ns
    assert _run(folder, crop=(20, 20, 5)) == first
    assert (tmp_path / "out" / "t2w.nii.gz").stat().st_mtime_ns == written
    write_exam(tmp_path / "exam", grade=4)
    _run(folder, crop=(20, 20, 5))
    assert (tmp_path / "out" / "t2w.nii.gz").stat().st_mtime_ns > written


def test_an_exam_that_became_bad_is_no_longer_recorded(tmp_path):
    folder = write_exam(tmp_path / "exam")
    _run(folder)
    write_exam(folder, adc_factor=10)
    _run(folder)
    assert native_grid(tmp_path / "out") is None


def test_a_damaged_sequence_is_a_finding_beside_the_others(tmp_path):
    folder = write_exam(tmp_path / "exam", adc_factor=10)
    whole = (folder / "t2w.mha").read_bytes()
    (folder / "t2w.mha").write_bytes(whole[: len(whole) // 2])
    codes = [code for code, _ in _codes(_run(folder))]
    assert codes == ["file-truncated", "adc-units"]


def test_the_record_says_what_was_done(tmp_path):
    _run(write_exam(tmp_path / "exam"), adc_scaling="fixed")
    record = json.loads((tmp_path / "out" / "exam.json").read_text())
    assert record["options"]["adc_scaling"] == "fixed"
    assert set(record["medssl"]["inputs"]) == {"t2w", "adc", "hbv", "label"}
    assert 0 <= _read(tmp_path, "adc").get_fdata().min() < _read(tmp_path, "adc").get_fdata().max() <= 1
