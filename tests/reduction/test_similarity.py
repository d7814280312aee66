"""Distances against independent slow forms, and their ends."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medssl.reduction.similarity import CosineMeasure, HammingMeasure, NmiMeasure, SsimMeasure


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(4, 48, 48)), (0, 4, 4))
    scaled = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    return np.concatenate([scaled, scaled[:1], np.full((1, 48, 48), 90, np.uint8)])


def plain_ssim(a, b):
    a, b = a / 255.0, b / 255.0

    def blur(x):
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    covariance = blur(a * b) - blur(a) * blur(b)
    variances = blur(a * a) - blur(a) ** 2 + blur(b * b) - blur(b) ** 2
    luminance = (2 * blur(a) * blur(b) + 1e-4) / (blur(a) ** 2 + blur(b) ** 2 + 1e-4)
    return float(np.mean(luminance * (2 * covariance + 9e-4) / (variances + 9e-4)))


def test_ssim_matches_a_plain_form(images):
    distances = SsimMeasure(images).to(1)
    expected = [1 - max(0, plain_ssim(images[1], other)) for other in images]
    assert distances == pytest.approx(expected, abs=2e-5)
    assert 0.01 < distances[2] < 1


def test_mutual_information_matches_a_plain_form(images):
    joint = np.histogram2d(images[0].ravel() // 4, images[2].ravel() // 4, bins=64, range=[[0, 64]] * 2)[0]
    shares = joint / joint.sum()

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    expected = (entropy(shares.sum(0)) + entropy(shares.sum(1))) / entropy(shares) - 1
    assert NmiMeasure(images).to(0)[2] == pytest.approx(1 - expected)


def test_cosine_matches_a_plain_form():
    rows = np.random.default_rng(1).normal(size=(5, 7))
    expected = 1 - rows @ rows[3] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[3])
    assert CosineMeasure(rows).to(3) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("kind", [SsimMeasure, NmiMeasure])
def test_equal_images_are_at_no_distance_and_pairs_are_symmetric(kind, images):
    measure = kind(images)
    table = np.stack([measure.to(i) for i in range(len(measure))])
    assert table[0, 4] == pytest.approx(0, abs=1e-6)
    assert np.allclose(table, table.T, atol=1e-6)
    assert table.min() >= 0 and table.max() <= 1


@pytest.mark.parametrize("kind", [SsimMeasure, NmiMeasure])
def test_constant_images_are_no_nan(kind, images):
    assert np.isfinite(kind(images).to(5)).all()


def test_hashes_of_volumes_take_the_median_of_their_slices():
    hashes = np.zeros((2, 5), np.uint64)
    hashes[1] = [0, 1, 3, 2**64 - 1, 2**64 - 1]
    assert HammingMeasure(hashes).to(0).tolist() == [0, 2]
