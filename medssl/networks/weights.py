"""Load weights into a network that may differ from the one they were made for, and say what happened."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medssl.core.errors import CheckpointError

StateDict = dict[str, Tensor]


@dataclass
class LoadReport:
    """What became of every tensor.

    Attributes:
        loaded: Copied as they are.
        reshaped: Copied after a change of the input channels.
        skipped: In both, but of other shape; the network keeps its own values. "name: file shape, network shape".
        missing: In the network only.
        unexpected: In the file only.
    """

    loaded: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def match(self) -> float:
        """Share of the network's tensors that were filled, 0 to 1."""
        filled = len(self.loaded) + len(self.reshaped)
        return filled / max(1, filled + len(self.skipped) + len(self.missing))

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
    network: nn.Module, state: StateDict, *, minimum_match: float = 0.9, skip: Collection[str] = ()
) -> LoadReport:
    """Copy every tensor of `state` that fits into `network`; repeat input channels where only their number differs.

    A convolution made for one input channel is spread over n channels with 1/n of its weight, so that n equal
    channels give what one gave.

    Args:
        network: Changed in place.
        state: Named tensors.
        minimum_match: Share of the network's tensors that must be filled.
        skip: Names that keep the network's own values although they would fit.

    Returns:
        What was loaded, reshaped, skipped, missing and unexpected.

    Raises:
        CheckpointError: If fewer tensors fit; the network is then unchanged.
    """
    report = LoadReport(unexpected=sorted(state.keys() - network.state_dict().keys()))
    filled: StateDict = {}
    for name, own in network.state_dict().items():
        if name not in state:
            report.missing.append(name)
        elif name in skip:
            report.skipped.append(f"{name}: left out, it belongs to other classes")
        elif state[name].shape == own.shape:
            report.loaded.append(name)
            filled[name] = state[name]
        elif _differs_in_input_channels(state[name], own):
            report.reshaped.append(name)
            filled[name] = state[name].expand(own.shape) / own.shape[1]
        else:
            report.skipped.append(f"{name}: {tuple(state[name].shape)} in the file, {tuple(own.shape)} here")
    if report.match < minimum_match:
        raise CheckpointError(_explain_mismatch(report, state, minimum_match))
    network.load_state_dict({**network.state_dict(), **filled})
    return report


def _differs_in_input_channels(given: Tensor, own: Tensor) -> bool:
    return given.ndim == own.ndim >= 4 and given.shape[1] == 1 and given[:, 0].shape == own[:, 0].shape


def _explain_mismatch(report: LoadReport, state: StateDict, minimum_match: float) -> str:
    filled = len(report.loaded) + len(report.reshaped)
    total = filled + len(report.skipped) + len(report.missing)
    message = (
        f"weights fill {filled} of {total} tensors of the network "
        f"({report.match:.0%}, at least {minimum_match:.0%} expected)."
    )
    if report.missing and report.unexpected:
        message += f" The file has {report.unexpected[0]!r}, the network {report.missing[0]!r}."
    elif report.skipped:
        message += f" First difference: {report.skipped[0]}."
    return message + " Give weights of this architecture, or a prefix to remove."
