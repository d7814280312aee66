"""Does a view's uncertainty rank samples by their quality, and does it depend on where dropout lies?

    python tools/studies/dropout_ranking.py --data ../shared/data --out docs/results/dropout_ranking

The shipped views of hippocampus_mri_umct look at one crop of every development case, as it is and made worse: noise,
blur or a dark half (synthetic). Spearman's rank correlation of uncertainty and 1 - Dice, over the samples, for each
view; above 0 the less certain sample is the worse one. Dropout lies before the last block (as trained), before the
head, or in the deepest features and before the last block, which takes whole passes of the decoder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
    ResizeWithPadOrCropd,
)
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import dropout3d

from medssl.bundle.catalog import find_bundle
from medssl.bundle.predictor import load_weights
from medssl.bundle.resolve import build_network, load_config
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.core.seeding import derive_seed
from medssl.metrics.overlap import dice
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.split import SplitNetwork, evaluation_mode
from medssl.networks.stochastic_passes import moments_of, tail_moments, uncertainty_of

BUNDLE, PASSES, RATE, CROP = "hippocampus_mri_umct", 10, 0.3, (32, 48, 32)
PLACES = {
    "before the last block": ("last_block", False),
    "before the head": ("head", False),
    "deepest features and last block": ("last_block", True),
}
KINDS = ("as it is", "noise", "blur", "dark half")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = list(all_samples(options.data / "hippocampus", options.cases))
    rows = []
    for name, (place, whole) in PLACES.items():
        measured = [measure(views(place), *sample, whole=whole) for _, *sample in samples]
        rows += table_rows(name, [kind for kind, *_ in samples], np.array(measured))
    result = {"medssl": provenance("study"), "passes": PASSES, "rate": RATE, "cases": options.cases, "rows": rows}
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(rows, options.cases))


@cache
def views(place: str) -> MultiViewNet:
    """Return the shipped network with its dropout at `place`; dropout has no weights."""
    bundle = find_bundle(BUNDLE)
    config = load_config(bundle, ("inference",))
    network = build_network(config, network={**config.content["network_def"]["network"], "dropout_place": place})
    load_weights(network, bundle / "models" / "model.pt")
    return cast("MultiViewNet", network.eval())


def all_samples(root: Path, count: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the kind, the image (1, 1, X, Y, Z) and the label (X, Y, Z) of every sample."""
    keys = ["image", "label"]
    load = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="RAS", labels=None),
            NormalizeIntensityd("image", channel_wise=True),
            ResizeWithPadOrCropd(keys, CROP),
        ]
    )
    manifest = json.loads(Path("data_manifests/hippocampus.json").read_text(encoding="utf-8"))
    for case in manifest["validation"][:count]:
        loaded = load({key: root / case[key] for key in keys})
        image, label = (loaded[key].as_tensor()[0] for key in keys)
        rng = np.random.default_rng(derive_seed("dropout ranking", case["id"]))
        for kind in KINDS:
            yield kind, torch.from_numpy(degraded(image.numpy(), kind, rng))[None, None], label


def degraded(image: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    strength = rng.uniform(0.2, 1.5)
    if kind == "noise":
        image = image + rng.normal(0, strength, image.shape)
    elif kind == "blur":
        image = gaussian_filter(image, strength)
    elif kind == "dark half":
        image = image - strength * (np.arange(image.shape[1]) < image.shape[1] // 2)[None, :, None]
    return image.astype(np.float32)


@torch.no_grad()
def measure(network: MultiViewNet, image: Tensor, label: Tensor, *, whole: bool) -> list[tuple[float, float]]:
    """Return (uncertainty, 1 - mean Dice of the foreground) of every view."""
    found = []
    with evaluation_mode(network):
        for index, (view, part) in enumerate(network.parts()):
            generator = torch.Generator().manual_seed(derive_seed("masks", index))
            variance = spread(part, view.to_view(image), generator, whole=whole)
            hard = network.view_logits(image, view).argmax(1)[0]
            scores = [dice((label == k).numpy(), (hard == k).numpy()) for k in (1, 2)]
            found.append((float(uncertainty_of(variance)), 1 - float(np.mean(scores))))
    return found


def spread(part: SplitNetwork, image: Tensor, generator: torch.Generator, *, whole: bool) -> Tensor:
    """Return the variance (1, C, X, Y, Z) over K passes, of the tail or of everything behind the encoder."""
    masks = draw_masks(part, PASSES, generator=generator)
    features = part.encode(image)
    if not whole:
        return tail_moments(part, part.decode(features), masks, chunk=PASSES, autocast=nullcontext).variance
    torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    found = []
    for k in range(PASSES):
        given = [*features[:-1], dropout3d(features[-1], RATE, training=True)]
        with fixed_masks(part, [mask[k : k + 1] for mask in masks]):
            found.append(part.tail(part.decode(given)).softmax(1))
    return moments_of(torch.stack(found)).variance


def table_rows(name: str, kinds: list[str], measured: np.ndarray) -> list[dict[str, Any]]:
    """Return the rank correlations of a place: all samples, and each kind alone."""
    groups = {"all": np.ones(len(kinds), bool), **{kind: np.array(kinds) == kind for kind in KINDS}}
    return [
        {
            "place": name,
            "samples": group,
            "number": int(chosen.sum()),
            "spearman": [float(spearmanr(*measured[chosen, view].T).statistic) for view in range(measured.shape[1])],
            "mean_dice": float(1 - measured[chosen, :, 1].mean()),
        }
        for group, chosen in groups.items()
    ]


def page(rows: list[dict[str, Any]], cases: int) -> str:
    lines = [
        "# Does a view's uncertainty rank samples by their quality?",
        "",
        "    python tools/studies/dropout_ranking.py --data ../shared/data --out docs/results/dropout_ranking",
        "",
        f"One crop of each of {cases} development cases of hippocampus, as it is and made worse (**synthetic**: noise,",
        "blur, a dark half, each of random strength), seen by the three views of the shipped `hippocampus_mri_umct`.",
        f"Spearman's rank correlation of uncertainty ({PASSES} passes, rate {RATE:g}, mean variance) and 1 - Dice, one",
        "number a view: 1 would be the order of quality, 0 says nothing. The network was trained with dropout before",
        "the last block; the other places use the same weights.",
        "",
        "| dropout | samples | number | mean Dice | axial | coronal | sagittal |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = " | ".join(f"{value:+.2f}" for value in row["spearman"])
        lines.append(f"| {row['place']} | {row['samples']} | {row['number']} | {row['mean_dice']:.3f} | {cells} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
