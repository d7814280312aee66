"""Load weights into a network that may differ from the one they were made for, and say what happened."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.core.errors import CheckpointError

StateDict = dict[str, Tensor]

# Of batch normalisation; other layers of the same name and weights have none
RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass
class LoadReport:
    """What became of every tensor.

    Attributes:
        loaded: Copied as they are.
        reshaped: Copied after a change of the input channels.
        inflated: 2D kernels, copied into n x n x 1 or n x n x 3 ones.
        skipped: In both, but of other shape; the network keeps its own values. "name: file shape, network shape".
        missing: In the network only.
        unexpected: In the file only.
    """

    loaded: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def match(self) -> float:
        """Share of the network's tensors that were filled, 0 to 1."""
        return self.filled / max(1, self.filled + len(self.skipped) + len(self.missing))

    @property
    def filled(self) -> int:
        """Number of the network's tensors that were filled."""
        return len(self.loaded) + len(self.reshaped) + len(self.inflated)

    def add(self, part: LoadReport, *, prefix: str = "") -> None:
        """Append the report of a submodule, whose name stands before its tensors."""
        for each in fields(self):
            before = f"{prefix}." if prefix and each.name != "unexpected" else ""
            names = [f"{before}{name}" for name in getattr(part, each.name)]
            own = getattr(self, each.name)
            own.extend(name for name in names if name not in own)

    def to_json(self) -> dict[str, Any]:
        """Return the lists and the share as plain JSON values."""
        return {**asdict(self), "match": round(self.match, 4)}


def read_weights(path: Path, *, strip_prefix: str = "") -> StateDict:
    """Read a bare state dict of tensors; nothing in the file is executed.

    Args:
        path: File made by `torch.save(network.state_dict())`.
        strip_prefix: Prefix removed from every name that has it, such as "module.".

    Raises:
        CheckpointError: If the file is missing, unreadable, or holds anything but named tensors.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        message = f"{path}: no such weights file. Train the bundle, or give another file."
        raise CheckpointError(message) from error
    except pickle.UnpicklingError as error:
        message = f"{path}: refused, the file holds more than tensors. Save network.state_dict() alone with torch.save."
        raise CheckpointError(message) from error
    except Exception as error:  # torch raises whatever its unpickler meets
        message = f"{path}: expected a state dict written by torch.save, found something unreadable; get it again."
        raise CheckpointError(message) from error
    if not isinstance(state, dict) or not state:
        message = f"{path}: expected named tensors, found {type(state).__name__}."
        raise CheckpointError(message)
    other = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        message = f"{path}: expected tensors only, but {other[0]!r} is none. Save network.state_dict() alone."
        raise CheckpointError(message)
    return {name.removeprefix(strip_prefix): value for name, value in state.items()}


def transfer_weights(
    network: nn.Module,
    state: StateDict,
    *,
    minimum_match: float = 0.9,
    skip: Collection[str] = (),
    use_all: bool = False,
) -> LoadReport:
    """Copy every tensor of `state` that fits into `network`, directly or after a change of input channels or depth.

    A convolution made for one input channel is spread over n channels with 1/n of its weight, so that n equal
    channels give what one gave. 2D kernels are inflated; see `inflate_kernel`.

    Args:
        network: Changed in place.
        state: Named tensors.
        minimum_match: Share of the network's tensors that must be filled.
        skip: Names that keep the network's own values although they would fit.
        use_all: Refuse the file unless all of its tensors were copied, but for those in `skip` and the running
            statistics of a layer that keeps none here, such as instance normalisation; the right question to ask of a
            file that holds only a part of a network, such as an encoder.

    Returns:
        What was loaded, reshaped, inflated, skipped, missing and unexpected.

    Raises:
        CheckpointError: If fewer tensors fit; the network is then unchanged.
    """
    report = LoadReport(unexpected=sorted(state.keys() - network.state_dict().keys()))
    filled: StateDict = {}
    for name, own in network.state_dict().items():
        if name not in state:
            report.missing.append(name)
        elif name in skip:
            report.skipped.append(f"{name}: left out as asked (such as the head of other classes)")
        elif state[name].shape == own.shape:
            report.loaded.append(name)
            filled[name] = state[name]
        elif _differs_in_input_channels(state[name], own):
            report.reshaped.append(name)
            filled[name] = state[name].expand(own.shape) / own.shape[1]
        elif (inflated := inflate_kernel(state[name], tuple(own.shape))) is not None:
            report.inflated.append(name)
            filled[name] = inflated
        else:
            report.skipped.append(f"{name}: {tuple(state[name].shape)} in the file, {tuple(own.shape)} here")
    if report.match < minimum_match:
        raise CheckpointError(_explain_mismatch(report, state, minimum_match))
    unused = [name for name in state if name not in filled and name not in skip and not _has_no_place(name, filled)]
    if use_all and unused:
        message = (
            f"weights: expected every one of {len(state)} tensors to fit the network, but {len(unused)} do not, "
            f"first {unused[0]!r} {tuple(state[unused[0]].shape)}. Train the network that was pre-trained: "
            "the same network_def, but for its number of classes."
        )
        raise CheckpointError(message)
    network.load_state_dict({**network.state_dict(), **filled})
    return report


def inflate_kernel(kernel: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Turn a 2D kernel (O, I, h, w) into a 3D one of `shape`, or return None if it does not fit.

    An n x n x 1 kernel is the 2D one. An n x n x 3 kernel takes the three input channels (red, green, blue) of the 2D
    one as its depth taps, so that a volume constant along the depth gives what its grey slice gave; a 2D kernel of one
    input channel goes to the middle tap, and the slice's neighbours are ignored at first. n image channels share the
    weight.

    Note:
        Source: Liu et al., MICCAI 2018 (AH-Net), section 2; one-channel kernels are not in it.
    """
    if kernel.ndim != 4 or len(shape) != 5 or kernel.shape[0] != shape[0] or tuple(kernel.shape[2:]) != shape[2:4]:
        return None
    inputs, depth = shape[1], shape[4]
    if kernel.shape[1] == inputs and depth == 1:
        return kernel[..., None].clone()
    if depth == 3 and kernel.shape[1] == 3:
        taps = kernel.movedim(1, -1)[:, None]
    elif kernel.shape[1] == 1 and depth % 2:
        taps = kernel.new_zeros((*kernel.shape, depth))
        taps[..., depth // 2] = kernel
    else:
        return None
    return taps.expand(shape) / inputs


def _has_no_place(name: str, filled: StateDict) -> bool:
    """Tell whether a running statistic belongs to a layer that took the file's weights but keeps no statistics."""
    layer, _, kind = name.rpartition(".")
    keeps = any(f"{layer}.{each}" in filled for each in RUNNING_STATISTICS)
    return kind in RUNNING_STATISTICS and f"{layer}.weight" in filled and not keeps


def _differs_in_input_channels(given: Tensor, own: Tensor) -> bool:
    return given.ndim == own.ndim >= 4 and given.shape[1] == 1 and given[:, 0].shape == own[:, 0].shape


def _explain_mismatch(report: LoadReport, state: StateDict, minimum_match: float) -> str:
    total = report.filled + len(report.skipped) + len(report.missing)
    message = (
        f"weights fill {report.filled} of {total} tensors of the network "
        f"({report.match:.0%}, at least {minimum_match:.0%} expected)."
    )
    if report.missing and report.unexpected:
        message += f" The file has {report.unexpected[0]!r}, the network {report.missing[0]!r}."
    elif report.skipped:
        message += f" First difference: {report.skipped[0]}."
    return message + " Give weights of this architecture, or a prefix to remove."
