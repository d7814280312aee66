"""Candidates equal those of report_guided_annotation; what is no probability and no detection map is refused."""

import contextlib
import io

import numpy as np
import pytest
from scipy import ndimage

from medssl.core.errors import ConfigError, ImageError
from medssl.metrics.lesion_candidates import CandidateRule, extract_candidates, require_detection_map


@pytest.fixture(scope="module")
def reference():
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner when it is imported
        return pytest.importorskip("report_guided_annotation").extract_lesion_candidates


def _probability(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(24, 24, 10)), 1.6)
    scaled = (noise - noise.min()) / np.ptp(noise) * rng.uniform(0.05, 1)
    return (scaled**3).astype(dtype)


@pytest.mark.parametrize("mode", ["dynamic-fast", "dynamic-v2", 0.1])
def test_candidates_equal_those_of_the_reference(reference, mode):
    candidates = 0
    for seed in range(25):
        dtype = (np.float32, np.float64, np.float16)[seed % 3]
        probability = _probability(seed, dtype)
        expected, found, _ = reference(probability, threshold=mode)
        np.testing.assert_array_equal(
            extract_candidates(probability, CandidateRule(mode=mode)), expected.astype(np.float32)
        )
        candidates += len(found)
    assert candidates > 25


def test_ties_and_small_components_equal_the_reference(reference):
    probability = np.zeros((20, 20, 6), np.float32)
    probability[0:4, 0:4, 0:3] = probability[8:12, 0:4, 0:3] = 0.6  # two of equal maximum
    probability[15, 15, 5] = 0.9  # too small, and above them
    probability[4:7, 0:4, 0:3] = 0.2  # touches the first one's remains
    expected, _, _ = reference(probability, threshold="dynamic-v2")
    found = extract_candidates(probability, CandidateRule(mode="dynamic-v2"))
    np.testing.assert_array_equal(found, expected)
    assert ndimage.label(found)[1] >= 2


@pytest.mark.parametrize(("voxels", "kept"), [(10, 0), (11, 1)])
def test_a_candidate_has_more_than_ten_voxels(voxels, kept):
    probability = np.zeros((20, 4, 4), np.float32)
    probability[:voxels, 0, 0] = 0.5
    assert ndimage.label(extract_candidates(probability, CandidateRule()))[1] == kept


def test_nothing_gives_an_empty_map():
    for mode in ("dynamic-fast", "dynamic-v2"):
        assert not extract_candidates(np.zeros((5, 5, 5), np.float32), CandidateRule(mode=mode)).any()


def test_a_cap_holds():
    probability = np.zeros((40, 4, 4), np.float32)
    for number in range(8):
        probability[5 * number : 5 * number + 3] = 0.5 + number / 100
    found = extract_candidates(probability, CandidateRule(mode="dynamic-v2", most=3))
    assert ndimage.label(found, np.ones((3, 3, 3)))[1] == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_refused(value):
    probability = np.full((3, 3, 3), 0.5, np.float32)
    probability[0, 0, 0] = value
    with pytest.raises(ImageError, match="expected probabilities from 0 to 1"):
        extract_candidates(probability, CandidateRule())


def test_a_probability_map_is_no_detection_map_even_with_few_values():
    detection = np.zeros((8, 8, 4), np.float32)
    detection[:3] = 0.5
    require_detection_map(detection)
    require_detection_map(np.zeros((2, 2, 2), np.float32))
    detection[3] = 0.25  # touches, with another value
    detection[6] = 0.25
    with pytest.raises(ImageError, match="found 1 of 2 with several"):
        require_detection_map(detection)


@pytest.mark.parametrize(
    "wrong", [{"mode": "dynamic"}, {"mode": 1.0}, {"mode": 0.0}, {"minimum_voxels": -1}, {"factor": 1.0}, {"most": 0}]
)
def test_rules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="lesion candidates"):
        CandidateRule(**wrong)
