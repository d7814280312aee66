"""Export the network of a bundle for other runtimes, and keep only what computes what the bundle computes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.bundle.config import META, read_json
from medssl.bundle.predictor import load_weights
from medssl.bundle.resolve import build_network, load_config
from medssl.core.errors import ConfigError, MedsslError
from medssl.core.files import atomic_path, sha256_file
from medssl.core.optional import require
from medssl.core.quiet import quiet

Form = Literal["torchscript", "onnx", "pt2"]
FORMS: dict[str, str] = {
    "torchscript": "models/model.ts",
    "onnx": "models/model.onnx",
    # Only medssl knows this form, and models/ is for what every host reads
    "pt2": "exports/model.pt2",
}
TOLERANCE = 1e-4
"""Largest difference to eager that is accepted, as a share of the largest logit (at least of 1)."""

_SEED = 0
_OPSET = 20
_RECORD = "medssl_export.json"
Run = Callable[[Tensor], Tensor]


class ExportError(MedsslError):
    """A network that cannot be exported, or whose exported form computes something else."""

    code = "export"


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was exported and how far it is from the network.

    Attributes:
        file: Where it was written.
        form: "torchscript", "onnx" or "pt2".
        method: "script", "trace" or "export".
        open_shape: Whether batch and image size may differ from the patch.
        shapes: Input shapes (B, C, X, Y, Z) on which the two were compared.
        difference: Largest absolute difference of a logit.
        largest_logit: Largest absolute logit of the network on the same inputs.
        weights_sha256: Hash of the bundle's weights.
    """

    file: str
    form: str
    method: str
    open_shape: bool
    shapes: tuple[tuple[int, ...], ...]
    difference: float
    largest_logit: float
    weights_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; it is also kept inside the exported file."""
        return {**asdict(self), "shapes": [list(shape) for shape in self.shapes]}


def export_bundle(
    bundle: Path, *, to: Form, out: Path | None = None, open_shape: bool = False, trust: bool = False
) -> Export:
    """Export `network_def` with the bundle's weights, compare it with eager on random images, and write it.

    The file appears only when the largest difference stays below `TOLERANCE`. A TorchScript file carries metadata.json
    and inference.json as MONAI's `ckpt_export` writes them, so Deploy reads it as it is.

    Args:
        bundle: Folder of the bundle.
        to: "torchscript" (Deploy, other languages), "onnx" (any runtime) or "pt2" (torch.export).
        out: File to write; by default inside the bundle, see `FORMS`.
        open_shape: Let batch and image size vary (onnx, pt2; TorchScript made by scripting always does).
        trust: Run code that bundles do not need.

    Raises:
        ConfigError: If the form is unknown or the bundle cannot be read.
        CheckpointError: If there are no weights that fit.
        ExportError: If the network cannot be exported or the exported form differs.
        DependencyError: If ONNX is asked for and not installed.
    """
    if to not in FORMS:
        message = f"--to: expected one of {', '.join(FORMS)}, found {to!r}."
        raise ConfigError(message)
    target = Path(out) if out is not None else Path(bundle) / FORMS[to]
    network, images = _network_and_images(Path(bundle), trust=trust, open_shape=open_shape)
    weights = sha256_file(Path(bundle) / "models" / "model.pt")
    with atomic_path(target) as temporary, torch.inference_mode(), quiet():
        expected = [network(image) for image in images]
        writer = _WRITERS[to](network, images[0], open_shape)
        record = Export(
            file=target.name,
            form=to,
            method=writer.method,
            open_shape=open_shape,
            shapes=tuple(tuple(image.shape) for image in images),
            difference=0.0,
            largest_logit=max(float(each.abs().max()) for each in expected),
            weights_sha256=weights,
        )
        writer.write(temporary, bundle, {})
        record = _compared(record, writer.load(temporary), images, expected)
        # The record lies inside the file, so that no second file can be lost or belong to another
        writer.write(temporary, bundle, record.to_json())
    return record


def _compared(record: Export, run: Run, images: list[Tensor], expected: list[Tensor]) -> Export:
    found = [run(image) for image in images]
    difference = max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))
    # written so that a NaN is refused too
    if not difference <= TOLERANCE * max(1.0, record.largest_logit):
        message = (
            f"{record.form}: expected logits within {TOLERANCE:g} of the network's (the largest is "
            f"{record.largest_logit:.3g}), found a difference of {difference:.3g}. Nothing was written."
        )
        raise ExportError(message, fix="Use another form, or another network.")
    return Export(**{**asdict(record), "difference": difference})


def _network_and_images(bundle: Path, *, trust: bool, open_shape: bool) -> tuple[nn.Module, list[Tensor]]:
    config = load_config(bundle, ("inference",), trust=trust)
    network = build_network(config)
    load_weights(network, bundle / "models" / "model.pt")
    image = config.content[META]["network_data_format"]["inputs"]["image"]
    channels, size = int(image["num_channels"]), [int(side) for side in image["spatial_shape"]]
    generator = torch.Generator().manual_seed(_SEED)
    # a batch of two: torch.export would take a batch of one for a constant
    shapes = [(2, channels, *size)]
    if open_shape:
        shapes.append((1, channels, *(2 * side for side in size)))
    return network.eval(), [torch.randn(shape, generator=generator) for shape in shapes]


class _TorchScript:
    def __init__(self, network: nn.Module, image: Tensor, open_shape: bool) -> None:
        self.method = "script"
        try:
            self.module: Any = torch.jit.script(network)
        except Exception as reason:  # the compiler raises many kinds
            if open_shape:
                message = f"torchscript: the network cannot be scripted, and a trace has one shape ({_first(reason)})."
                raise ExportError(message, fix="Leave --open-shape out, or export to onnx.") from reason
            self.method = "trace"
            self.module = torch.jit.trace(network, image)

    def write(self, path: Path, bundle: Path, record: dict[str, Any]) -> None:
        from monai.data.torchscript_utils import save_net_with_metadata

        metadata = read_json(bundle / "configs" / "metadata.json")
        files = {
            "inference.json": (bundle / "configs" / "inference.json").read_bytes(),
            _RECORD: json.dumps(record).encode(),
        }
        stream = io.BytesIO()  # given a path, MONAI would write to another if it lacks the suffix
        save_net_with_metadata(self.module, stream, meta_values=metadata, more_extra_files=files)
        path.write_bytes(stream.getvalue())

    def load(self, path: Path) -> Run:
        loaded: Run = torch.jit.load(str(path))
        return loaded


class _Onnx:
    method = "export"

    def __init__(self, network: nn.Module, image: Tensor, open_shape: bool) -> None:
        for module in ("onnx", "onnxscript", "onnxruntime"):
            require(module, feature="Export to ONNX", extra="export")
        try:
            self.program: Any = torch.onnx.export(
                network,
                (image,),
                input_names=["image"],
                output_names=["pred"],
                dynamic_shapes=_dynamic_shapes(image, open_shape),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as reason:  # the exporter raises many kinds
            message = f"onnx: the network cannot be exported ({_first(reason)})."
            raise ExportError(message, fix="Use another form.") from reason

    def write(self, path: Path, bundle: Path, record: dict[str, Any]) -> None:
        self.program.model.metadata_props[_RECORD] = json.dumps(record)
        self.program.save(str(path))

    def load(self, path: Path) -> Run:
        runtime = require("onnxruntime", feature="Export to ONNX", extra="export")
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run(["pred"], {"image": image.numpy()})[0])


class _Pt2:
    method = "export"

    def __init__(self, network: nn.Module, image: Tensor, open_shape: bool) -> None:
        try:
            self.program = torch.export.export(network, (image,), dynamic_shapes=_dynamic_shapes(image, open_shape))
        except Exception as reason:  # the exporter raises many kinds
            message = f"pt2: the network cannot be exported ({_first(reason)})."
            raise ExportError(message, fix="Use another form.") from reason

    def write(self, path: Path, bundle: Path, record: dict[str, Any]) -> None:
        with path.open("wb") as stream:  # given a path, torch insists on its own suffix
            torch.export.save(self.program, stream, extra_files={_RECORD: json.dumps(record)})

    def load(self, path: Path) -> Run:
        with path.open("rb") as stream:
            run: Run = torch.export.load(stream).module()
        return run


_WRITERS: dict[str, Any] = {"torchscript": _TorchScript, "onnx": _Onnx, "pt2": _Pt2}


def _dynamic_shapes(image: Tensor, open_shape: bool) -> tuple[dict[int, Any]] | None:
    """Return the axes of the one input that may vary: batch and space, or none."""
    return ({axis: torch.export.Dim.AUTO for axis in (0, *range(2, image.ndim))},) if open_shape else None


def _first(reason: BaseException) -> str:
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return lines[0].partition(" (of Python compilation unit")[0][:200]
