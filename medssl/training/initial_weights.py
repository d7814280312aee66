"""Start a run from given weights, and refuse to start silently from random ones."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from ignite.engine import Engine, Events
from torch import nn

from medssl.core.files import sha256_file, write_json
from medssl.networks.weights import LoadReport, read_weights, transfer_weights
from medssl.training.distributed import is_main_process, undistributed
from medssl.training.encoder_weights import read_encoder_json

_logger = logging.getLogger("medssl.training")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


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
            of a multi-view network; by default the network itself.
        strip_prefix: Prefix removed from the names in the file, such as "encoder.".
        statistics: "carry" loads the running statistics of batch normalisation with the weights; "reset" leaves them
            at those of a new network.
    """

    def __init__(
        self,
        *,
        path: str,
        network: nn.Module,
        report: str | None = None,
        minimum_match: float = 0.9,
        skip: Sequence[str] = (),
        parts: Sequence[str] = ("",),
        strip_prefix: str = "",
        statistics: Literal["carry", "reset"] = "carry",
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.report = report
        self.minimum_match = minimum_match
        self.skip = frozenset(skip)
        self.parts = tuple(parts)
        self.strip_prefix = strip_prefix
        self.statistics = statistics

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Engine) -> None:
        # Every process reads them: the wrapped network shared its weights before training started
        inner = undistributed(self.network)
        state = read_weights(self.path, strip_prefix=self.strip_prefix)
        encoder = read_encoder_json(self.path)
        skip = self.skip | {name for name in state if self.statistics == "reset" and name.endswith(_STATISTICS)}
        minimum = self.minimum_match if encoder is None else 0.0
        result = LoadReport()
        for name in self.parts:
            part = transfer_weights(
                inner.get_submodule(name), state, minimum_match=minimum, skip=skip, use_all=encoder is not None
            )
            result.add(part, prefix=name)
        counts = ", ".join(f"{len(getattr(result, each.name))} {each.name}" for each in fields(result))
        _logger.info("%s: tensors: %s", self.path.name, counts)
        source: dict[str, Any] = {"file": self.path.name, "sha256": sha256_file(self.path)}
        if encoder is not None:
            source["stages"] = encoder["stages"]
            made = ", ".join(str(each.get("stage")) for each in encoder["stages"])
            _logger.info("%s was made by %s; loaded: %s", self.path.name, made, _summary(result))
        if self.report is not None and is_main_process():
            write_json(Path(self.report), {"source": source, **result.to_json()})


def _summary(report: LoadReport) -> str:
    """Return the modules that were filled, each with its number of tensors; the log need not list every tensor."""
    names = [*report.loaded, *report.reshaped, *report.inflated]
    counts = Counter(".".join(name.split(".")[:2] if name.count(".") > 1 else name.split(".")[:1]) for name in names)
    return ", ".join(f"{module} ({count})" for module, count in counts.items())
