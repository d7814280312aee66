"""Mixed precision for the device at hand, and a guard against a defect of bfloat16 convolutions on CPUs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn


def autocast_dtype(device: torch.device, *, amp: bool, dtype: torch.dtype | None = None) -> torch.dtype | None:
    """Choose the dtype of mixed precision.

    bfloat16 on GPUs that have it and on CPUs with avx512_bf16; float16 (with a gradient scaler) on other GPUs;
    None, that is float32, on other CPUs and when `amp` is off.

    Args:
        device: Where the network runs.
        amp: The one switch.
        dtype: The wish of the configuration. A CPU takes bfloat16 or float32 only.
    """
    if not amp or device.type not in {"cuda", "cpu"}:
        return None
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else None
    if dtype is torch.float16 or not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return an autocast context for the device; with dtype None it switches autocast off."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def guard_cpu_convolutions(network: nn.Module) -> None:
    """Run 3D convolutions on short maps in float32 while CPU autocast is on.

    In torch 2.13 with oneDNN, the weight gradient of a padded bfloat16 Conv3d is garbage (and may overwrite other
    memory) when the first spatial axis of the map is at least 2 and shorter than the kernel: 2 for 3x3x3, 2 to 4
    for 5x5x5, 2 to 6 for 7x7x3, as measured. Such maps are small, so leaving bfloat16 there costs next to nothing.

    Args:
        network: Changed in place: hooks are added to its 3D convolutions.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            guard = _Float32OnShortMaps()
            module.register_forward_pre_hook(guard.enter)
            module.register_forward_hook(guard.leave, always_call=True)


class _Float32OnShortMaps:
    """Pair of hooks that leaves autocast for one call of one convolution."""

    def __init__(self) -> None:
        self._context: AbstractContextManager[Any] | None = None

    def enter(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        image = inputs[0]
        is_short = image.shape[2] < module.kernel_size[0]  # type: ignore[index]  # a Conv3d's own tuple
        if image.device.type != "cpu" or not is_short or not torch.is_autocast_enabled("cpu"):
            return None
        self._context = torch.autocast("cpu", enabled=False)
        self._context.__enter__()
        return (image.float(), *inputs[1:])

    def leave(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None
