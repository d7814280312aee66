"""2D image files: grey values, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medssl.core.errors import ImageError
from medssl.data.images import is_image_file, read_image


def test_rows_and_columns_are_those_of_the_file(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


def test_colours_become_their_luminance(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (200, 200, 200)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 200).all()


def test_deep_images_keep_their_values(tmp_path: Path) -> None:
    pixels = np.array([[0, 1000], [40000, 65535]], dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize(
    ("content", "code"), [(None, "file-missing"), (b"", "file-format"), (b"\xff\xd8", "file-format")]
)
def test_files_that_are_no_image_are_named(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.jpg") as caught:
        read_image(path)
    assert caught.value.code == code


def test_suffixes_tell_images_from_volumes() -> None:
    assert is_image_file(Path("a/B.JPG"))
    assert not is_image_file("a.nii.gz")
