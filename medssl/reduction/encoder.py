"""Embeddings of 8-bit slices by a trained network whose weights lie in a file; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets import resnet18, resnet34, resnet50
from torch import Tensor, nn

from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.suggest import did_you_mean
from medssl.networks.weights import StateDict, read_weights, transfer_weights
from medssl.reduction.hashing import Grey

ARCHITECTURES = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
_BATCH = 32


class SliceEncoder:
    """Turns 8-bit images (N, S, S) into vectors (N, D): the network's features, averaged over the image.

    Args:
        network: Takes (B, 1, S, S) with mean 0 and deviation 1, returns features (B, D) or (B, D, ...).
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval()

    @torch.inference_mode()
    def __call__(self, images: Grey) -> npt.NDArray[np.floating[Any]]:
        """Return one vector for each image."""
        vectors = []
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])).float()[:, None]
            mean, deviation = batch.mean((1, 2, 3), keepdim=True), batch.std((1, 2, 3), keepdim=True)
            features: Tensor = self._network((batch - mean) / (deviation + 1e-6))
            vectors.append(features.flatten(2).mean(2) if features.ndim > 2 else features)
        return torch.cat(vectors).numpy()


def load_encoder(path: Path, *, architecture: str, strip_prefix: str = "") -> SliceEncoder:
    """Build a ResNet for slices and fill it with weights, also those of the usual ResNets for colour images.

    Args:
        path: State dict of tensors. Kernels for three colours are summed, as for a grey image in all three.
        architecture: "resnet18", "resnet34" or "resnet50".
        strip_prefix: Before the names in the file, such as "module.".

    Raises:
        ConfigError: If the architecture is unknown.
        CheckpointError: If the file cannot be read, or does not fill the network.
    """
    if architecture not in ARCHITECTURES:
        message = f"encoder {architecture!r}: expected one of {', '.join(ARCHITECTURES)}."
        raise ConfigError(message + did_you_mean(architecture, list(ARCHITECTURES)))
    state = read_weights(path, strip_prefix=strip_prefix)
    network = _build(architecture, state)
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    first = state.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 3:
        state["conv1.weight"] = first.sum(1, keepdim=True)
    report = transfer_weights(network, state, minimum_match=1.0)
    if report.skipped or report.missing:
        message = f"{path}: expected all weights of {architecture}, found {report.filled} that fit. Name the right one."
        raise CheckpointError(message)
    return SliceEncoder(network)


def _build(architecture: str, state: StateDict) -> nn.Module:
    size = state["conv1.weight"].shape[-1] if "conv1.weight" in state else 7
    network: nn.Module = ARCHITECTURES[architecture](
        spatial_dims=2,
        n_input_channels=1,
        feed_forward=False,
        conv1_t_size=size,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
    )
    return network
