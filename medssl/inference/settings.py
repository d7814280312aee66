"""What a bundle's inference configuration asks for, taken from the MONAI objects it builds.

The batch runner does the same as MONAI would, in another order and with less memory. So it must understand every
part: what it does not know is refused here, before the first case, and never skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medssl.core.errors import ConfigError
from medssl.inference.restore import Decision
from medssl.inference.tiles import TileSettings

Transform = Callable[[dict[str, Any]], Mapping[Any, Any]]

_STOCK = "Run this bundle with: python -m monai.bundle run --config_file configs/inference.json"

# Transforms that move voxels, and that going back by grids (geometry.steps_back) inverts as MONAI's Invertd does.
_SPATIAL = frozenset(
    {
        "Orientationd",
        "Spacingd",
        "Flipd",
        "SpatialCropd",
        "CenterSpatialCropd",
        "CropForegroundd",
        "SpatialPadd",
        "DivisiblePadd",
        "BorderPadd",
    }
)
_NOT_SPATIAL_BUT_INVERTIBLE = frozenset({"ToTensord", "EnsureTyped", "Compose"})
# Transforms that may follow AsDiscreted: label map in, label map out.
_CLEANERS = frozenset({"KeepLargestConnectedComponentd", "FillHolesd", "RemoveSmallObjectsd", "LabelFilterd"})


@dataclass(frozen=True, kw_only=True)
class OutputRule:
    """What happens to the network's scores.

    Attributes:
        activation: Applied before restoring.
        decision: How scores become labels on the native grid.
        cleaners: MONAI map transforms applied to the label map (1, X, Y, Z) under key "pred".
    """

    activation: Literal["softmax", "sigmoid"] | None
    decision: Decision
    cleaners: tuple[Transform, ...] = field(default=())


def preprocessing_steps(preprocessing: Any) -> tuple[Transform, ...]:
    """Return the map transforms of a bundle's preprocessing, the loader first.

    Raises:
        ConfigError: If one of them is random, lazy, or moves voxels in a way that cannot be taken back here.
    """
    from monai.transforms import Randomizable

    steps = tuple(preprocessing.flatten().transforms)
    if not steps or type(steps[0]).__name__ != "LoadImaged":
        found = type(steps[0]).__name__ if steps else "nothing"
        raise _refusal("preprocessing", f"expected LoadImaged as the first transform, found {found}.")
    if getattr(preprocessing, "lazy", False):
        raise _refusal("preprocessing", "expected transforms that run one after another, found lazy: true.")
    for number, step in enumerate(steps):
        where = f"preprocessing#transforms#{number}"
        if tuple(getattr(step, "keys", ())) != ("image",):
            raise _refusal(where, f'expected keys "image", found {getattr(step, "keys", None)}.')
        if isinstance(step, Randomizable):
            raise _refusal(where, f"expected no random transform, found {type(step).__name__}.")
        _check_spatial(step, where)
    return steps


def _check_spatial(step: Any, where: str) -> None:
    from monai.transforms import InvertibleTransform

    name = type(step).__name__
    if name not in _SPATIAL:
        if isinstance(step, InvertibleTransform) and name not in _NOT_SPATIAL_BUT_INVERTIBLE:
            known = ", ".join(sorted(_SPATIAL))
            raise _refusal(where, f"expected one of {known} to move voxels, found {name}.")
        return
    if name == "Spacingd":
        modes = {str(getattr(mode, "value", mode)) for mode in step.mode}
        borders = {str(getattr(mode, "value", mode)) for mode in step.padding_mode}
        if modes != {"bilinear"} or borders != {"border"}:
            raise _refusal(where, f'expected mode "bilinear" and padding_mode "border", found {modes} and {borders}.')


def tile_settings(inferer: Any) -> TileSettings:
    """Return the tiles that a bundle's inferer cuts; `SimpleInferer` is one tile of the whole volume.

    Raises:
        ConfigError: If it is another inferer, or an option changes the result in a way not known here.
    """
    from monai.inferers import SimpleInferer, SlidingWindowInferer
    from monai.utils import ensure_tuple_rep

    if type(inferer) is SimpleInferer:
        return TileSettings(roi_size=(0, 0, 0), overlap=(0.0, 0.0, 0.0))
    if type(inferer) is not SlidingWindowInferer:
        name = type(inferer).__name__
        raise _refusal("inferer", f"expected SlidingWindowInferer or SimpleInferer, found {name}.")
    if inferer.with_coord:
        raise _refusal("inferer#with_coord", "expected false, found true.")
    overlap = tuple(float(share) for share in ensure_tuple_rep(inferer.overlap, 3))
    if not all(0 <= share < 1 for share in overlap):
        raise _refusal("inferer#overlap", f"expected shares from 0 to below 1, found {overlap}.")
    return TileSettings(
        roi_size=tuple(int(side or 0) for side in ensure_tuple_rep(inferer.roi_size, 3)),
        overlap=overlap,
        batch_size=int(inferer.sw_batch_size),
        mode="gaussian" if str(inferer.mode.value) == "gaussian" else "constant",
        sigma_scale=tuple(float(scale) for scale in ensure_tuple_rep(inferer.sigma_scale, 3)),
        padding_mode=str(getattr(inferer.padding_mode, "value", inferer.padding_mode)),
        padding_value=float(inferer.cval),
    )


def mirrored_axes(setting: Any) -> tuple[tuple[int, ...], ...]:
    """Read `flip_axes` of inference.json: axes of the preprocessed image (0 is X) along which it is mirrored too.

    Stock MONAI passes over this key, and then sees the image itself alone.

    Args:
        setting: List of axes, or None.

    Returns:
        The axes of each mirror image: every combination of the given axes.

    Raises:
        ConfigError: If it is no list of different axes.
    """
    axes = [] if setting is None else setting
    whole = isinstance(axes, list) and all(type(axis) is int and 0 <= axis <= 2 for axis in axes)
    if not whole or len(set(axes)) != len(axes):
        message = f"inference.json, flip_axes: expected a list of different axes from 0 to 2, found {setting!r}."
        raise ConfigError(message)
    return tuple(chosen for count in range(1, len(axes) + 1) for chosen in itertools.combinations(axes, count))


def output_rule(postprocessing: Any) -> OutputRule:
    """Return what a bundle's postprocessing does to the scores.

    Understood: Activationsd (softmax or sigmoid), Invertd with nearest_interp false, AsDiscreted (argmax or
    threshold), cleaners of label maps, SaveImaged; in this order.

    Raises:
        ConfigError: If there is anything else.
    """
    steps = list(postprocessing.flatten().transforms)
    names = [type(step).__name__ for step in steps]
    activation = _activation(steps.pop(0)) if names[:1] == ["Activationsd"] else None
    if not steps or type(steps[0]).__name__ != "Invertd":
        raise _refusal("postprocessing", f"expected Activationsd, Invertd, AsDiscreted, SaveImaged, found {names}.")
    if any(steps.pop(0).nearest_interp):
        raise _refusal("postprocessing, Invertd", "expected nearest_interp false, found true.")
    if not steps or type(steps[0]).__name__ != "AsDiscreted":
        raise _refusal("postprocessing", f"expected AsDiscreted after Invertd, found {names}.")
    decision = _decision(steps.pop(0))
    if steps and type(steps[-1]).__name__ == "SaveImaged":
        steps.pop()
    unknown = [type(step).__name__ for step in steps if type(step).__name__ not in _CLEANERS]
    if unknown:
        known = ", ".join(sorted(_CLEANERS))
        raise _refusal("postprocessing", f"expected only {known} after AsDiscreted, found {', '.join(unknown)}.")
    return OutputRule(activation=activation, decision=decision, cleaners=tuple(steps))


def _activation(step: Any) -> Literal["softmax", "sigmoid"] | None:
    if any(other is not None for other in step.other) or (any(step.softmax) and any(step.sigmoid)):
        raise _refusal("postprocessing, Activationsd", "expected softmax or sigmoid, found something else.")
    if any(step.softmax):
        return "softmax"
    return "sigmoid" if any(step.sigmoid) else None


def _decision(step: Any) -> Decision:
    argmax, threshold = any(step.argmax), _only(step.threshold)
    if any(rule is not None for rule in (*step.to_onehot, *step.rounding)) or argmax == (threshold is not None):
        raise _refusal("postprocessing, AsDiscreted", "expected argmax or one threshold, found something else.")
    return Decision(threshold=None if threshold is None else float(threshold))


def _only(values: Sequence[Any]) -> Any:
    return values[0] if values else None


def _refusal(where: str, text: str) -> ConfigError:
    return ConfigError(f"inference.json, {where}: {text}", fix=_STOCK, code="bundle-unsupported")
