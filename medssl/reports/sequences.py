"""One axial plane of every sequence of an exam, side by side, with lesions and candidates outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.core.optional import require
from medssl.metrics.lesion_candidates import NEIGHBOURS
from medssl.reports.figures import PREDICTION, REFERENCE, new_figure, png_data
from medssl.reports.images import Volume
from medssl.reports.overlays import PLANES, centres_mm, draw_outline, grey_window, to_picture, write_letters

_AXIAL = PLANES[0]
_WIDTH_INCH = 8.6
_GAP_INCH = 0.06


def choose_plane(detection: NDArray[Any], lesions: NDArray[Any]) -> int:
    """Return the axial plane with most of all lesions, else of the most confident candidate, else the middle."""
    weight = lesions > 0
    if not weight.any():
        weight = detection == detection.max() if detection.max() > 0 else weight
    counts = weight.sum(axis=(0, 1))
    return int(counts.argmax()) if counts.any() else detection.shape[2] // 2


def draw_sequences(
    images: Sequence[Volume],
    detection: NDArray[Any],
    lesions: NDArray[Any],
    *,
    names: Sequence[str],
    plane: int | None = None,
) -> str:
    """Draw one axial plane of each sequence; lesions solid, candidates dashed with their confidence.

    Args:
        images: Sequences on one grid.
        detection: Detection map (X, Y, Z) on that grid.
        lesions: Lesion map (X, Y, Z); above 0 inside lesions.
        names: What the sequences are called.
        plane: Index of the plane; by default that of `choose_plane`.

    Returns:
        A PNG data address.
    """
    index = choose_plane(detection, lesions) if plane is None else plane
    first = images[0]
    width_mm, height_mm = (first.values.shape[axis] * first.spacing_mm[axis] for axis in (0, 1))
    panel = (_WIDTH_INCH - _GAP_INCH * (len(images) - 1)) / len(images)
    height = panel * height_mm / width_mm
    figure = new_figure(_WIDTH_INCH, height, face="black")
    figure.set_layout_engine("none")
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        left = number * (panel + _GAP_INCH)
        axes = figure.add_axes((left / _WIDTH_INCH, 0.0, panel / _WIDTH_INCH, 1.0))
        low, high = grey_window(image, "MR")
        cut = to_picture(image.values, _AXIAL, index)
        extent = (0, width_mm, 0, height_mm)
        axes.imshow(cut, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear", extent=extent)
        _outline_all(axes, detection, lesions, index, first)
        axes.set_axis_off()
        write_letters(axes, _AXIAL)
        _write(axes, 0.03, 0.955, name, transform=axes.transAxes, ha="left")
    return png_data(figure)


def _outline_all(axes: Any, detection: NDArray[Any], lesions: NDArray[Any], index: int, image: Volume) -> None:
    centres = centres_mm(_AXIAL, detection.shape, image.spacing_mm)
    reference = to_picture(lesions, _AXIAL, index) > 0
    if reference.any():
        draw_outline(axes, reference, centres, REFERENCE, "solid")
    components, count = ndimage.label(detection, structure=NEIGHBOURS)
    cut, confidences = to_picture(components, _AXIAL, index), to_picture(detection, _AXIAL, index)
    for number in range(1, count + 1):
        mask = cut == number
        if mask.any():
            draw_outline(axes, mask, centres, PREDICTION, (0, (3, 2)))
            rows, columns = np.nonzero(mask)
            place = centres[0][int(columns.mean())], centres[1][rows.max()]
            _write(axes, *place, f"{confidences[mask].max():.2f}", ha="center", va="bottom", fontsize=8)


def _write(axes: Any, x: float, y: float, text: str, **options: Any) -> None:
    effects = require("matplotlib.patheffects", feature="medssl report", extra="report")
    edge = [effects.withStroke(linewidth=2.5, foreground="black")]
    axes.text(x, y, text, **{"color": "white", "fontsize": 9, "va": "center", "path_effects": edge} | options)
