"""Start a run from given weights, and refuse to start silently from random ones."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file, write_json
from medssl.data.datasets import SampleKey
from medssl.networks.split import evaluation_mode
from medssl.networks.weights import RUNNING_STATISTICS, LoadReport, read_weights, transfer_weights
from medssl.training.distributed import is_main_process, undistributed
from medssl.training.encoder_weights import read_encoder_json

_logger = logging.getLogger("medssl.training")
_CALIBRATED, _AT_ONCE = 64, 8


class InitialWeights:
    """Load weights into the network when training starts and write what was loaded; sits in `train#handlers`.

    Weights with an encoder's JSON beside them are part of a network: all of them have to fit, instead of a share of
    the network's tensors, and what they do not hold starts at random.

    Args:
        path: Weights file, a bare state dict.
        network: Network to fill.
        report: Where the load report is written as JSON, or None.
        minimum_match: Share of the network's tensors that must be filled, 0 to 1.
        skip: Tensors of the file that are left out, such as the head of other classes.
        parts: Names of submodules that each receive the whole file, such as `networks.axial` and `networks.coronal`
            of a multi-view network; None is the network itself.
        strip_prefix: Prefix removed from the names in the file, such as "encoder.".
        statistics: "carry" loads the running statistics of batch normalisation with the weights, where the network
            keeps any; "reset" leaves them
            at those of a new network; "recalibrate" takes their mean over images of `data`, whose weights stay.
        data: For "recalibrate": items with `image` (C, X, Y, Z) or (V, C, X, Y, Z), such as "@train#dataset".

    Raises:
        ConfigError: If statistics are to be recalibrated without data.
    """

    def __init__(
        self,
        *,
        path: str,
        network: nn.Module,
        report: str | None = None,
        minimum_match: float = 0.9,
        skip: Sequence[str] = (),
        parts: Sequence[str] | None = None,
        strip_prefix: str = "",
        statistics: Literal["carry", "reset", "recalibrate"] = "carry",
        data: Any = None,
    ) -> None:
        if statistics == "recalibrate" and data is None:
            message = 'statistics: expected data beside "recalibrate", found none. Give data, such as "@train#dataset".'
            raise ConfigError(message)
        self.path = Path(path)
        self.network = network
        self.report = report
        self.minimum_match = minimum_match
        self.skip = frozenset(skip)
        self.parts = ("",) if parts is None else tuple(parts)
        self.strip_prefix = strip_prefix
        self.statistics = statistics
        self.data = data

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Engine) -> None:
        # Every process reads them: the wrapped network shared its weights before training started
        inner = undistributed(self.network)
        state = read_weights(self.path, strip_prefix=self.strip_prefix)
        encoder = read_encoder_json(self.path)
        skip = self.skip | {name for name in state if self.statistics != "carry" and name.endswith(RUNNING_STATISTICS)}
        minimum = self.minimum_match if encoder is None else 0.0
        result = LoadReport()
        for name in self.parts:
            part = transfer_weights(
                inner.get_submodule(name), state, minimum_match=minimum, skip=skip, use_all=encoder is not None
            )
            result.add(part, prefix=name)
        if self.statistics == "recalibrate":
            recalibrate(inner, self.data)
        counts = ", ".join(f"{len(getattr(result, each.name))} {each.name}" for each in fields(result))
        _logger.info("%s: tensors: %s", self.path.name, counts)
        source: dict[str, Any] = {"file": self.path.name, "sha256": sha256_file(self.path)}
        if encoder is not None:
            source["stages"] = encoder["stages"]
            made = ", ".join(str(each.get("stage")) for each in encoder["stages"])
            _logger.info("%s was made by %s; loaded: %s", self.path.name, made, _summary(result))
        if self.report is not None and is_main_process():
            write_json(Path(self.report), {"source": source, **result.to_json()})


@torch.no_grad()
def recalibrate(network: nn.Module, data: Any) -> None:
    """Set the running statistics of batch normalisation to their means over images; nothing else changes.

    Args:
        network: The network.
        data: Items with `image`; the first 64 are taken, 8 at once, each with the random transforms of its own key, so
            that every process finds the same.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    device = next(network.parameters()).device
    momenta = [layer.momentum for layer in layers]
    count = min(_CALIBRATED, len(data))
    with evaluation_mode(network):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean of all batches
            layer.train()
        for start in range(0, count, _AT_ONCE):
            items = [data[SampleKey(number, number)] for number in range(start, min(start + _AT_ONCE, count))]
            network(torch.cat([_images(item) for item in items]).to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _images(item: Any) -> Tensor:
    """Return the images (V, C, X, Y, Z) of an item; transforms that cut several samples give a list of them."""
    image = (item[0] if isinstance(item, list) else item)[CommonKeys.IMAGE]
    image = torch.as_tensor(image).as_subclass(Tensor)
    return image if image.ndim == 5 else image[None]


def _summary(report: LoadReport) -> str:
    """Return the modules that were filled, each with its number of tensors; the log need not list every tensor."""
    names = [*report.loaded, *report.reshaped, *report.inflated]
    counts = Counter(".".join(name.split(".")[:2] if name.count(".") > 1 else name.split(".")[:1]) for name in names)
    return ", ".join(f"{module} ({count})" for module, count in counts.items())
