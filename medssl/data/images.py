"""2D image files, such as slices that were exported as JPEG: read as grey values, with errors like those of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.core.errors import ImageError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def is_image_file(path: Path | str) -> bool:
    """Tell by its suffix whether a file is a 2D image."""
    return str(path).lower().endswith(IMAGE_SUFFIXES)


def read_image(path: Path) -> npt.NDArray[Any]:
    """Read a 2D image as grey values (rows, columns); colours become their luminance.

    Args:
        path: .png, .jpg, .bmp or .tif file.

    Raises:
        ImageError: If it is missing or unreadable, or holds pixels that are not finite; codes as in
            `medssl.data.volumes`.
    """
    from PIL import Image  # volumes need no Pillow

    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(("I", "F"))
            pixels = np.asarray(image if deep else image.convert("L"))
    except FileNotFoundError as error:
        text = f"{path.name}: expected an image file, found none."
        raise ImageError(text, fix="Bring the file back, or correct its path.", code="file-missing") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        text = f"{path.name}: expected a sound image, found one that Pillow cannot read ({type(error).__name__})."
        raise ImageError(text, fix="Copy or export the file again.", code="file-format") from error
    if not np.isfinite(pixels).all():
        text = f"{path.name}: expected finite pixels, found NaN or infinite ones."
        raise ImageError(text, fix="Export the image again.", code="image-not-finite")
    return pixels


def read_grey_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an 8-bit 2D image as it is shown: (X, Y), x to the right and y down.

    Raises:
        ImageError: As `read_image`; or the file is a volume, or has more than 8 bits.
    """
    if not is_image_file(path):
        text = f"{path.name}: expected a 2D image ({', '.join(IMAGE_SUFFIXES)}), found another suffix."
        raise ImageError(text, fix="Export the slice as an image, or take the case out.", code="file-format")
    pixels = read_image(path)
    if pixels.dtype != np.uint8:
        text = f"{path.name}: expected an 8-bit image, found {pixels.dtype}."
        raise ImageError(text, fix="Window it to 8 bits, as the training images were.", code="image-type")
    return np.ascontiguousarray(pixels.T)
