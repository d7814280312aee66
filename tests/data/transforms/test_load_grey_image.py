"""The loader of 2D images: axes, range and kind of what it hands on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medssl.core.errors import ImageError
from medssl.data.transforms.load_grey_image import LoadGreyImaged


def test_an_image_becomes_one_channel_with_x_first(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)  # 3 rows of 4
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = LoadGreyImaged("image")({"image": str(tmp_path / "a.png"), "case_id": "a"})
    assert loaded["image"].shape == (1, 4, 3)
    assert torch.equal(loaded["image"][0], torch.from_numpy(pixels.T.astype(np.float32)))
    assert loaded["case_id"] == "a"


def test_colours_become_their_luminance(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "red.png")
    loaded = LoadGreyImaged("image")({"image": str(tmp_path / "red.png")})
    assert torch.equal(loaded["image"], torch.full((1, 2, 2), 76.0))


def test_a_volume_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="expected a 2D image"):
        LoadGreyImaged("image")({"image": str(tmp_path / "a.nii.gz")})
