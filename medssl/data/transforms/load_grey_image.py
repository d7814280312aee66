"""A transform that loads 2D images, which MONAI's readers would turn and colour differently by format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from medssl.data.images import read_grey_image


class LoadGreyImaged(MapTransform):
    """Replace paths by images (1, X, Y), float32, from 0 to 255; colours become their luminance."""

    def __call__(self, data: Any) -> dict[Any, Any]:
        """Load the images of one case."""
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            loaded[key] = torch.from_numpy(read_grey_image(Path(loaded[key])).astype(np.float32))[None]
        return loaded
