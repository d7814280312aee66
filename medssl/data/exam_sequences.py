"""What the sequences of a prostate exam must be before they are put on one grid, and how their values are scaled."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import GeometryError, ImageError
from medssl.core.findings import Finding
from medssl.data.volumes import Header

AdcScaling = Literal["zscore", "fixed"]

_COARSEST_MM = 1.0
_ROUNDING_MM = 1e-3  # spacings come out of affines in single precision, a little off what the scanner was set to
_LEAST_COVERED = 0.5
_CENTRAL_MM = 60.0
# Median of the positive voxels in the middle of a pelvis in 1e-6 mm2/s; prostate, muscle and bladder lie around it
_USUAL_ADC = 1100.0
_FURTHEST_FACTOR = math.sqrt(10)
_ADC_UNITS = {3: "1e-9 mm2/s", -3: "1e-3 mm2/s", -6: "mm2/s"}
_PERCENTILES = (0.5, 99.5)
_FIXED_ADC = 3000.0


def require_fine_t2w(header: Header) -> None:
    """Refuse a T2-weighted image that is too coarse in its plane, or whose plane is not axial.

    Raises:
        GeometryError: If it is.
    """
    spacing = np.array(header.spacing_mm)
    upwards = next(axis for axis, code in enumerate(header.orientation) if code in "SI")
    shown = " x ".join(f"{value:.3g}" for value in header.spacing_mm)
    in_plane = np.delete(spacing, upwards)
    if in_plane.max() > _COARSEST_MM + _ROUNDING_MM:
        text = f"{header.path.name}: expected an axial T2W of at most 1 mm in its plane, found {shown} mm."
        fix = "Use the axial T2W of the exam at its full resolution, or leave the exam out."
        raise GeometryError(text, fix=fix, code="t2w-spacing")


def require_adc_units(header: Header, voxels: NDArray[Any]) -> None:
    """Refuse an ADC map whose values are not in 1e-6 mm2/s, judged by the middle of the image.

    Args:
        header: Header of the map, for its name and spacing.
        voxels: Map (X, Y, Z).

    Raises:
        ImageError: If the median of the middle is off by a factor of more than 3.2 from that of a pelvis, as it is for
            maps that are 10 or 1000 times too large or too small.
    """
    middle = voxels[_central(header)]
    positive = middle[middle > 0]
    if positive.size == 0:
        text = f"{header.path.name}: expected an ADC map in 1e-6 mm2/s, found no positive value in its middle."
        raise ImageError(text, fix="Export the map again.", code="adc-units")
    median = float(np.median(positive))
    if 1 / _FURTHEST_FACTOR <= median / _USUAL_ADC <= _FURTHEST_FACTOR:
        return
    power = round(math.log10(median / _USUAL_ADC))
    unit = f"it seems to be in {_ADC_UNITS[power]}" if power in _ADC_UNITS else "it seems to be scaled"
    times = f"{10.0 ** abs(power):,.0f} times too {'large' if power > 0 else 'small'}"
    text = (
        f"{header.path.name}: expected an ADC map in 1e-6 mm2/s, with a median near 1,100 in the middle; found "
        f"{median:.4g}, about {times}: {unit}."
    )
    by = f"Divide the map by {10.0**power:,.0f}" if power > 0 else f"Multiply the map by {10.0**-power:,.0f}"
    raise ImageError(text, fix=f"{by}, or export it again.", code="adc-units")


def _central(header: Header) -> tuple[slice, ...]:
    window = []
    for size, spacing in zip(header.shape, header.spacing_mm, strict=True):
        half = min(size / 2, _CENTRAL_MM / 2 / spacing)
        window.append(slice(math.floor(size / 2 - half), max(math.ceil(size / 2 + half), 1)))
    return tuple(window)


def judge_field_of_view(header: Header, inside: NDArray[np.bool_], *, case: str) -> list[Finding]:
    """Report a T2W that covers less than half of the crop.

    Args:
        header: Header of the T2W.
        inside: For each voxel of the crop, whether the T2W covers it.
        case: Case id.
    """
    share, name = float(inside.mean()), header.path.name
    if share >= _LEAST_COVERED:
        return []
    text = f"{name}: expected a field of view that fills the crop, found {share:.0%} of the crop within the T2W."
    fix = "Use a smaller --crop; the rest of each image is without content."
    return [Finding(code="t2w-coverage", severity="warning", case=case, where=name, text=text, fix=fix)]


def require_coverage(
    header: Header, inside: NDArray[np.bool_], *, within: NDArray[np.bool_], sequence: Literal["adc", "hbv"]
) -> None:
    """Refuse a diffusion sequence that lies elsewhere than the T2W in the crop, or covers less than half of it.

    Args:
        header: Header of the sequence.
        inside: For each voxel of the crop, whether the sequence covers it.
        within: Where the T2W covers the crop; what lies beyond is no fault of the sequence.
        sequence: Its name.

    Raises:
        GeometryError: If it is refused.
    """
    share = float(inside[within].mean()) if within.any() else 0.0
    name = header.path.name
    fix = "Bring the sequence of the same exam and position; check that both headers are in scanner coordinates."
    if share == 0:
        text = f"{name}: expected {sequence.upper()} at the place of the T2W, found no overlap in space."
        raise GeometryError(text, fix=fix, code="sequence-overlap")
    if share < _LEAST_COVERED:
        text = f"{name}: expected {sequence.upper()} to cover the T2W in the crop, found {share:.0%} of it covered."
        raise GeometryError(text, fix=f"{fix} Or use a smaller --crop.", code="sequence-coverage")


def normalise(
    voxels: NDArray[np.float32], inside: NDArray[np.bool_], *, name: str, fixed: bool = False
) -> NDArray[np.float32]:
    """Scale one sequence (X, Y, Z): clip to the percentiles 0.5 and 99.5 and bring to mean 0 and deviation 1.

    Args:
        voxels: Sequence on the working grid.
        inside: Where the sequence has been measured; only these voxels count, and the others become the darkest.
        name: File name, for the message.
        fixed: Map 0 to 3000 to 0 to 1 instead, which keeps the absolute scale of an ADC map.

    Raises:
        ImageError: If there is no contrast.
    """
    if fixed:
        return np.clip(voxels / _FIXED_ADC, 0, 1).astype(np.float32)
    low, high = np.percentile(voxels[inside], _PERCENTILES)
    clipped = np.clip(voxels.astype(np.float64), low, high)
    deviation = clipped[inside].std()
    if deviation == 0:
        text = f"{name}: expected an image with contrast, found {low:g} in nearly every voxel of the crop."
        raise ImageError(text, fix="Export the image again, or leave the exam out.", code="image-constant")
    clipped[~inside] = low
    return ((clipped - clipped[inside].mean()) / deviation).astype(np.float32)
