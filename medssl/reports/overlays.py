"""Three planes of a case with the outlines of reference and prediction, in the radiological convention.

Axial planes are seen from the feet and coronal ones from the front, so the patient's right is on the left of the
picture; sagittal planes have the front on the left. Letters on the edges say so in every picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from medssl.core.optional import require
from medssl.reports.figures import CLASS_COLOURS, PREDICTION, REFERENCE, new_figure, png_data
from medssl.reports.images import Volume

_MARGIN_MM = 15.0
_GAP_INCH = 0.06
_WIDTH_INCH = 8.6
_MOST_HEIGHT_INCH = 4.2
_LEAST_DEPTH_MM = 3.0
"""A structure that is thinner than twice this in a plane gets no number there: it would be covered."""
_CT_WINDOW = (-160.0, 240.0)
_Mask = NDArray[np.bool_]
_Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Plane:
    """One of the three planes: the axis it is perpendicular to, and the letters on its edges."""

    name: str
    normal: int
    left: str
    right: str
    top: str
    bottom: str


PLANES = (
    _Plane("Axial", 2, "R", "L", "A", "P"),
    _Plane("Coronal", 1, "R", "L", "S", "I"),
    _Plane("Sagittal", 0, "A", "P", "S", "I"),
)


def to_picture(values: NDArray[Any], plane: _Plane, index: int) -> NDArray[Any]:
    """Cut one plane from (X, Y, Z) and lay it out as rows from the bottom up and columns from the left.

    The horizontal axis is x (axial, coronal) or y (sagittal), turned so that the patient's right, or front, is on
    the left of the picture.
    """
    return np.take(values, index, axis=plane.normal)[::-1].T


def choose_planes(reference: NDArray[Any] | None, prediction: NDArray[Any]) -> tuple[int, int, int]:
    """Return the indices (x, y, z) of the planes to show.

    They are those with the most voxels on which reference and prediction disagree; without a disagreement, those
    with the most foreground; of an empty case, the middle ones.
    """
    foreground = prediction > 0 if reference is None else (prediction > 0) | (reference > 0)
    weight = foreground if reference is None else reference != prediction
    if not weight.any():
        weight = foreground
    if not weight.any():
        x, y, z = (size // 2 for size in prediction.shape)
        return x, y, z
    counts = [weight.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    x, y, z = (int(count.argmax()) for count in counts)
    return x, y, z


def draw_comparison(image: Volume, prediction: NDArray[Any], reference: NDArray[Any], *, modality: str) -> str:
    """Draw three planes with the outlines of reference (solid) and prediction (dashed); return a PNG data address."""
    box = _box((prediction > 0) | (reference > 0), image.spacing_mm)
    prediction, reference = prediction[box], reference[box]

    def outlines(axes: Any, plane: _Plane, index: int) -> None:
        for labels, colour, style in ((reference, REFERENCE, "solid"), (prediction, PREDICTION, (0, (3, 2)))):
            cut = to_picture(labels, plane, index)
            for value in np.unique(cut[cut > 0]):
                draw_outline(axes, cut == value, centres_mm(plane, labels.shape, image.spacing_mm), colour, style)

    return _draw(image, box, choose_planes(reference, prediction), modality, outlines)


def draw_prediction(image: Volume, prediction: NDArray[Any], values: Sequence[int], *, modality: str) -> str:
    """Draw three planes with every predicted structure of `values` in its colour, with its value where there is room.

    Returns:
        A PNG data address.
    """
    box = _box(prediction > 0, image.spacing_mm)
    prediction = prediction[box]
    to_rgba = require("matplotlib.colors", feature="medssl report", extra="report").to_rgba

    def areas(axes: Any, plane: _Plane, index: int) -> None:
        cut = to_picture(prediction, plane, index)
        paint = np.zeros((*cut.shape, 4))
        for order, value in enumerate(values):
            paint[cut == value] = to_rgba(class_colour(order), 0.5)
        width, height = _size_mm(plane, prediction.shape, image.spacing_mm)
        axes.imshow(paint, origin="lower", extent=(0, width, 0, height), interpolation="nearest")
        for value in values:
            _write_value(axes, cut == value, value, centres_mm(plane, prediction.shape, image.spacing_mm))

    return _draw(image, box, choose_planes(None, prediction), modality, areas)


def class_colour(order: int) -> str:
    """Return the colour of the nth structure in the pictures without a reference."""
    return CLASS_COLOURS[order % len(CLASS_COLOURS)]


def grey_window(image: Volume, modality: str) -> tuple[float, float]:
    """Return the intensities shown as black and white: -160 to 240 HU for CT, else the middle 99% of the volume."""
    if "CT" in modality.upper().split():
        return _CT_WINDOW
    sample = image.values[::2, ::2, ::2].astype(np.float32)
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.percentile(finite, [0.5, 99.5]))
    return (low, high) if high > low else (low, low + 1.0)


def _draw(
    image: Volume, box: _Box, planes: tuple[int, int, int], modality: str, paint: Callable[[Any, _Plane, int], None]
) -> str:
    values = image.values[box]
    sizes = [_size_mm(plane, values.shape, image.spacing_mm) for plane in PLANES]
    # All planes get the same height; a gap of black keeps them apart
    ratios = [width / height for width, height in sizes]
    height_inch = min(_MOST_HEIGHT_INCH, (_WIDTH_INCH - 2 * _GAP_INCH) / sum(ratios))
    width_inch = height_inch * sum(ratios) + 2 * _GAP_INCH
    figure = new_figure(width_inch, height_inch, face="black")
    figure.set_layout_engine("none")
    low, high = grey_window(image, modality)
    left = 0.0
    for plane, ratio, (width_mm, height_mm) in zip(PLANES, ratios, sizes, strict=True):
        axes = figure.add_axes((left / width_inch, 0.0, ratio * height_inch / width_inch, 1.0))
        left += ratio * height_inch + _GAP_INCH
        cut = to_picture(values, plane, planes[plane.normal])
        extent = (0, width_mm, 0, height_mm)
        axes.imshow(cut, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="bilinear", extent=extent)
        paint(axes, plane, planes[plane.normal])
        axes.set_axis_off()
        write_letters(axes, plane)
    return png_data(figure)


def draw_outline(axes: Any, mask: _Mask, centres: Any, colour: str, style: Any) -> None:
    """Draw the outline of a mask of one picture; a solid line gets a dark edge.

    Args:
        axes: matplotlib axes.
        mask: As `to_picture` lays it out.
        centres: From `centres_mm`.
        colour: Colour of the line.
        style: Line style of matplotlib.
    """
    if mask.all():
        return  # nothing of its outline lies in the picture
    effects = require("matplotlib.patheffects", feature="medssl report", extra="report")
    # The thinner dashes lie on the wider solid line, so both stay visible where they agree
    width = 2.4 if style == "solid" else 1.6
    lines = axes.contour(*centres, mask.astype(np.float32), levels=[0.5], colors=[colour], linewidths=width)
    lines.set_linestyle([style])
    if style == "solid":
        lines.set_path_effects([effects.withStroke(linewidth=3.4, foreground="black", alpha=0.7)])


def _write_value(axes: Any, mask: _Mask, value: int, centres_mm: tuple[Any, Any]) -> None:
    """Write a structure's value where it is thickest, so that its colour is not all that names it."""
    across, up = centres_mm
    # Beyond the picture's edge there is nothing: the border counts as an edge of the structure
    depth = distance_transform_edt(np.pad(mask, 1), sampling=(up[0] * 2, across[0] * 2))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    if depth[row, column] < _LEAST_DEPTH_MM:
        return
    effects = require("matplotlib.patheffects", feature="medssl report", extra="report")
    axes.text(
        across[column], up[row], str(value), color="white", fontsize=8, ha="center", va="center",
        path_effects=[effects.withStroke(linewidth=2, foreground="black")],
    )  # fmt: skip


def write_letters(axes: Any, plane: _Plane) -> None:
    """Write on the edges of a picture where the patient's sides are."""
    effects = require("matplotlib.patheffects", feature="medssl report", extra="report")
    edge = [effects.withStroke(linewidth=2.5, foreground="black")]
    for letter, x, y in (
        (plane.left, 0.03, 0.5),
        (plane.right, 0.97, 0.5),
        (plane.top, 0.5, 0.965),
        (plane.bottom, 0.5, 0.035),
    ):
        axes.text(
            x, y, letter, transform=axes.transAxes, color="white", fontsize=10, fontweight="bold",
            ha="center", va="center", path_effects=edge,
        )  # fmt: skip


def _box(foreground: _Mask, spacing_mm: Sequence[float]) -> _Box:
    """Return the foreground's bounding box and a margin around it; of an empty mask, everything."""
    slices = []
    for axis, size in enumerate(foreground.shape):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(foreground.any(axis=others))
        margin = int(np.ceil(_MARGIN_MM / spacing_mm[axis]))
        first, last = (int(hits[0]), int(hits[-1])) if hits.size else (0, size - 1)
        slices.append(slice(max(0, first - margin), min(size, last + 1 + margin)))
    return slices[0], slices[1], slices[2]


def _axes_of(plane: _Plane) -> tuple[int, int]:
    """Return the volume axes that run across and up the picture."""
    across, up = (axis for axis in range(3) if axis != plane.normal)
    return across, up


def _size_mm(plane: _Plane, shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[float, float]:
    across, up = _axes_of(plane)
    return shape[across] * spacing_mm[across], shape[up] * spacing_mm[up]


def centres_mm(plane: _Plane, shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[Any, Any]:
    """Return where the centres of a picture's columns and rows lie, in mm."""
    across, up = _axes_of(plane)
    return (np.arange(shape[across]) + 0.5) * spacing_mm[across], (np.arange(shape[up]) + 0.5) * spacing_mm[up]
