"""One case: what is scored, and what becomes a finding."""

import nibabel as nib
import numpy as np
import pytest

from medssl.core.files import sha256_file
from medssl.evaluation.case import CaseJob, score_case

AFFINE = np.array([[0.0, -1.5, 0.0, 40.0], [2.0, 0.0, 0.0, -30.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def cube(start, dtype=np.uint8, shape=(16, 16, 16)):
    labels = np.zeros(shape, dtype)
    labels[tuple(slice(first, first + 6) for first in start)] = 1
    return labels


@pytest.fixture
def score(tmp_path):
    def run(reference, prediction, /, *, affine=AFFINE, **changes):
        for name, labels, each in (("reference", reference, AFFINE), ("prediction", prediction, affine)):
            nib.save(nib.Nifti1Image(labels, each), tmp_path / f"{name}.nii.gz")
        job = {
            "id": "a",
            "group": "g001",
            "reference": tmp_path / "reference.nii.gz",
            "prediction": tmp_path / "prediction.nii.gz",
            "classes": {"cube": (1, 1)},
            "reference_values": frozenset({0, 1}),
            "prediction_values": frozenset({0, 1}),
            "tolerance_mm": 1.0,
        }
        return score_case(CaseJob(**(job | changes)))

    return run


def codes(result):
    return [finding.code for finding in result.findings]


@pytest.mark.parametrize(("axis", "expected"), [(0, 4.0), (1, 3.0), (2, 6.0)])
def test_spacing_follows_the_array_axes_of_a_rotated_affine(score, axis, expected):
    start = [4, 4, 4]
    start[axis] += 2
    result = score(cube((4, 4, 4)), cube(start))
    assert result.scores["cube"].hd95_mm == pytest.approx(expected)


def test_volume_error_uses_the_voxel_volume(score):
    smaller = cube((4, 4, 4))
    smaller[4] = 0
    result = score(cube((4, 4, 4)), smaller)
    assert result.scores["cube"].volume_error_ml == pytest.approx(-36 * 9.0 / 1000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.uint16])
def test_any_type_of_whole_numbers_is_read(score, dtype):
    result = score(cube((4, 4, 4), dtype), cube((4, 4, 4)))
    assert result.scores["cube"].dice == 1.0


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf, 70000.0])
def test_values_that_are_no_labels_are_a_finding(score, value):
    odd = cube((4, 4, 4), np.float32)
    odd[0, 0, 0] = value
    assert codes(score(odd, cube((4, 4, 4)))) == ["reference-labels"]
    assert codes(score(cube((4, 4, 4)), odd)) == ["prediction-labels"]


def test_values_that_nobody_named_are_a_finding(score):
    odd = cube((4, 4, 4)) * np.uint8(9)
    result = score(cube((4, 4, 4)), odd)
    assert (codes(result), dict(result.scores)) == (["prediction-labels"], {})
    assert "label values 9; known are 0, 1" in result.findings[0].text
    assert codes(score(odd, cube((4, 4, 4)))) == ["reference-labels"]


def test_labels_with_other_values_are_compared_by_their_own_values(score):
    result = score(
        cube((4, 4, 4)), cube((4, 4, 4)) * np.uint8(7), classes={"cube": (1, 7)}, prediction_values=frozenset({0, 7})
    )
    assert result.scores["cube"].dice == 1.0


def test_another_shape_is_a_finding_and_not_a_resampling(score):
    result = score(cube((4, 4, 4)), cube((4, 4, 4), shape=(16, 16, 17)))
    assert (codes(result), dict(result.scores)) == (["prediction-shape"], {})


@pytest.mark.parametrize("change", ["shift", "flip", "scale"])
def test_another_affine_is_a_finding(score, change):
    affine = AFFINE.copy()
    if change == "shift":
        affine[0, 3] += 0.5
    elif change == "flip":
        affine[:, 1] *= -1
    else:
        affine[2, 2] *= 1.03
    result = score(cube((4, 4, 4)), cube((4, 4, 4)), affine=affine)
    assert (codes(result), dict(result.scores)) == (["prediction-affine"], {})


def test_rounding_in_the_header_is_not_another_grid(score):
    result = score(cube((4, 4, 4)), cube((4, 4, 4)), affine=AFFINE + 1e-4 * (AFFINE != 0))
    assert result.scores["cube"].dice == 1.0


def test_a_trailing_axis_of_one_is_the_same_grid(score):
    assert score(cube((4, 4, 4)), cube((4, 4, 4))[..., None]).scores["cube"].dice == 1.0


def test_missing_and_broken_files_are_findings(score, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    good = cube((4, 4, 4))
    assert codes(score(good, good, prediction=tmp_path / "none.nii.gz")) == ["prediction-missing"]
    assert codes(score(good, good, reference=tmp_path / "none.nii.gz")) == ["reference-missing"]
    assert codes(score(good, good, prediction=tmp_path / "broken.nii.gz")) == ["prediction-unreadable"]
    assert codes(score(good, good, reference=tmp_path / "broken.nii.gz")) == ["reference-unreadable"]


def test_a_label_map_other_than_run_json_states_is_a_warning_and_scored(score, tmp_path):
    result = score(cube((4, 4, 4)), cube((4, 4, 4)), stated_sha256="0" * 64)
    assert (codes(result), result.findings[0].severity) == (["prediction-altered"], "warning")
    assert result.hashes["prediction_sha256"] == sha256_file(tmp_path / "prediction.nii.gz")
    assert result.scores["cube"].dice == 1.0


def test_a_defect_in_one_case_is_a_finding(score):
    result = score(cube((4, 4, 4)), cube((4, 4, 4)), classes=None)
    assert (codes(result), result.findings[0].severity) == (["unexpected"], "error")


def test_the_mean_of_a_case_ignores_undefined_classes(score):
    result = score(cube((4, 4, 4)), cube((4, 4, 4)), classes={"cube": (1, 1), "other": (2, 2)})
    assert (result.scores["other"].state, result.mean("dice")) == ("absent", 1.0)
