"""The cardiac bundle with a network of a few hundred weights and slices of 32 pixels, on phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medssl.bundle.pretrain import pretrain
from medssl.training.distributed import process_rank

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "cardiac_mri_global_local"
_SIZES = {"patch_size": [32, 32, 1], "resample_to_spacing": [1.0, 1.0, -1], "amp": False, "num_workers": 0}
QUICK = {**_SIZES, "epochs": 1, "iterations_per_epoch": 2, "network_def#channels": [4, 8, 8]}
PRETRAINING = {
    **QUICK,
    "crop_size": [16, 16, 1],
    "decoder_blocks": 2,
    "volumes_per_batch": 2,
    "batch_size": 2,
    "embedder#widths": [16, 8],
}
_SGD = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.05}


def pretrained(manifest: Path, out: Path, *, share: int = 1, **changes: Any) -> dict[str, np.ndarray]:
    """Pre-train with plain steps on this process's share of the batch; return the encoder of the main process."""
    import torch

    plain = {"optimizer": _SGD, "lr_scheduler#kind": "constant", "iterations_per_epoch": 1}
    plain |= {"volumes_per_batch": 2 // share, "batch_size": 2 // share}
    pretrain(BUNDLE, manifest=manifest, out=out, overrides={**PRETRAINING, **plain, **changes})
    if process_rank() != 0:
        return {}
    state = torch.load(out / "models" / "encoder.pt", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def pretrained_share(manifest: Path, out: Path) -> dict[str, np.ndarray]:
    """`pretrained` in one of two processes on the CPU."""
    return pretrained(manifest, out, share=2, device="cpu")
