"""Measure what uncertainty costs in a co-training step: K stochastic passes against none, side by side.

The two kinds of step take turns on the same network, so that other load on the machine meets both; the median of each
is compared. On a CPU it is processor time that counts: the wall clock of a busy machine says nothing. The third kind
runs the whole network K times instead of its tail, which is what the split avoids.

    python tools/bench/cotraining_step.py --repeats 5 --out docs/results/cotraining_step
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents, default_prepare_batch

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.losses import DiceCE
from medssl.methods.umct import PseudoLabels, UmctStep
from medssl.methods.umct.fusion import fusion_weights
from medssl.methods.umct.targets import Predictions, mask_generator
from medssl.networks import MultiViewNet, SplitSegResNet, ViewNet
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.split import evaluation_mode
from medssl.networks.stochastic_passes import moments_of, uncertainty_of
from medssl.training import Optimization, Ramp

PASSES = 10
NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
    f"{name}, dropout before {place}": partial(make, dropout_place=place)
    for name, make in (
        ("ViewNet tiny", partial(ViewNet, size="tiny")),
        ("SplitSegResNet, 8 filters", partial(SplitSegResNet, init_filters=8)),
    )
    for place in ("last_block", "head")
}
LARGE: dict[str, Callable[..., torch.nn.Module]] = {
    "ViewNet resnet18, dropout before last_block": partial(ViewNet, size="resnet18", dropout_place="last_block")
}


class WholePasses(PseudoLabels):
    """K passes of the whole network with the same masks: what a network that is not split would need."""

    @torch.no_grad()
    def predict(self, network: MultiViewNet, image: torch.Tensor, *, iteration: int, autocast: Any) -> Predictions:
        means, uncertainty, batch = [], [], len(image)
        with evaluation_mode(network):
            for view, part in network.parts():
                generator = mask_generator(self.seed, "target", iteration, view)
                masks = draw_masks(part, self.passes * batch, generator=generator)
                passes = []
                for k in range(self.passes):
                    rows = slice(k * batch, (k + 1) * batch)
                    with fixed_masks(part, [mask[rows] for mask in masks]), autocast():
                        logits = network.view_logits(image, view)
                    passes.append(logits.float().softmax(1))
                moments = moments_of(torch.stack(passes))
                means.append(moments.mean)
                uncertainty.append(uncertainty_of(moments.variance))
        return Predictions(means, torch.stack(uncertainty), fusion_weights(torch.stack(uncertainty)))


def engine_for(network: MultiViewNet, device: torch.device) -> Engine:
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network, engine.prepare_batch = network, default_prepare_batch
    engine.non_blocking, engine.to_kwargs = False, {}
    engine.state.device, engine.state.iteration = device, 1
    return engine


def timed(step: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(make: Callable[..., torch.nn.Module], *, patch: list[int], amp: bool, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = MultiViewNet(out_channels=3, network=make, views=3).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    optimization = Optimization(network=network, optimizer=optimizer, device=device, amp=amp)
    kinds = {"none": PseudoLabels(passes=0), "tail": PseudoLabels(passes=PASSES), "whole": WholePasses(passes=PASSES)}
    steps = {
        name: UmctStep(
            network=network,
            loss=DiceCE(),
            optimization=optimization,
            weight=Ramp(final=0.2),
            spacing_mm="any",
            pseudo_labels=labels,
        )
        for name, labels in kinds.items()
    }
    batch = {
        "image": torch.randn(2, 1, *patch),
        "label": torch.randint(0, 3, (2, 1, *patch)),
        "unlabeled": {"image": torch.randn(2, 1, *patch)},
    }
    engine = engine_for(network, device)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    memory: dict[str, int] = {}
    for repeat in range(repeats + 1):
        names = ["none", "tail"] if repeat % 2 == 0 else ["tail", "none"]
        for name in [*names, *(["whole"] if repeat == 1 else [])]:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            elapsed = timed(lambda name=name: steps[name](engine, batch), device)
            if device.type == "cuda":
                memory[name] = torch.cuda.max_memory_allocated()
            if repeat:  # the first round warms up
                seconds[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = sorted(tail / none for tail, none in zip(seconds["tail"], seconds["none"], strict=True))
    return {
        "precision": str(optimization.dtype or torch.float32).removeprefix("torch."),
        "parameters_per_view": sum(p.numel() for p in network.parameters()) // 3,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "median_seconds": {name: round(value, 3) for name, value in median.items()},
        "ratio_tail": round(median["tail"] / median["none"], 3),
        "ratio_tail_range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "ratio_whole": round(median["whole"] / median["none"], 3),
        "peak_bytes": memory,
    }


def page(result: dict[str, Any]) -> str:
    rows = [
        f"| {row['network']} | {row['parameters_per_view'] / 1e6:.2f} M | {row['precision']} "
        f"| {row['median_seconds']['none']:.2f} | {row['median_seconds']['tail']:.2f} | **{row['ratio_tail']:.2f}** "
        f"({row['ratio_tail_range'][0]:.2f} to {row['ratio_tail_range'][1]:.2f}) | {row['ratio_whole']:.2f} "
        f"| {_mebibytes(row['peak_bytes'].get('none'))} | {_mebibytes(row['peak_bytes'].get('tail'))} |"
        for row in result["rows"]
    ]
    return f"""# What uncertainty costs in a co-training step

One step of `UmctStep`: 3 views, 2 labelled and 2 unlabelled crops of {result["patch"]}, 3 classes,
on {result["machine"]}. K = 0 is plain co-training: one pass of each view, the mean of the
others. K = {PASSES} takes the paper's stochastic passes. Both take turns on the same network; medians of
{result["clock"]}, with the range of the ratio over {result["repeats"]} pairs. The aim is a ratio of at most 1.5.

| network of a view | size | precision | K = 0, s | K = {PASSES}, s | ratio | unsplit | memory, K = 0 | K = {PASSES} |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

"Unsplit", measured once, is the ratio where the whole network runs for each pass, as dropout in its trunk would need.
Dropout before the last block lets that block vary too, and costs more than dropout before the head, whose tail is one
1 x 1 x 1 convolution; how well each ranks samples is in dropout_ranking.md.{result["note"]}

Made by:

    {result["command"]}
"""


def _mebibytes(peak: int | None) -> str:
    return "" if peak is None else f"{peak / 2**20:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 48, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--large", action="store_true", help="Views of the size of a ResNet-18 only, for a GPU.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    has_bfloat16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    for name, make in (LARGE if options.large else NETWORKS).items():
        for amp in (False, True) if has_bfloat16 else (False,):
            row = measure(make, patch=options.patch, amp=amp, repeats=options.repeats)
            rows.append({"network": name, **row})
            print(name, row["precision"], row["median_seconds"], row["ratio_tail"], flush=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"a CPU with {options.threads} thread(s)"
    command = f"python tools/bench/cotraining_step.py --repeats {options.repeats} --threads {options.threads}"
    command += f" --patch {' '.join(map(str, options.patch))}{' --large' if options.large else ''}"
    result = {
        **provenance("cotraining_step"),
        "command": f"{command} --out docs/results/{options.out.name}",
        "machine": machine,
        "patch": " x ".join(str(size) for size in options.patch),
        "repeats": options.repeats,
        "clock": "wall time" if torch.cuda.is_available() else "processor time",
        "note": "" if has_bfloat16 else " This machine has no bfloat16, so there is no row of mixed precision.",
        "rows": rows,
    }
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(result))


if __name__ == "__main__":
    main()
