"""Time CSwin UNet and Swin UNETR on a GPU: float32 and bfloat16, as written and compiled by torch.

    python tools/bench/cswin_on_gpu.py --out docs/results/cswin_gpu

Medians of the GPU's own clock over the rounds after a warm-up; memory is the most that torch took. One network is timed
at a time. What is compiled is compiled by all processes at the same time, and timed one after the other once all are
done. Swin UNETR needs einops.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from cswin_unet import contenders, lepe_forms
from monai.losses import DiceCELoss

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.networks.layout import with_fast_layout

CLASSES = 2
# family, network, image; Swin UNETR takes multiples of 32 only
CASES = (
    ("lines", "CSwin UNet", (1, 96, 96, 96)),
    ("lines", "Swin UNETR", (1, 96, 96, 96)),
    ("slabs", "CSwin UNet", (3, 256, 256, 20)),
    ("slabs", "CSwin UNet", (3, 256, 256, 32)),
    ("slabs", "Swin UNETR", (3, 256, 256, 32)),
)
EAGER = tuple((*case, precision, False) for case in CASES for precision in ("float32", "bfloat16"))
# Depthwise convolutions in 3D are what a GPU may be slow at
LEPE = tuple(
    (family, name, shape, precision, False)
    for family, shape in (("lines", (1, 96, 96, 96)), ("slabs", (3, 256, 256, 32)))
    for name in ("CSwin UNet", "LePE channels first", "LePE of shifts")
    for precision in ("float32", "bfloat16")
)
ALONE: dict[str, tuple[Any, ...]] = {"all": EAGER, "eager": EAGER, "lepe": LEPE, "compiled": ()}
COMPILED = tuple((*case, "bfloat16", True) for case in CASES)
_PATIENCE = 600  # seconds for all to be compiled
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--part", choices=list(ALONE), default="all")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sizes = {"batch": options.batch, "rounds": options.rounds}
    rows: list[Row] = []
    for job in ALONE[options.part]:
        rows.append(measured(job, **sizes))
        gc.collect()
        torch.cuda.empty_cache()
        print(rows[-1], flush=True)
    if options.part in ("all", "compiled"):
        rows += beside_each_other(COMPILED, sizes)
    save(rows, options)


def beside_each_other(jobs: tuple[Any, ...], sizes: dict[str, int]) -> list[Row]:
    """Return the rows of jobs that warm up at the same time and are timed one by one."""
    context = multiprocessing.get_context("spawn")
    barrier, alone, rows = context.Barrier(len(jobs)), context.Lock(), context.Queue()
    processes = [context.Process(target=_child, args=(job, sizes, barrier, alone, rows)) for job in jobs]
    for process in processes:
        process.start()
    found = [rows.get(timeout=2 * _PATIENCE) for _ in jobs]
    for process in processes:
        process.join()
    return sorted(found, key=lambda row: [case[1:] for case in CASES].index((row["network"], tuple(row["shape"][1:]))))


def _child(job: tuple[Any, ...], sizes: dict[str, int], barrier: Any, alone: Any, rows: Any) -> None:
    rows.put(measured(job, **sizes, barrier=barrier, alone=alone))


def measured(job: tuple[Any, ...], *, batch: int, rounds: int, barrier: Any = None, alone: Any = None) -> Row:
    """Return times and memory of one network on one input in one way; what does not run says why."""
    family, name, shape, precision, compiled = job
    row: Row = {"network": name, "family": family, "shape": [batch, *shape], "precision": precision}
    row["compiled"] = compiled
    steps: dict[str, Callable[[], None]] = {}
    try:
        torch.manual_seed(0)
        network = with_fast_layout((contenders(family) | lepe_forms(family))[name]().cuda())
        run = torch.compile(network, dynamic=False) if compiled else network
        image = torch.randn(batch, *shape, device="cuda")
        label = torch.randint(0, CLASSES, (batch, 1, *shape[1:]), device="cuda")
        made = {"inference": _inference(network, run, image, precision)}
        made["train"] = _training(network, run, image, label, precision)
        begin = time.monotonic()
        for step in made.values():
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        row["warm_up_seconds"] = round(time.monotonic() - begin, 1)
        steps = made
    except Exception as error:  # a way that fails is a result
        row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    if barrier is not None:
        barrier.wait(_PATIENCE)
    with alone or nullcontext():
        for mode, step in steps.items():
            row[mode] = _clocked(step, rounds)
    return row


def _inference(network: Any, run: Any, image: torch.Tensor, precision: str) -> Callable[[], None]:
    def step() -> None:
        network.eval()
        with torch.no_grad(), _cast(precision):
            run(image)

    return step


def _training(network: Any, run: Any, image: torch.Tensor, label: torch.Tensor, precision: str) -> Callable[[], None]:
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        with _cast(precision):
            logits = run(image)
        loss(logits.float(), label).backward()
        optimizer.step()

    return step


def _cast(precision: str) -> Any:
    return nullcontext() if precision == "float32" else torch.autocast("cuda", dtype=torch.bfloat16)


def _clocked(step: Callable[[], None], rounds: int) -> Row:
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    found = {"median_seconds": statistics.median(times), "range": [min(times), max(times)]}
    return found | {"peak_bytes": torch.cuda.max_memory_allocated()}


def save(rows: list[Row], options: argparse.Namespace) -> None:
    result = {
        **provenance("cswin_gpu"),
        "command": f"python tools/bench/cswin_on_gpu.py --part {options.part} --batch {options.batch} "
        f"--rounds {options.rounds} --out docs/results/{options.out.name}",
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "tf32": {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32},
        "rounds": options.rounds,
        "rows": rows,
    }
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(result))


def page(result: dict[str, Any]) -> str:
    lines = [_line(row, result["rows"]) for row in result["rows"]]
    torch_version = result.get("versions", {}).get("torch", torch.__version__)
    return f"""# CSwin UNet against Swin UNETR on {result["device"]}

Equal parameters within 5%, batch {result["rows"][0]["shape"][0]}, torch {torch_version}, CUDA {result["cuda"]}.
Medians of {result["rounds"]} rounds on the GPU's clock, one network at a time. A training step is forward pass, Dice
and cross-entropy, backward pass and AdamW. In brackets: how many times faster than Swin UNETR in the same way on the
same image. float32 lets convolutions use TF32, as torch does by default. Images a second are those of inference.

| network | image | precision | compiled | inference, ms | images/s | memory, MiB | training step, ms | memory, MiB |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Made by:

    {result["command"]}
"""


def _line(row: Row, rows: list[Row]) -> str:
    cells = [row["network"], " x ".join(map(str, row["shape"][2:])), row["precision"], "yes" if row["compiled"] else ""]
    if "error" in row:
        return f"| {' | '.join(cells)} | {row['error']} | | | | |"
    for mode in ("inference", "train"):
        seconds = row[mode]["median_seconds"]
        cells.append(f"{1000 * seconds:.1f}{_ratio(row, rows, mode)}")
        if mode == "inference":
            cells.append(f"{row['shape'][0] / seconds:.1f}")
        cells.append(f"{row[mode]['peak_bytes'] / 2**20:.0f}")
    return f"| {' | '.join(cells)} |"


def _ratio(row: Row, rows: list[Row], mode: str) -> str:
    same = ("shape", "precision", "compiled")
    for other in rows:
        is_other = other["network"] == "Swin UNETR" != row["network"] and "error" not in other
        if is_other and all(row[key] == other[key] for key in same):
            return f" ({other[mode]['median_seconds'] / row[mode]['median_seconds']:.1f})"
    return ""


if __name__ == "__main__":
    main()
