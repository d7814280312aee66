"""Shift some sequences of an image against the others, as a patient does who moves between them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor


class RandShiftSequencesd(RandomizableTransform, MapTransform):
    """Move channels of (C, X, Y, Z) together by whole voxels in the plane; what moves in repeats the border.

    Diffusion images of a prostate lie up to some millimetres beside its T2W: the rectum moves, and echo-planar images
    are distorted. Labels stay, because they were drawn on the T2W.

    Args:
        keys: Images.
        channels: Channels that move; the diffusion images of (T2W, ADC, high-b) are 1 and 2.
        most_voxels: Largest shift along X and along Y.
        prob: Probability of a shift.
        allow_missing_keys: Pass over keys that a sample lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        channels: Sequence[int] = (1, 2),
        most_voxels: int = 4,
        prob: float = 0.3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.channels = list(channels)
        self.most_voxels = most_voxels
        self.shift = (0, 0)

    def randomize(self, data: Any = None) -> None:
        """Draw whether and how far to move."""
        super().randomize(data)
        x, y = self.R.randint(-self.most_voxels, self.most_voxels + 1, size=2).tolist()
        self.shift = (x, y)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw one shift and apply it to all images of a sample."""
        moved = dict(data)
        self.randomize()
        if not self._do_transform:
            return moved
        for key in self.key_iterator(moved):
            image = moved[key].clone()
            image[self.channels] = shift_in_plane(image[self.channels], self.shift)
            moved[key] = image
        return moved


def shift_in_plane(image: Tensor, shift: tuple[int, int]) -> Tensor:
    """Move (C, X, Y, Z) by whole voxels along X and Y; voxels that come in repeat the border."""
    for axis, distance in enumerate(shift, start=1):
        size = image.shape[axis]
        source = (torch.arange(size, device=image.device) - distance).clamp(0, size - 1)
        image = image.index_select(axis, source)
    return image
