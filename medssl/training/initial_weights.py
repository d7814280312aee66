"""Start a run from given weights, and refuse to start silently from random ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from medssl.core.files import sha256_file, write_json
from medssl.networks.weights import read_weights, transfer_weights
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
    """

    def __init__(
        self,
        *,
        path: str,
        network: nn.Module,
        report: str | None = None,
        minimum_match: float = 0.9,
        skip: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.report = report
        self.minimum_match = minimum_match
        self.skip = frozenset(skip)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, engine: Engine) -> None:
        # Every process reads them: the wrapped network shared its weights before training started
        network, weights = undistributed(self.network), read_weights(self.path)
        result = transfer_weights(network, weights, minimum_match=self.minimum_match, skip=self.skip)
        _logger.info(
            "%s: %d tensors loaded, %d reshaped, %d skipped, %d missing, %d unexpected",
            self.path.name,
            *(len(getattr(result, name)) for name in ("loaded", "reshaped", "skipped", "missing", "unexpected")),
        )
        if self.report is not None and is_main_process():
            source = {"file": self.path.name, "sha256": sha256_file(self.path)}
            write_json(Path(self.report), {"source": source, **result.to_json()})
