"""One case through a bundle: read, preprocess, run the network, restore and write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError, GeometryError, ImageError
from medssl.data.grids import Grid
from medssl.data.volume_writing import place_fields
from medssl.data.volumes import Header, read_header, read_volume
from medssl.inference.geometry import Resample, Step, steps_back
from medssl.inference.lesions import Maps, lesion_maps
from medssl.inference.memory import CaseMemory, plan_case
from medssl.inference.network import TileRunner, prepare_network
from medssl.inference.restore import restore_labels, restore_scores
from medssl.inference.settings import OutputRule, Transform
from medssl.inference.tiles import TileSettings, padded_shape
from medssl.metrics.lesion_candidates import CandidateRule

_LESION_CLASSES = 2

# One world unit of difference between the channels of a case, in mm
_SAME_PLACE_MM = 1e-2


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What the run record says about the bundle."""

    name: str
    version: str
    weights_sha256: str
    config_sha256: str
    labels: Mapping[str, str]
    channels: tuple[str, ...] = ()  # of the input; empty where metadata.json does not tell

    def to_json(self) -> dict[str, str]:
        """Return what a record names the bundle by; its labels stand beside that."""
        return {
            "name": self.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            "config_sha256": self.config_sha256,
        }


@dataclass(kw_only=True, eq=False)
class Working:
    """A case on the grid that the network works on.

    Attributes:
        volume: Image (C, X, Y, Z) before the network, scores (K, X, Y, Z) after it.
        native: Grid of the file.
        steps: Way back to it.
        place: Header fields that place the voxels, for NIfTI files.
        maps: Further channels (M, X, Y, Z) of the network, such as its uncertainty; None without any.
    """

    volume: Tensor
    native: Grid
    steps: tuple[Step, ...]
    place: dict[str, Any] | None
    maps: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the case holds while it waits for the next stage."""
        return sum(each.numel() * each.element_size() for each in (self.volume, self.maps) if each is not None)


class Predictor:
    """A bundle ready to run: does for one case what `python -m monai.bundle run` does, with less memory.

    Several threads may use it at once. Close it after use, or use it in a `with` block.

    Args:
        network: `network_def` with its weights.
        preprocessing: Map transforms from `settings.preprocessing_steps`.
        tiles: From `settings.tile_settings`.
        rule: From `settings.output_rule`.
        facts: Names and hashes of the bundle.
        device: Where the network runs.
        amp_dtype: Type of mixed precision, or None for float32.
        lanes: Threads that run tiles.
        maps: Names of the channels behind the classes, which are restored as they are and decide nothing.
        candidates: How lesion candidates are cut out of the second of two classes, or None.
        mirrors: Axes of each mirror image whose probabilities are averaged with those of the image, from
            `settings.mirrored_axes`.

    Raises:
        ConfigError: If lesions are wanted of other than two classes.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        preprocessing: Sequence[Transform],
        tiles: TileSettings,
        rule: OutputRule,
        facts: BundleFacts,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
        lanes: int = 1,
        maps: Sequence[str] = (),
        candidates: CandidateRule | None = None,
        mirrors: Sequence[tuple[int, ...]] = (),
    ) -> None:
        if candidates is not None and len(facts.labels) != _LESION_CLASSES:
            message = f"lesion candidates: expected background and one lesion class, found {len(facts.labels)} classes."
            raise ConfigError(message)
        self.facts = facts
        self.candidates = candidates
        self.mirrors = tuple(mirrors)
        self.map_names = tuple(maps)
        self.device = device
        self.lanes = lanes
        self.tiles = tiles
        self.amp_dtype = amp_dtype
        self._loader, self._transforms = preprocessing[0], tuple(preprocessing[1:])
        self._rule = rule
        self._runner = TileRunner(
            prepare_network(network, device), tiles, device=device, amp_dtype=amp_dtype, lanes=lanes
        )

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads that run tiles."""
        self._runner.close()

    def describe(self) -> str:
        """Return the plan of a run as one line."""
        precision = str(self.amp_dtype or torch.float32).removeprefix("torch.")
        tile = " x ".join(str(side) for side in self.tiles.roi_size)
        where = f"{self.device}, {self.lanes} lanes" if self.lanes > 1 else str(self.device)
        mirrored = f", mean over {1 + len(self.mirrors)} mirror images" if self.mirrors else ""
        return f"{self.facts.name}: {where}, {precision}, tiles of {tile}, overlap {self.tiles.overlap[0]:g}{mirrored}"

    @property
    def classes(self) -> int:
        """Channels of the network's output."""
        return 1 if self._rule.decision.threshold is not None else len(self.facts.labels)

    def plan(self, paths: Sequence[Path], *, keep_probabilities: bool = False) -> CaseMemory:
        """Estimate the memory of a case from its headers; no voxel is read.

        Raises:
            ImageError: If a header cannot be used.
            GeometryError: If channels lie on different grids.
        """
        self._require_channels(paths)
        headers = [read_header(path) for path in paths]
        _require_one_grid(headers)
        first = headers[0]
        working = padded_shape(self._working_shape(first), self.tiles)
        return plan_case(
            shape=first.shape,
            stored_bytes=max(header.stored_bytes for header in headers),
            working_shape=working,
            channels=len(paths),
            classes=self.classes + len(self.map_names),
            keep_probabilities=keep_probabilities or self.candidates is not None,
        )

    def _require_channels(self, paths: Sequence[Path]) -> None:
        wanted = self.facts.channels
        if wanted and len(paths) != len(wanted):
            files = "file" if len(wanted) == 1 else "files"
            text = f"expected {len(wanted)} image {files} a case ({', '.join(wanted)}), found {len(paths)}."
            fix = "Name all files of a case in a manifest, in this order; medssl import makes one."
            raise ImageError(text, fix=fix, code="channels")

    def read(self, paths: Sequence[Path]) -> Working:
        """Read the channels of a case and preprocess them as the bundle says.

        Raises:
            ImageError: If a file cannot be read.
            GeometryError: If channels lie on different grids, or preprocessing loses the geometry.
        """
        volumes = [read_volume(path) for path in paths]
        headers = [volume.header for volume in volumes]
        _require_one_grid(headers)
        native = Grid(shape=headers[0].shape, affine=headers[0].affine)
        data: dict[str, Any] = {"image": _meta_tensor([volume.voxels for volume in volumes], native)}
        del volumes
        grids = [native]
        for transform in self._transforms:
            if not _changes_nothing(transform, grids[-1]):
                data = dict(transform(data))
                grids.append(_grid_of(data["image"], transform))
        steps = steps_back(grids)
        return Working(volume=data["image"].as_tensor(), native=native, steps=steps, place=place_fields(paths[0]))

    def score(self, case: Working, *, keep_probabilities: bool = False) -> Working:
        """Run the network; what comes back holds scores, with the activation applied where it changes the result.

        The largest class is the same before and after softmax, so softmax is left out unless scores are interpolated,
        averaged or kept. Mirror images are turned back before they are averaged.
        """
        matters = (
            keep_probabilities
            or self.candidates is not None
            or bool(self.mirrors)
            or self._rule.decision.threshold is not None
            or any(isinstance(step, Resample) for step in case.steps)
        )
        scores = self._scores(case.volume, matters=matters)
        for axes in self.mirrors:
            turned = [1 + axis for axis in axes]
            scores = scores + self._scores(case.volume.flip(turned), matters=matters).flip(turned)
        scores = scores / (1 + len(self.mirrors)) if self.mirrors else scores
        maps = None
        if self.map_names:
            scores, maps = scores.split([len(scores) - len(self.map_names), len(self.map_names)])
        return Working(volume=scores, native=case.native, steps=case.steps, place=case.place, maps=maps)

    def _scores(self, volume: Tensor, *, matters: bool) -> Tensor:
        """Return the scores of a volume, and its maps behind them; with the activation if it matters."""
        scores = self._runner(volume, normalised=matters or bool(self.map_names))
        if matters and self.map_names:
            classes = len(scores) - len(self.map_names)
            scores = torch.cat([self._activate(scores[:classes]), scores[classes:]])
        elif matters:
            scores = self._activate(scores)
        return scores.cpu()

    def labels(self, case: Working) -> npt.NDArray[Any]:
        """Restore scores to the native grid and decide; returns the label map (X, Y, Z)."""
        labels = restore_labels(case.volume, steps=case.steps, decision=self._rule.decision)
        for cleaner in self._rule.cleaners:
            labels = torch.as_tensor(cleaner({"pred": labels[None]})["pred"])[0].to(labels.dtype)
        return labels.numpy()

    def probabilities(self, case: Working) -> npt.NDArray[Any]:
        """Restore probabilities to the native grid: (X, Y, Z, K), float32."""
        return restore_scores(case.volume, steps=case.steps).movedim(0, -1).float().numpy()

    def maps(self, case: Working) -> dict[str, npt.NDArray[Any]]:
        """Restore the further channels to the native grid: name to (X, Y, Z), float32."""
        if case.maps is None:
            return {}
        restored = restore_scores(case.maps, steps=case.steps).float().numpy()
        return dict(zip(self.map_names, restored, strict=True))

    def lesions(self, case: Working) -> Maps:
        """Return the lesion's probability and the detection map on the native grid; empty for other bundles."""
        return {} if self.candidates is None else lesion_maps(self.probabilities(case), self.candidates)

    def _activate(self, scores: Tensor) -> Tensor:
        if self._rule.activation == "softmax":
            return torch.softmax(scores, dim=0)
        return torch.sigmoid(scores) if self._rule.activation == "sigmoid" else scores

    def _working_shape(self, header: Header) -> tuple[int, ...]:
        """Estimate the shape after preprocessing: the extent in mm over the spacing that the bundle works at."""
        spacing = next((_pixdim(step) for step in self._transforms if type(step).__name__ == "Spacingd"), None)
        if spacing is None:
            return header.shape
        # Which axis gets which spacing depends on the orientation; the finest one on every axis is the safe side
        # for an anisotropic target.
        wanted = spacing if len(set(spacing)) == 1 else (min(spacing),) * 3
        extents = zip(header.shape, header.spacing_mm, wanted, strict=True)
        return tuple(math.ceil(size * mm / target) + 1 for size, mm, target in extents)


def _meta_tensor(channels: Sequence[npt.NDArray[Any]], native: Grid) -> Any:
    """Return what LoadImaged would, float32 and without any header text."""
    from monai.data import MetaTensor

    voxels = np.empty((len(channels), *native.shape), dtype=np.float32)
    for target, channel in zip(voxels, channels, strict=True):
        target[...] = channel
    single = len(channels) == 1
    affine = torch.from_numpy(native.affine.copy())
    meta = {
        "original_affine": affine.clone(),
        "spatial_shape": np.array(native.shape),
        "original_channel_dim": "no_channel" if single else 0,
        "space": "RAS",
    }
    return MetaTensor(torch.from_numpy(voxels[0] if single else voxels), affine=affine, meta=meta)


def _grid_of(image: Any, transform: Transform) -> Grid:
    from monai.data import MetaTensor

    if not isinstance(image, MetaTensor):
        text = f"preprocessing, {type(transform).__name__}: expected a MetaTensor, found {type(image).__name__}."
        raise GeometryError(text, fix="Set track_meta to true.", code="bundle-unsupported")
    x, y, z = image.shape[-3:]
    return Grid(shape=(x, y, z), affine=np.asarray(image.affine, dtype=np.float64))


def _changes_nothing(transform: Any, grid: Grid) -> bool:
    """Tell whether an orientation or spacing is already as wanted; asking is far cheaper than MONAI's identity."""
    import nibabel as nib

    name = type(transform).__name__
    if name == "Orientationd":
        wanted = transform.ornt_transform.axcodes
        return wanted is not None and tuple(wanted) == nib.aff2axcodes(grid.affine)
    if name == "Spacingd":
        pixdim, diagonal = _pixdim(transform), transform.spacing_transform.diagonal
        spacing = np.sqrt((grid.affine[:3, :3] ** 2).sum(axis=0))
        return not diagonal and pixdim is not None and bool(np.allclose(spacing, pixdim, rtol=1e-7, atol=0))
    return False


def _pixdim(transform: Any) -> tuple[float, float, float] | None:
    values = [float(value) for value in np.ravel(transform.spacing_transform.pixdim)]
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(value > 0 for value in values):
        return None
    return values[0], values[1], values[2]


def _require_one_grid(headers: Sequence[Header]) -> None:
    first = headers[0]
    for other in headers[1:]:
        if other.shape != first.shape or not np.allclose(other.affine, first.affine, atol=_SAME_PLACE_MM):
            text = (
                f"{other.path.name}: expected the grid of {first.path.name} ({first.shape} voxels), "
                f"found {other.shape} voxels or another affine."
            )
            raise GeometryError(text, fix="Resample the channels of the case to one grid.", code="channel-grid")
