"""Measure CSwin UNet against MONAI's Swin UNETR at equal parameters and equal input, and the tries that led to it.

The networks take turns, so that other load on the machine meets all of them; medians of processor time are compared,
since the wall clock of a busy machine says nothing. Peak memory is that of a process that does one thing only. Swin
UNETR needs einops.

    python tools/bench/cswin_unet.py --repeats 3 --out docs/results/cswin_speed
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import cswin_variants
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import SwinUNETR
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.networks.cswin_cost import count_cost, size_table
from medssl.networks.cswin_unet import CSwinUNet
from medssl.networks.layout import with_fast_layout

Make = Callable[[], nn.Module]
MODES = ("inference", "train")
INPUTS = {"lines": (1, 1, 96, 96, 96), "slabs": (1, 3, 256, 256, 32)}
SMALL_INPUTS = {"lines": (1, 1, 64, 64, 32), "slabs": (1, 3, 64, 64, 32)}
TRY_INPUTS = {"lines": (1, 1, 64, 64, 64), "slabs": (1, 3, 64, 64, 32)}
WARM_UP = {"lines": (1, 1, 32, 32, 64), "slabs": (1, 3, 32, 32, 64)}
# The exams of the paper are 20 x 256 x 256, which Swin UNETR cannot take; then more slices, then smaller planes
SCALING = {
    "slabs": [(1, 3, 256, 256, depth) for depth in (20, 10, 30, 40)] + [(1, 3, side, side, 20) for side in (192, 128)],
    "lines": [(1, 1, side, side, side) for side in (96, 64, 128)],
}
CLASSES = 2
FEATURE_SIZE = 12
TARGET = 2.0
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of mallopt()


def tries(family: str) -> dict[str, tuple[Make, str]]:
    """Return networks that differ from the one chosen in one point, each with what differs."""
    options = {"in_channels": INPUTS[family][1], "out_channels": CLASSES, "family": family}
    make = partial(CSwinUNet, size="tiny", **options)
    found: dict[str, tuple[Make, str]] = {
        "chosen": (make, "stripes 1, 2, 4, full; 12 channels at full resolution; plain skips"),
        "unmodified": (
            partial(cswin_variants.unmodified, **options),
            "the decoder of Swin UNETR: 12 channels at full resolution, a residual block on every skip, slope 0.01",
        ),
        "8 outside": (partial(cswin_variants.eight_outside, **options), "8 channels at full resolution"),
        "16 outside": (
            partial(cswin_variants.sixteen_outside, **options),
            "16 channels at full resolution, a vector block",
        ),
        "skip blocks": (partial(cswin_variants.with_skip_blocks, **options), "a residual block on every skip"),
        "torch's layers": (
            partial(cswin_variants.with_torch_layers, make),
            "torch's own norms and 1 x 1 x 1 convolutions, same numbers",
        ),
        "added skips": (
            partial(cswin_variants.AddedSkips, size="tiny", **options),
            "skips above the stages added, not set beside",
        ),
        "thin stripes": (partial(make, stripes=(1, 1, 1, 0)), "stripes 1, 1, 1, full"),
        "wide stripes": (partial(make, stripes=(2, 4, 4, 0)), "stripes 2, 4, 4, full"),
        "LePE channels first": (lepe_forms(family)["LePE channels first"], "other memory layout, same numbers"),
        "LePE of shifts": (lepe_forms(family)["LePE of shifts"], "a sum of shifted values, same numbers"),
        "LePE as it lies": (
            partial(cswin_variants.lepe_unturned, size="tiny", **options),
            "stripes long in X are not turned, same numbers",
        ),
        "plain attention": (make, "softmax written out instead of the fused kernel"),
        "recomputed": (partial(make, checkpoint_blocks=True), "blocks computed again in the backward pass"),
    }
    if family == "slabs":
        found["flat slabs"] = (partial(make, slab_depth=1), "stripes of one slice")
        found["slabs of all"] = (partial(make, slab_depth=0), "stripes of all slices, not of 16")
        found["slabs of 4"] = (partial(make, slab_depth=4), "stripes of four slices")
        found["flat outside"] = (
            partial(cswin_variants.slabs_flatter_twelve, **options),
            "convolutions of one slice at full and half resolution",
        )
    return found


def lepe_forms(family: str) -> dict[str, Make]:
    options = {"in_channels": INPUTS[family][1], "out_channels": CLASSES, "family": family, "size": "tiny"}
    forms = {"channels first": cswin_variants.lepe_channels_first, "of shifts": cswin_variants.lepe_of_shifts}
    return {f"LePE {name}": partial(make, **options) for name, make in forms.items()}


def contenders(family: str) -> dict[str, Make]:
    channels = INPUTS[family][1]
    return {
        "CSwin UNet": partial(CSwinUNet, in_channels=channels, out_channels=CLASSES, size="tiny", family=family),
        "Swin UNETR": partial(SwinUNETR, in_channels=channels, out_channels=CLASSES, feature_size=FEATURE_SIZE),
    }


def prepare(make: Make, shape: Sequence[int], *, mode: str) -> Callable[[], None]:
    """Return one training step or one inference pass of a new network on its own random image."""
    torch.manual_seed(0)
    network, image = with_fast_layout(make()), torch.randn(*shape)
    if mode == "inference":
        network.eval()

        def infer() -> None:
            with torch.no_grad():
                network(image)

        return infer
    label = torch.randint(0, CLASSES, (shape[0], 1, *shape[2:]))
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train() -> None:
        optimizer.zero_grad()
        loss(network(image), label).backward()
        optimizer.step()

    return train


def seconds(run: Callable[[], None], around: AbstractContextManager[Any]) -> float:
    start = time.process_time()
    with around:
        run()
    return time.process_time() - start


def alternate(
    makes: dict[str, Make], shape: Sequence[int], *, warm_up: Sequence[int], mode: str, repeats: int
) -> dict[str, list[float]]:
    for make in makes.values():
        prepare(make, warm_up, mode=mode)()
    runs = {name: prepare(make, shape, mode=mode) for name, make in makes.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs) if repeat % 2 else reversed(runs):
            plain = sdpa_kernel(SDPBackend.MATH) if name == "plain attention" else nullcontext()
            found[name].append(round(seconds(runs[name], plain), 3))
    return found


def peak_of(make: Make, shape: Sequence[int], *, mode: str) -> int:
    """Return the bytes that one step adds to the largest resident memory of a forked process that does nothing else."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        run = prepare(make, shape, mode=mode)
        before = _kilobytes("VmRSS")
        run()
        sender.send(1024 * (_kilobytes("VmHWM") - before))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sender.close()  # so that the end of a killed child is seen
    found = int(receiver.recv())
    process.join()
    return found


def _kilobytes(key: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(key)).split()[1])


def peaks_of(family: str, shape: Sequence[int]) -> dict[str, dict[str, int]]:
    """Return the peak memory of each network in inference and training; asked for before anything else runs.

    Memory that an earlier step gave back to the allocator would hide what a later one takes.
    """
    makes = contenders(family)
    peaks = {mode: {name: peak_of(make, shape, mode=mode) for name, make in makes.items()} for mode in MODES}
    print(family, peaks, flush=True)
    return peaks


def keep_memory() -> None:
    """Let glibc keep what is freed; by default it returns large blocks, and the kernel fills new ones with zeros."""
    libc = ctypes.CDLL(None)
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1)):
        if not libc.mallopt(option, value):
            raise SystemExit("this C library has no mallopt() of glibc")


def compare(family: str, shape: Sequence[int], *, repeats: int, peaks: dict[str, dict[str, int]]) -> dict[str, Any]:
    makes = contenders(family)
    row: dict[str, Any] = {"family": family, "shape": list(shape), "networks": {}}
    for name, make in makes.items():
        cost = count_cost(make(), shape)
        row["networks"][name] = {"parameters": cost.parameters, "flops": cost.flops}
    for mode in MODES:
        times = alternate(makes, shape, warm_up=WARM_UP[family], mode=mode, repeats=repeats)
        ours, theirs = times["CSwin UNet"], times["Swin UNETR"]
        ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
        row[mode] = {
            "seconds": times,
            "median_seconds": {name: statistics.median(each) for name, each in times.items()},
            "ratio": round(statistics.median(theirs) / statistics.median(ours), 2),
            "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
            "peak_bytes": peaks.get(mode),
        }
        print(family, mode, row[mode], flush=True)
    return row


def compare_tries(family: str, *, repeats: int) -> list[dict[str, Any]]:
    found = tries(family)
    makes = {name: make for name, (make, _) in found.items()}
    times = {
        mode: alternate(makes, TRY_INPUTS[family], warm_up=WARM_UP[family], mode=mode, repeats=repeats)
        for mode in ("inference", "train")
    }
    rows = []
    for name, (make, what) in found.items():
        row: dict[str, Any] = {"name": name, "what": what}
        row["parameters"] = sum(parameter.numel() for parameter in make().parameters())
        for mode in ("inference", "train"):
            row[mode] = {"seconds": times[mode][name], "median_seconds": statistics.median(times[mode][name])}
        print(family, row, flush=True)
        rows.append(row)
    return rows


def peaks_by_size() -> list[dict[str, int]]:
    """Return the peak memory of CSwin UNet on every image of `SCALING`; asked for before anything else runs."""
    return [
        {mode: peak_of(contenders(family)["CSwin UNet"], shape, mode=mode) for mode in MODES}
        for family, shapes in SCALING.items()
        for shape in shapes
    ]


def scale(*, repeats: int, peaks: Sequence[dict[str, int]]) -> Iterator[dict[str, Any]]:
    """Yield time and memory of CSwin UNet alone on images of growing size."""
    rows: list[dict[str, Any]] = [
        {"family": family, "shape": list(shape)} for family, shapes in SCALING.items() for shape in shapes
    ]
    for row, peak in zip(rows, peaks, strict=True):
        make = contenders(row["family"])["CSwin UNet"]
        row["flops"] = count_cost(make(), row["shape"]).flops
        for mode in MODES:
            run = prepare(make, row["shape"], mode=mode)
            run()
            times = [round(seconds(run, nullcontext()), 3) for _ in range(repeats)]
            row[mode] = {"seconds": times, "median_seconds": statistics.median(times), "peak_bytes": peak[mode]}
        print(row, flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--try-repeats", type=int, default=2)
    parser.add_argument("--part", choices=["all", "comparison", "scaling", "tries", "kept"], default="all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="64 x 64 x 32 voxels instead of the full inputs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = f"python tools/bench/cswin_unet.py --out docs/results/{options.out.name}"
    inputs = SMALL_INPUTS if options.small else INPUTS
    result = {
        **provenance("cswin_speed"),
        "command": f"{command} --small" if options.small else command,
        "sizes": {family: f"{_shape(shape)}:\n\n{size_table(family, shape)}" for family, shape in inputs.items()},
    }
    compares, scales = options.part in {"all", "comparison"}, options.part in {"all", "scaling"} and not options.small
    # All memory first: what a step gave back to the allocator would hide what a later one takes
    peaks = {family: peaks_of(family, shape) for family, shape in inputs.items()} if compares else {}
    grown = peaks_by_size() if scales else []
    if compares:
        result.update(repeats=options.repeats, rows=[])
        for family, shape in inputs.items():
            result["rows"].append(compare(family, shape, repeats=options.repeats, peaks=peaks[family]))
            save(result, options.out)
    if scales:
        result.update(scaling=[], scaling_repeats=options.try_repeats)
        for row in scale(repeats=options.try_repeats, peaks=grown):
            result["scaling"].append(row)
            save(result, options.out)
    if options.part == "kept":  # never beside the others: it cannot be undone
        keep_memory()
        result.update(kept_repeats=options.repeats, kept_rows=[])
        for family, shape in inputs.items():
            result["kept_rows"].append(compare(family, shape, repeats=options.repeats, peaks={}))
            save(result, options.out)
    if options.part in {"all", "tries"}:
        result.update(try_repeats=options.try_repeats, tries={})
        for family in TRY_INPUTS:
            rows = compare_tries(family, repeats=options.try_repeats)
            result["tries"][family] = {"shape": list(TRY_INPUTS[family]), "rows": rows}
            save(result, options.out)


def save(result: dict[str, Any], out: Path) -> None:
    """Write what was measured so far; a part that is already there and was not run again stays."""
    path = out.with_suffix(".json")
    nothing = {
        "repeats": 0,
        "rows": [],
        "scaling": [],
        "scaling_repeats": 0,
        "try_repeats": 0,
        "tries": {},
        "kept_repeats": 0,
        "kept_rows": [],
    }
    before = json.loads(path.read_text()) if path.exists() else {}
    before = before if before.get("sizes") == result["sizes"] else {}  # of other inputs
    result = {**nothing, **before, **result}
    write_json(path, result)
    write_text(out.with_suffix(".md"), page(result))


def page(result: dict[str, Any]) -> str:
    return "\n".join(
        [
            _head(result),
            *map(_comparison, result["rows"]),
            _kept(result),
            _scaling(result),
            _tries(result),
            _foot(result),
        ]
    )


def _shape(shape: Sequence[int]) -> str:
    return f"{' x '.join(str(side) for side in shape[2:])} voxels, {shape[1]} channel{'s' if shape[1] > 1 else ''}"


def _head(result: dict[str, Any]) -> str:
    tables = "\n\n".join(f'`family="{family}"`, {table}' for family, table in result["sizes"].items())
    return f"""# CSwin UNet against Swin UNETR: time and memory

Both networks at equal parameters (within 5 %) and on equal input, batch 1, float32, on one thread of a shared CPU
without a GPU, weights laid out as medssl trains every network. They take turns; medians of processor time over
{result["repeats"]} turns after a warm-up on a smaller image, with the range of the ratio. A training step is
forward pass, Dice and cross-entropy, backward pass and AdamW. Memory is what one step adds to the largest resident
memory of a process that does nothing else. The aim is a ratio of {TARGET:.0f} and less memory.

**Accuracy is not measured here.** Equal parameters are not equal accuracy: CSwin UNet has no convolutions on its inner
skips. What they learn is in cswin_learning.md.

## Sizes

{tables}

Operations count convolutions and matrix products (`medssl.networks.cswin_cost`).

## Comparison
"""


def _comparison(row: dict[str, Any]) -> str:
    lines = [
        f"`{row['family']}`, {_shape(row['shape'])}:\n",
        "| network | parameters | GFLOP | inference, s | its memory | training step, s | its memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cost in row["networks"].items():
        cells = [f"{cost['parameters'] / 1e6:.2f} M", f"{cost['flops'] / 1e9:.1f}"]
        for mode in ("inference", "train"):
            cells += [f"{row[mode]['median_seconds'][name]:.2f}", _mebibytes(row[mode]["peak_bytes"], name)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratios = []
    for mode in ("inference", "train"):
        low, high = row[mode]["ratio_range"]
        peaks = row[mode]["peak_bytes"]
        memory = f"{peaks['CSwin UNet'] / peaks['Swin UNETR']:.0%}" if peaks else "not measured"
        ratios += [f"**{row[mode]['ratio']:.1f}** times faster ({low:.1f} to {high:.1f})", memory]
    lines.append(f"| ratio | | | {' | '.join(ratios)} |")
    return "\n".join(lines) + "\n"


def _mebibytes(peaks: dict[str, int], name: str) -> str:
    return f"{peaks[name] / 2**20:.0f} MiB" if peaks else "not measured"


def _kept(result: dict[str, Any]) -> str:
    cells = []
    for row in result["kept_rows"]:
        for mode in MODES:
            ours, theirs = (row[mode]["median_seconds"][name] for name in ("CSwin UNet", "Swin UNETR"))
            low, high = row[mode]["ratio_range"]
            ratio = f"**{row[mode]['ratio']:.1f}** ({low:.1f} to {high:.1f})"
            cells.append(f"| {row['family']} | {mode} | {ours:.2f} | {theirs:.2f} | {ratio} |")
    table = "\n".join(cells)
    return f"""A part of these times is the kernel's: the C library returns large blocks when they are freed, and the
kernel fills new ones with zeros, so who needs more memory pays more. With a library that keeps them (`mallopt`), on the
same inputs, medians of {result["kept_repeats"]} turns, the first of which still fetches its memory:

| form | | CSwin UNet, s | Swin UNETR, s | times faster |
|---|---|---|---|---|
{table}
"""


def _scaling(result: dict[str, Any]) -> str:
    lines = [
        "## Cost by resolution and depth\n",
        f"CSwin UNet alone, medians of {result['scaling_repeats']}. For each million voxels in brackets.\n",
        "| form | voxels | GFLOP | inference, s | its memory, MiB | training step, s | its memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["scaling"]:
        millions = math.prod(row["shape"][2:]) / 1e6
        values = [(row["flops"] / 1e9, 0)]
        for mode in MODES:
            values += [(row[mode]["median_seconds"], 2), (row[mode]["peak_bytes"] / 2**20, 0)]
        cells = [f"{value:.{digits}f} ({value / millions:.{digits}f})" for value, digits in values]
        lines.append(f"| {row['family']} | {' x '.join(map(str, row['shape'][2:]))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _tries(result: dict[str, Any]) -> str:
    blocks = [f"## Tries\n\nEach differs from the network chosen in one point, {result['try_repeats']} turns each.\n"]
    for family, found in result["tries"].items():
        rows, shape = found["rows"], found["shape"]
        chosen = rows[0]
        lines = [
            f"`{family}`, {_shape(shape)}:\n",
            "| try | what differs | parameters | inference, s | training step, s |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            cells = []
            for mode in ("inference", "train"):
                median = row[mode]["median_seconds"]
                cells.append(f"{median:.2f} ({median / chosen[mode]['median_seconds']:.2f})")
            lines.append(f"| {row['name']} | {row['what']} | {row['parameters'] / 1e6:.2f} M | {' | '.join(cells)} |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks) + "\nIn brackets: relative to the network chosen.\n"


def _foot(result: dict[str, Any]) -> str:
    turns = {
        "comparison": f"--repeats {result['repeats']}",
        "kept": f"--repeats {result['kept_repeats']}",
        "scaling": f"--try-repeats {result['scaling_repeats']}",
        "tries": f"--try-repeats {result['try_repeats']}",
    }
    commands = "\n    ".join(f"{result['command']} --part {part} {each}" for part, each in turns.items())
    return f"""## What it comes to, and what was not run

{result.get("note", "")}
No mixed precision, no compiled network, no batch above 1, no size above "tiny". A GPU is in cswin_gpu.md.

Made by:

    {commands}
"""


if __name__ == "__main__":
    main()
