"""One plane of every sequence: the right plane, and outlines where lesion and candidate are."""

import base64
import io

import numpy as np
from PIL import Image

from medssl.reports.figures import PREDICTION, REFERENCE
from medssl.reports.images import Volume
from medssl.reports.sequences import choose_plane, draw_sequences

SHAPE = (40, 40, 8)


def _box(value, z):
    volume = np.zeros(SHAPE, np.float32)
    volume[10:20, 12:22, z] = value
    return volume


def _images(count=3):
    rng = np.random.default_rng(0)
    return [Volume(rng.normal(size=SHAPE), (0.5, 0.5, 3.0), np.diag([0.5, 0.5, 3.0, 1.0])) for _ in range(count)]


def _pixels(address):
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")
    return np.asarray(picture).astype(int)


def _count(pixels, colour):
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(-1) < 40).sum())


def test_the_plane_is_that_of_the_lesion_else_of_the_surest_candidate_else_the_middle():
    nothing = np.zeros(SHAPE, np.float32)
    assert choose_plane(_box(0.5, 6), _box(1, 2)) == 2
    assert choose_plane(np.maximum(_box(0.5, 6), _box(0.4, 1)), nothing) == 6
    assert choose_plane(nothing, nothing) == 4


def test_lesions_and_candidates_are_outlined_in_their_colours():
    nothing = np.zeros(SHAPE, np.float32)
    both = _pixels(draw_sequences(_images(), np.roll(_box(0.5, 3), 12, 0), _box(1, 3), names=["a", "b", "c"]))
    assert _count(both, REFERENCE) > 200
    assert _count(both, PREDICTION) > 100
    lesion = _pixels(draw_sequences(_images(), nothing, _box(1, 3), names=["a", "b", "c"]))
    assert _count(lesion, PREDICTION) < 20 < _count(lesion, REFERENCE)


def test_every_sequence_gets_its_panel():
    three, one = (
        _pixels(draw_sequences(_images(count), _box(0.5, 3), _box(1, 3), names=["a"] * count)) for count in (3, 1)
    )
    assert three.shape[1] == one.shape[1]
    assert one.shape[0] > 2.9 * three.shape[0]
