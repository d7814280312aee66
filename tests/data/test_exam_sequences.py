"""Sequences in the wrong units, at the wrong place or too coarse are refused; the measured voxels set the scale."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.small_exams import save

from medssl.core.errors import GeometryError, ImageError
from medssl.data.exam_sequences import (
    judge_field_of_view,
    normalise,
    require_adc_units,
    require_coverage,
    require_fine_t2w,
)
from medssl.data.volumes import Header, read_header


def _header(shape=(20, 20, 5), spacing=(2.0, 2.0, 3.0)):
    x, y, z = spacing
    affine = np.diag([-x, -y, z, 1.0])
    numbers = {"slope": 1.0, "intercept": 0.0, "file_bytes": 1, "data_offset": 0}
    return Header(path=Path("a.mha"), shape=shape, spacing_mm=spacing, affine=affine, dtype=np.dtype("f4"), **numbers)


def _adc(factor=1.0):
    return np.random.default_rng(0).uniform(700, 1800, (20, 20, 5)) * factor


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_maps_of_different_pelvises_pass(factor):
    require_adc_units(_header(), _adc(factor))


@pytest.mark.parametrize(
    ("factor", "found"),
    [
        (10, "10 times too large: it seems to be scaled. Divide the map by 10,"),
        (0.1, "10 times too small: it seems to be scaled. Multiply the map by 10,"),
        (1000, "1,000 times too large: it seems to be in 1e-9 mm2/s. Divide the map by 1,000"),
        (1e-3, "1,000 times too small: it seems to be in 1e-3 mm2/s. Multiply the map by 1,000"),
        (1e-6, "1,000,000 times too small: it seems to be in mm2/s"),
    ],
)
def test_wrong_units_are_named_with_the_factor(factor, found):
    with pytest.raises(ImageError) as error:
        require_adc_units(_header(), _adc(factor))
    assert error.value.code == "adc-units"
    assert found in str(error.value)


def test_background_does_not_decide_the_units():
    voxels = np.zeros((60, 60, 5))
    voxels[20:40, 20:40] = _adc()  # the rest of the field of view is masked
    require_adc_units(_header(voxels.shape), voxels)


def test_a_map_of_zeros_is_refused():
    with pytest.raises(ImageError, match="no positive value"):
        require_adc_units(_header(), np.zeros((20, 20, 5)))


def test_a_coarse_t2w_is_refused_and_so_is_another_plane():
    require_fine_t2w(_header(spacing=(1.0, 0.4, 5.0)))
    for spacing in ((1.01, 1.01, 3.0), (3.0, 0.5, 0.5)):
        with pytest.raises(GeometryError, match="at most 1 mm in its plane") as error:
            require_fine_t2w(_header(spacing=spacing))
        assert error.value.code == "t2w-spacing"


def test_an_oblique_t2w_of_one_mm_is_fine_whatever_its_header_rounds_to(tmp_path):
    rng, refused = np.random.default_rng(0), 0
    for number in range(20):
        turn = nib.eulerangles.euler2mat(*rng.uniform(-0.3, 0.3, 3)) @ np.diag([1.0, 1.0, 3.0])
        path = save(tmp_path / f"{number}.nii", np.zeros((2, 2, 2), np.int16), nib.affines.from_matvec(turn))
        header = read_header(path)
        refused += max(header.spacing_mm[:2]) > 1
        require_fine_t2w(header)
    assert refused > 5  # without a tolerance


@pytest.mark.parametrize(("covered", "code"), [(0, "sequence-overlap"), (4, "sequence-coverage"), (5, None)])
def test_a_diffusion_sequence_has_to_cover_half_of_the_t2w(covered, code):
    inside, within = np.zeros((20, 1, 1), bool), np.zeros((20, 1, 1), bool)
    inside[:covered] = True
    within[:10] = True  # the T2W itself ends here
    if code is None:
        require_coverage(_header(), inside, within=within, sequence="adc")
        return
    with pytest.raises(GeometryError, match="expected ADC") as error:
        require_coverage(_header(), inside, within=within, sequence="adc")
    assert error.value.code == code


def test_a_small_t2w_is_a_warning_with_a_remedy_of_its_own():
    inside = np.zeros((10, 1, 1), bool)
    inside[:4] = True
    (finding,) = judge_field_of_view(_header(), inside, case="c")
    assert (finding.severity, finding.code, "40% of the crop" in finding.text) == ("warning", "t2w-coverage", True)
    assert "smaller --crop" in finding.fix
    inside[:5] = True
    assert judge_field_of_view(_header(), inside, case="c") == []


def test_only_measured_voxels_count_for_the_scale():
    voxels = np.random.default_rng(1).normal(1000, 100, (20, 20, 5)).astype(np.float32)
    inside = np.ones(voxels.shape, bool)
    inside[:8] = False
    voxels[~inside] = 0
    scaled = normalise(voxels, inside, name="a")
    low, high = np.percentile(voxels[inside], [0.5, 99.5])
    clipped = np.clip(voxels[inside].astype(np.float64), low, high)
    np.testing.assert_allclose(scaled[inside], (clipped - clipped.mean()) / clipped.std(), atol=1e-5)
    assert np.ptp(scaled[~inside]) == 0
    assert scaled[0, 0, 0] == pytest.approx(scaled.min())


def test_fixed_scaling_keeps_the_unit():
    voxels = np.array([[[-5.0, 0.0, 1500.0, 3000.0, 9000.0]]], np.float32)
    assert normalise(voxels, voxels > -9, name="a", fixed=True).ravel().tolist() == [0, 0, 0.5, 1, 1]


def test_an_image_without_contrast_is_refused():
    with pytest.raises(ImageError, match="with contrast") as error:
        normalise(np.full((4, 4, 4), 7, np.float32), np.ones((4, 4, 4), bool), name="a")
    assert error.value.code == "image-constant"
