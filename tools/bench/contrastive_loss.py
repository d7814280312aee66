"""Time and memory of the contrastive losses at the published size against plain loops, and how cost grows with views.

    .venv/bin/python tools/bench/contrastive_loss.py --out docs/results/contrastive_loss.json

Loops and matrices run in one process, one after the other, on the same embeddings; their losses are compared first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.losses.contrastive import PairMasks, contrastive_loss
from medssl.losses.region_masks import nearest_regions, quincunx_regions, region_masks
from medssl.losses.view_masks import ViewIds, global_masks

_TEMPERATURE = 0.1
_WIDTH = 128
_SIZES = (48, 128, 256, 512, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"global, 48 views": published_global(), "local, 20 maps x 13 regions x 10 negatives": published_local()}
    compared = {name: compare(*case, rounds=options.rounds) for name, case in cases.items()}
    rows = [growth(size, options.rounds) for size in _SIZES]
    record = {"medssl": provenance("bench"), "compared": compared, "growth": rows}
    write_json(options.out, record)
    write_text(options.out.with_suffix(".md"), table(record))


def published_global() -> tuple[Tensor, PairMasks]:
    """Return 48 embeddings: 6 volumes x 4 partitions x 2 views, 36 negatives for each."""
    return _embeddings(48), global_masks(_ids(48), strategy="GD")


def published_local() -> tuple[Tensor, PairMasks]:
    """Return 10 pairs of maps, 26 regions each, 10 negatives for each."""
    masks = region_masks(nearest_regions(quincunx_regions((48, 48, 1)), 5))
    return _embeddings(10 * 26).unflatten(0, (10, 26)), masks


def _ids(views: int) -> ViewIds:
    number = torch.arange(views)
    return ViewIds(number // 2, number // 8, number // 2 % 4, number % 2)


def _embeddings(count: int) -> Tensor:
    return torch.randn(count, _WIDTH, generator=torch.Generator().manual_seed(0))


def loop_loss(embeddings: Tensor, masks: PairMasks) -> Tensor:
    """Return the loss pair by pair, as the paper writes it, of (V, d) or (N, V, d)."""
    terms = []
    for rows in normalize(embeddings.reshape(-1, *embeddings.shape[-2:]), dim=-1):
        for a, b in masks.positives.nonzero().tolist():
            negatives = masks.negatives[a].nonzero().flatten().tolist()
            pulled = (rows[a] @ rows[b] / _TEMPERATURE).exp()
            pushed = torch.stack([(rows[a] @ rows[n] / _TEMPERATURE).exp() for n in negatives]).sum()
            terms.append(-(pulled / (pulled + pushed)).log())
    return torch.stack(terms).mean()


def compare(embeddings: Tensor, masks: PairMasks, *, rounds: int) -> dict[str, float]:
    """Return processor seconds of loss and gradient, both ways, and how far the two losses are apart."""

    def matrix(rows: Tensor) -> Tensor:
        return contrastive_loss(rows, masks, temperature=_TEMPERATURE)

    def loop(rows: Tensor) -> Tensor:
        return loop_loss(rows, masks)

    apart = float((matrix(embeddings.double()) - loop(embeddings.double())).abs())
    fast, slow = _seconds(matrix, embeddings, rounds), _seconds(loop, embeddings, 2)
    row = {"matrix_seconds": fast, "loop_seconds": slow, "times_faster": round(slow / fast, 1), "difference": apart}
    return row | {"matrix_megabytes": megabytes(matrix, embeddings), "loop_megabytes": megabytes(loop, embeddings)}


def growth(views: int, rounds: int) -> dict[str, float]:
    """Return seconds of one number of views, and the megabytes that are kept for the gradient."""
    rows, masks = _embeddings(views), global_masks(_ids(views), strategy="GD")
    seconds = _seconds(lambda each: contrastive_loss(each, masks), rows, rounds)
    return {
        "views": views,
        "seconds": seconds,
        "megabytes": megabytes(lambda each: contrastive_loss(each, masks), rows),
    }


def megabytes(loss: Callable[[Tensor], Tensor], embeddings: Tensor) -> float:
    """Return what a loss keeps for its gradient: the sum of all storages that autograd saves."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = loss(embeddings.clone().requires_grad_())
    found = round(sum(each.untyped_storage().nbytes() for each in kept.values()) / 2**20, 2)
    result.backward()
    return found


def _seconds(loss: Callable[[Tensor], Tensor], embeddings: Tensor, rounds: int) -> float:
    """Return the least processor time of loss and gradient; a busy machine changes the wall clock, not this."""
    times = []
    for _ in range(rounds + 1):
        rows = embeddings.clone().requires_grad_()
        begin = time.process_time()
        loss(rows).backward()
        times.append(time.process_time() - begin)
    return min(times[1:])


def table(record: dict[str, Any]) -> str:
    """Return both tables as Markdown."""
    lines = ["# The contrastive loss: one matrix against plain loops", ""]
    lines += ["Loss and gradient, embeddings of width 128, float32, one CPU thread, processor time, made by", ""]
    lines += ["    .venv/bin/python tools/bench/contrastive_loss.py --out docs/results/contrastive_loss.json", ""]
    lines += [
        "| batch | loops, s | matrix, s | times faster | loops keep, MB | matrix keeps, MB | float64 losses differ by |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, row in record["compared"].items():
        lines.append(
            f"| {name} | {row['loop_seconds']:.3f} | {row['matrix_seconds']:.5f} | {row['times_faster']:.0f} | "
            f"{row['loop_megabytes']} | {row['matrix_megabytes']} | "
            f"{row['difference']:.0e} |"
        )
    lines += ["", "Kept for the gradient are the storages that autograd saves; the objects of its graph, one for each"]
    lines += ["operation of the loops, come on top and are not counted.", ""]
    lines += ["How the cost of the global loss grows (strategy GD, masks made beforehand):", ""]
    lines += ["| views | matrix, s | kept for the gradient, MB |", "|---|---|---|"]
    lines += [f"| {row['views']} | {row['seconds']:.5f} | {row['megabytes']} |" for row in record["growth"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
