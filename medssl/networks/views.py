"""Views of a volume: named permutations of its axes, there and exactly back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean

Axes = tuple[int, int, int]
Spacing = Sequence[float] | Literal["any"]

# Spacings that differ by more than this factor make a permuted volume another geometry
_ISOTROPIC = 1.05
_CUBES = 'Resample to one spacing (resample_to_spacing), or give spacing_mm "any" to go on without this check.'


@dataclass(frozen=True)
class View:
    """One permutation of the spatial axes.

    A network with n x n x 1 kernels in a view is blind along the view's last axis: Z for "axial".

    Attributes:
        name: Name used in configurations and in the names of weights.
        axes: Spatial axes of the common frame (0, 1, 2 = X, Y, Z) in the order the view has them.
    """

    name: str
    axes: Axes

    @property
    def inverse(self) -> Axes:
        """Axes of the view in the order the common frame has them."""
        return self.axes.index(0), self.axes.index(1), self.axes.index(2)

    def to_view(self, volume: Tensor) -> Tensor:
        """Permute (B, C, X, Y, Z) into the view; no voxel is copied."""
        return _permuted(volume, self.axes)

    def from_view(self, volume: Tensor) -> Tensor:
        """Permute a volume of the view back to (B, C, X, Y, Z); the exact inverse of `to_view`."""
        return _permuted(volume, self.inverse)


VIEWS = {
    view.name: view
    for view in (
        View("axial", (0, 1, 2)),
        View("coronal", (0, 2, 1)),
        View("sagittal", (1, 2, 0)),  # a 3-cycle: not its own inverse
        View("axial_transposed", (1, 0, 2)),
        View("coronal_transposed", (2, 0, 1)),
        View("sagittal_transposed", (2, 1, 0)),
    )
}


_FORMS = (
    f"2, 3 or 6, or a list of at least 2 views, each a name ({', '.join(VIEWS)}) or a permutation of [0, 1, 2] such as "
    "[0, 2, 1]"
)


def parse_views(views: int | Sequence[str | Sequence[int]]) -> tuple[View, ...]:
    """Return the views that a configuration asks for.

    Args:
        views: 2 (axial, coronal), 3 (with sagittal) or 6 (each also with its in-plane axes exchanged), or a list of
            names or of permutations of (0, 1, 2).

    Raises:
        ConfigError: If there are fewer than two views, an unknown one, or one twice.
    """
    if views in (2, 3, 6) and isinstance(views, int):
        return tuple(VIEWS.values())[:views]
    if not isinstance(views, (list, tuple)) or len(views) < 2:
        message = f"views: expected {_FORMS}, got {views!r}. One view has no other to learn from."
        raise ConfigError(message)
    parsed = tuple(_parse_view(view) for view in views)
    names = [view.name for view in parsed]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = f"views: expected different views, got {', '.join(repeated)} more than once. Name each view once."
        raise ConfigError(message)
    return parsed


def check_isotropic(spacing_mm: Spacing | None) -> None:
    """Refuse voxels that are not cubes: a permutation would stretch what a network sees.

    Args:
        spacing_mm: Voxel size (X, Y, Z), or "any" to go on without this check.

    Raises:
        ConfigError: If the largest spacing exceeds the smallest by more than 5%, or there is no spacing, so that each
            scan would keep its own.
    """
    if spacing_mm == "any":
        return
    found = _widths(spacing_mm)
    if not found or min(found) <= 0.0:
        message = (
            f"views: expected the voxel size as three numbers above 0 mm, got {spacing_mm!r}; without resampling each "
            "scan would keep its own, and permuted axes would change the shape of every organ. "
        )
        raise ConfigError(message + _CUBES)
    if max(found) > _ISOTROPIC * min(found):
        shown = " x ".join(f"{width:g}" for width in found)
        message = f"views: expected cubic voxels, got {shown} mm; permuted axes would change the shape of every organ. "
        raise ConfigError(message + _CUBES)


def _widths(spacing_mm: Any) -> list[float]:
    """Return three finite widths, or nothing where there are no such."""
    given = list(spacing_mm) if isinstance(spacing_mm, Sequence) and not isinstance(spacing_mm, str) else []
    numbers = [float(width) for width in given if isinstance(width, (int, float)) and math.isfinite(width)]
    return numbers if len(numbers) == len(given) == 3 else []


def _parse_view(view: Any) -> View:
    if isinstance(view, str) and view in VIEWS:
        return VIEWS[view]
    found = [known for known in VIEWS.values() if isinstance(view, (list, tuple)) and known.axes == tuple(view)]
    if not found:
        hint = did_you_mean(view, VIEWS) if isinstance(view, str) else ""
        message = f"views: unknown view {view!r}.{hint} Expected are {_FORMS}."
        raise ConfigError(message)
    return found[0]


def _permuted(volume: Tensor, axes: Axes) -> Tensor:
    return volume.permute(0, 1, *(axis + 2 for axis in axes))
