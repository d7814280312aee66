"""Pre-train the slice encoder for as few steps as two cores carry; the same for every study of slices."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from medssl.bundle.catalog import find_bundle
from medssl.bundle.pretrain import pretrain

SOURCE = "ct_slice_reduced_contrast"
# So few steps of SGD leave MoCo where it started, embeddings all alike; the published settings are for 800 epochs
SHORT_MOCO = {
    "momentum": 0.99,
    "learning_rate": 0.001,
    "optimizer": {
        "_target_": "torch.optim.AdamW",
        "params": "$@network.parameters()",
        "lr": "@learning_rate",
        "weight_decay": "@weight_decay",
    },
    "projected#batch_norm": True,
    "key_network#batch_norm": True,
}


def pretrain_slices(
    out: Path, manifest: Path, root: Path, steps: int, options: argparse.Namespace, **more: Any
) -> None:
    """Pre-train on the slices of a manifest, unless that is done.

    Args:
        out: Run folder.
        manifest: What is learnt from.
        root: Folder that its paths start from.
        steps: Optimiser steps, rounded down to whole epochs of about 100.
        options: `stage`, `size`, `batch` and `side` of a study.
        more: Other values of the configuration.
    """
    epochs = max(1, steps // 100)
    overrides: dict[str, Any] = {
        "network_def#size": options.size,
        "key_encoder#size": options.size,
        "epochs": epochs,
        "iterations_per_epoch": steps // epochs,
        "batch_size": options.batch,
        "image_size": [options.side, options.side],
        "crop_size": [options.side // 2, options.side // 2],
        "slice_side": 3 * options.side // 2,
        "hidden": 512,
        "num_workers": 0,
        "prototypes": 64,
        "queue_length": 256,
        **more,
    }
    overrides |= SHORT_MOCO if options.stage == "moco" else {"learning_rate": 0.3}
    known = json.loads((find_bundle(SOURCE) / "configs" / f"{options.stage}.json").read_text(encoding="utf-8"))
    used = {key: value for key, value in overrides.items() if key.split("#")[0] in known}
    pretrain(find_bundle(SOURCE), manifest=manifest, out=out, data_root=root, stages=[options.stage], overrides=used)
