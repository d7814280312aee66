"""Start a run from given weights, and refuse to start silently from random ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from medssl.core.files import sha256_file, write_json
from medssl.networks.weights import LoadReport, read_weights, transfer_weights
from medssl.training.distributed import is_main_process, undistributed

_logger = logging.getLogger("medssl.training")


class InitialWeights:
    """Load weights into the network when training starts and write what was loaded; sits in `train#handlers`.

    Args:
        path: Weights file, a bare state dict.
        network: Network to fill.
        report: Where the load report is written as JSON, or None.
        minimum_match: Share of the network's tensors that must be filled, 0 to 1.
        skip: Tensors of the file that are left out, such as the head of other classes.
        parts: Names of submodules that each receive the whole file, such as `networks.axial` and `networks.coronal`
            of a multi-view network; by default the network itself.
        strip_prefix: Prefix removed from the names in the file, such as "encoder.".
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
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.report = report
        self.minimum_match = minimum_match
        self.skip = frozenset(skip)
        self.parts = tuple(parts)
        self.strip_prefix = strip_prefix

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Engine) -> None:
        # Every process reads them: the wrapped network shared its weights before training started
        inner = undistributed(self.network)
        state = read_weights(self.path, strip_prefix=self.strip_prefix)
        result = LoadReport()
        for name in self.parts:
            part = transfer_weights(inner.get_submodule(name), state, minimum_match=self.minimum_match, skip=self.skip)
            result.add(part, prefix=name)
        counts = ", ".join(f"{len(getattr(result, each.name))} {each.name}" for each in fields(result))
        _logger.info("%s: tensors: %s", self.path.name, counts)
        if self.report is not None and is_main_process():
            source = {"file": self.path.name, "sha256": sha256_file(self.path)}
            write_json(Path(self.report), {"source": source, **result.to_json()})
