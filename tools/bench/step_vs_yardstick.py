"""Time and memory of a co-training step against a step of the supervised yardstick, at equal patches.

Each kind of step runs in a process of its own, so that its peak memory is its own; the kinds take turns, and what
counts is processor time. Networks and patch are those of the two bundles.

    python tools/bench/step_vs_yardstick.py --repeats 3 --out docs/results/step_vs_yardstick
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from medssl.bundle.catalog import find_bundle
from medssl.bundle.resolve import build_network, load_config
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.losses import DiceCE
from medssl.methods.supervised import SupervisedStep
from medssl.methods.umct import PseudoLabels, UmctStep
from medssl.training import Optimization, Ramp

KINDS = {
    "yardstick": "UNet of the yardstick, 4 labelled patches",
    "one_view": "SegResNet of one view, 4 labelled patches",
    "umct": "UMCT, 3 views, 2 labelled and 2 unlabelled patches, K = 10",
}
STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=list(KINDS))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    for repeat in range(options.repeats):
        for name in list(KINDS) if repeat % 2 == 0 else reversed(KINDS):
            command = [sys.executable, __file__, "--child", name]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name].append(json.loads(output.splitlines()[-1]))
            print(name, found[name][-1], flush=True)
    result = {**provenance("step_vs_yardstick"), "repeats": options.repeats, "kinds": found}
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(found, options.repeats))


def measured(name: str) -> dict[str, float]:
    """Return processor seconds of a step (median) and MiB that the process took beyond its start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bundle = find_bundle("hippocampus_mri_supervised" if name == "yardstick" else "hippocampus_mri_umct")
    config = load_config(bundle, ("inference",))
    network = build_network(config)
    patch = config.content["patch_size"]
    if name == "one_view":
        network = network.networks["axial"]
    engine, batch = prepared(network, patch, labelled=2 if name == "umct" else 4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    step: Any = SupervisedStep(loss=DiceCE(), optimization=optimization)
    if name == "umct":
        step = UmctStep(
            network=network,
            loss=DiceCE(),
            optimization=optimization,
            weight=Ramp(final=0.2),
            spacing_mm="any",
            pseudo_labels=PseudoLabels(passes=10),
        )
    before, seconds = _peak(), []
    for _ in range(STEPS):
        start = time.process_time()
        step(engine, batch)
        seconds.append(time.process_time() - start)
    return {"seconds": statistics.median(seconds[1:]), "peak_mib": _peak() - before}


def prepared(network: torch.nn.Module, patch: list[int], *, labelled: int) -> tuple[Any, dict[str, Any]]:
    from ignite.engine import Engine
    from monai.engines.utils import IterationEvents, default_prepare_batch
    from monai.inferers import SimpleInferer

    engine: Any = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network, engine.prepare_batch, engine.inferer = network, default_prepare_batch, SimpleInferer()
    engine.non_blocking, engine.to_kwargs = False, {}
    engine.state.device, engine.state.iteration = torch.device("cpu"), 1
    image = torch.randn(4, 1, *patch)
    batch = {"image": image[:labelled], "label": torch.randint(0, 3, (labelled, 1, *patch))}
    if labelled < 4:
        batch["unlabeled"] = {"image": image[labelled:]}
    return engine, batch


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def page(found: dict[str, list[dict[str, float]]], repeats: int) -> str:
    base = {key: statistics.median(each[key] for each in found["yardstick"]) for key in ("seconds", "peak_mib")}
    rows = []
    for name, what in KINDS.items():
        value = {key: [each[key] for each in found[name]] for key in base}
        seconds, memory = (statistics.median(value[key]) for key in ("seconds", "peak_mib"))
        spread = f"{min(value['seconds']):.2f} to {max(value['seconds']):.2f}"
        rows.append(
            f"| {what} | {seconds:.2f} ({spread}) | {seconds / base['seconds']:.2f} | {memory:.0f} "
            f"| {memory / base['peak_mib']:.2f} |"
        )
    body = "\n".join(rows)
    return f"""# A co-training step against a step of the yardstick

Four patches of 32 x 48 x 32 pass each network forward and back, on one thread of a CPU in float32. Processor seconds
are medians over {repeats} processes of {STEPS - 1} steps each (with their range); memory is the peak beyond the process
with its network before the first step.

| step | seconds | against the yardstick | peak MiB | against the yardstick |
|---|---|---|---|---|
{body}

Three networks learn in a co-training step, so three times the step of one view is what it costs at least; the rest are
the passes that make the pseudo-labels. The views are passed back one by one, so that the activations of one of them are
in memory.

Made by:

    python tools/bench/step_vs_yardstick.py --repeats {repeats} --out docs/results/step_vs_yardstick
"""


if __name__ == "__main__":
    main()
