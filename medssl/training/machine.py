"""What the machine at hand can do for training and inference, measured rather than looked up."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from medssl.core.cores import usable_cores
from medssl.core.findings import Finding
from medssl.core.provenance import package_versions
from medssl.training.precision import autocast, autocast_dtype

# What each extra brings, by the module that is looked for
EXTRAS: dict[str, tuple[str, ...]] = {
    "report": ("jinja2", "matplotlib"),
    "track": ("tensorboard",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "detection": ("picai_eval", "report_guided_annotation"),
    "demo": ("nilearn",),
}
_CHANNELS, _SIDE, _ROUNDS = 16, 32, 5
_LARGEST_ERROR = 0.1  # bfloat16 gradients differ from float32 by about 0.01
_LITTLE_MEMORY = 4 * 2**30
_COMPARED = (None, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Mixed precision on one device.

    Attributes:
        device: "cpu", "cuda:0", …
        name: What it is called.
        memory_bytes: Its memory; of a CPU, what is free now.
        chosen: The dtype that training takes, "float32" where mixed precision would not help.
        bfloat16_speedup: Time of a training step of one 3D convolution in float32 by that in bfloat16; None where
            bfloat16 does not run.
        gradient_error: Largest relative error of a bfloat16 weight gradient on a map of depth 2, without the guard;
            see `guard_cpu_convolutions`. None where bfloat16 does not run.
    """

    device: str
    name: str
    memory_bytes: int
    chosen: str
    bfloat16_speedup: float | None
    gradient_error: float | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine and what is installed on it.

    Attributes:
        system: Operating system and Python.
        cores: Cores this process may use.
        threads: Threads that torch uses.
        memory_bytes: All memory.
        versions: Package to version.
        extras: Extra of medssl to the modules of it that are missing.
        devices: Each device that torch can use, the CPU first.
    """

    system: str
    cores: int
    threads: int
    memory_bytes: int
    versions: dict[str, str]
    extras: dict[str, tuple[str, ...]]
    devices: tuple[Precision, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the machine as plain JSON values."""
        return {**asdict(self), "extras": {name: list(missing) for name, missing in self.extras.items()}}


def examine_machine() -> Machine:
    """Look at the machine and measure mixed precision on each of its devices; takes a few seconds."""
    devices = [torch.device("cpu")] + [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return Machine(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        versions=package_versions(),
        extras={name: tuple(each for each in modules if find_spec(each) is None) for name, modules in EXTRAS.items()},
        devices=tuple(measure_precision(device) for device in devices),
    )


def machine_findings(machine: Machine) -> list[Finding]:
    """Return what the user should know: missing extras, little memory, a GPU that cannot be used, broken bfloat16."""
    found = [_missing_extra(name, missing) for name, missing in machine.extras.items() if missing]
    cpu, gpus = machine.devices[0], machine.devices[1:]
    if cpu.memory_bytes < _LITTLE_MEMORY:
        text = f"{cpu.memory_bytes / 2**30:.1f} GiB of memory are free, at least 4 are expected"
        found.append(_finding("memory", "warning", text, "Close other programs, or lower cache_rate and batch_size."))
    if not gpus:
        text = "torch sees no GPU; everything runs on the CPU"
        fix = "If the machine has one, install a CUDA build of torch and its driver."
        found.append(_finding("no-gpu", "info", text, fix))
    if gpus and torch.version.cuda is None:
        found.append(_finding("torch-build", "warning", "this torch has no CUDA", "Install a CUDA build of torch."))
    for device in machine.devices:
        if device.gradient_error is not None and not device.gradient_error <= _LARGEST_ERROR:
            text = (
                f"{device.device}: bfloat16 weight gradients on maps of depth 2 are wrong "
                f"(relative error {device.gradient_error:.2g})"
            )
            fix = "Nothing to do for training with medssl, which computes such layers in float32; mind it elsewhere."
            found.append(_finding("bfloat16-gradients", "info", text, fix))
    return found


def device_name(device: torch.device) -> str:
    """Return what a device is called by its maker, such as "NVIDIA H100 80GB HBM3", or "CPU (x86_64)"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.processor() or platform.machine()})"


def measure_precision(device: torch.device) -> Precision:
    """Time one 3D convolution in float32 and bfloat16 on a device, and compare its gradients on a short map."""
    chosen = autocast_dtype(device, amp=True)
    is_gpu = device.type == "cuda"
    memory = torch.cuda.mem_get_info(device)[1] if is_gpu else psutil.virtual_memory().available
    return Precision(
        device=str(device),
        name=device_name(device),
        memory_bytes=int(memory),
        chosen=str(chosen or torch.float32).removeprefix("torch."),
        bfloat16_speedup=_or_none(lambda: _speedup(device)),
        gradient_error=_or_none(lambda: gradient_error(device, depth=2)),
    )


def gradient_error(device: torch.device, *, depth: int, seed: int = 0) -> float:
    """Return the largest error of a padded convolution's bfloat16 weight gradient, relative to its largest entry.

    Args:
        device: Where it is computed.
        depth: Size of the map along its first axis, in voxels.
        seed: Seed of map and weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1)
        image = torch.randn(2, _CHANNELS, depth, 8, 8)
    exact, half = (_gradient(layer.to(device), image.to(device), dtype) for dtype in (None, torch.bfloat16))
    error = float((half - exact).abs().max() / exact.abs().max())
    return error if error == error else float("inf")  # NaN is as wrong as it gets


def _gradient(layer: nn.Conv3d, image: Tensor, dtype: torch.dtype | None) -> Tensor:
    layer.zero_grad()
    with autocast(image.device, dtype):
        output = layer(image)
    output.float().square().mean().backward()
    gradient: Tensor = layer.weight.grad.detach().clone()  # type: ignore[union-attr]  # set by backward
    return gradient


def _speedup(device: torch.device) -> float:
    layer = nn.Conv3d(_CHANNELS, _CHANNELS, 3, padding=1).to(device)
    image = torch.randn(1, _CHANNELS, _SIDE, _SIDE, _SIDE, device=device)
    full, half = (_seconds(device, lambda dtype=dtype: _gradient(layer, image, dtype)) for dtype in _COMPARED)  # type: ignore[misc]
    return round(full / half, 2)


def _seconds(device: torch.device, run: Callable[[], Any]) -> float:
    times = []
    for _ in range(_ROUNDS):
        _wait(device)
        begin = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return min(times)  # the first round also loads kernels


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _or_none(measure: Callable[[], float]) -> float | None:
    try:
        return measure()
    except RuntimeError:  # a device that has no such kernel
        return None


def _missing_extra(name: str, missing: tuple[str, ...]) -> Finding:
    text = f"the extra {name!r} is not complete: {', '.join(missing)} missing"
    return _finding("extra-missing", "info", text, f'Only if you need it: pip install "medssl[{name}]".')


def _finding(code: str, severity: Any, text: str, fix: str) -> Finding:
    return Finding(code=code, severity=severity, text=text, fix=fix)
