"""Pictures show the patient as a radiologist expects, in true proportions."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from medssl.reports.images import Volume
from medssl.reports.overlays import PLANES, choose_planes, draw_comparison, draw_prediction, grey_window, to_picture

AXIAL, CORONAL, SAGITTAL = PLANES


def _picture(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB")).astype(int)


@pytest.fixture
def blob() -> np.ndarray:
    labels = np.zeros((40, 44, 48), dtype=np.uint8)
    labels[10:20, 12:30, 15:33] = 1
    return labels


def test_the_patients_right_front_and_head_lie_where_radiologists_look():
    values = np.zeros((4, 5, 6))
    values[3, :, :] = 1  # right
    for plane in (AXIAL, CORONAL):
        assert to_picture(values, plane, 2)[:, 0].all() and not to_picture(values, plane, 2)[:, 1:].any()
    values = np.zeros((4, 5, 6))
    values[:, 4, :] = 1  # front
    assert to_picture(values, AXIAL, 2)[-1].all()  # rows run from the bottom up
    assert to_picture(values, SAGITTAL, 2)[:, 0].all()
    values = np.zeros((4, 5, 6))
    values[:, :, 5] = 1  # head
    assert to_picture(values, CORONAL, 2)[-1].all() and to_picture(values, SAGITTAL, 2)[-1].all()


def test_planes_go_through_the_largest_disagreement(blob):
    prediction = blob.copy()
    prediction[12:18, 20:25, 21:23] = 0
    prediction[13, 23, 22] = 2
    x, y, z = choose_planes(blob, prediction)
    assert (12 <= x < 18) and (20 <= y < 25) and (21 <= z < 23)


def test_planes_of_agreement_and_of_nothing(blob):
    x, y, z = choose_planes(blob, blob)
    assert blob[x, y, z] == 1
    assert choose_planes(None, np.zeros((4, 6, 8))) == (2, 3, 4)


def test_pictures_follow_the_spacing(blob):
    thin = Volume(np.random.default_rng(0).random((40, 44, 48)), (1.0, 1.0, 1.0), np.eye(4))
    thick = Volume(thin.values, (1.0, 1.0, 3.0), np.eye(4))
    everywhere = np.ones_like(blob)
    shapes = [_picture(draw_comparison(v, everywhere, everywhere, modality="MR")).shape for v in (thin, thick)]
    widths_mm = [40 / 44 + 40 / 48 + 44 / 48, 40 / 44 + 40 / 144 + 44 / 144]  # at equal height
    assert shapes[0][1] / shapes[0][0] == pytest.approx(widths_mm[0], rel=0.02)
    assert shapes[1][1] / shapes[1][0] == pytest.approx(widths_mm[1], rel=0.04)


def test_reference_and_prediction_have_their_own_colours(blob):
    image = Volume(np.zeros(blob.shape), (1.0, 1.0, 1.0), np.eye(4))
    picture = _picture(draw_comparison(image, np.roll(blob, 5, axis=0), blob, modality="MR"))
    for colour in ((0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)):
        assert (abs(picture - colour).sum(axis=-1) < 30).sum() > 200


def test_structures_without_a_reference_are_filled(blob):
    image = Volume(np.zeros(blob.shape), (1.0, 1.0, 1.0), np.eye(4))
    picture = _picture(draw_prediction(image, blob, [1], modality="MR"))
    assert (picture[..., 2] > 60).mean() > 0.05


def test_empty_case_is_drawn_whole():
    image = Volume(np.zeros((20, 20, 20)), (1.0, 1.0, 1.0), np.eye(4))
    empty = np.zeros((20, 20, 20), dtype=np.uint8)
    assert _picture(draw_comparison(image, empty, empty, modality="MR")).size


def test_grey_window_is_fixed_for_ct_and_robust_otherwise():
    values = np.full((20, 20, 20), 100.0)
    values[::2] = 200.0
    values[0, 0, 0] = np.nan
    values[2, 2, 2] = 1e6
    image = Volume(values, (1.0, 1.0, 1.0), np.eye(4))
    assert grey_window(image, "CT") == (-160.0, 240.0)
    low, high = grey_window(image, "MR T1")
    assert low == high - 1.0 == 200.0  # the sample holds every second voxel only
    assert grey_window(Volume(np.full((4, 4, 4), np.nan), (1.0, 1.0, 1.0), np.eye(4)), "MR") == (0.0, 1.0)
