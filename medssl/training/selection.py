"""Which weights become model.pt: the best by a validation metric, or the last."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from medssl.core.files import atomic_path
from medssl.training.distributed import undistributed

_logger = logging.getLogger("medssl.training")


class BestRecord:
    """The best validation result so far, and how many validations gave no number; part of the resume file."""

    def __init__(self) -> None:
        self.metric = -math.inf
        self.epoch = 0
        self.undefined = 0

    @property
    def saved(self) -> bool:
        """Whether any weights were saved as the best; those of the start, of epoch 0, may be."""
        return math.isfinite(self.metric)

    def state_dict(self) -> dict[str, Any]:
        """Return metric, epoch and the number of undefined metrics."""
        return {"metric": self.metric, "epoch": self.epoch, "undefined": self.undefined}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.metric = float(state["metric"])
        self.epoch = int(state["epoch"])
        self.undefined = int(state.get("undefined", 0))  # resume files of earlier versions have none


class BestWeights:
    """Save the network whenever the validator's key metric exceeds the best one so far; sits in `validate#handlers`.

    Args:
        path: Weights file, a bare state dict.
        network: Network to save.
        record: The run's `BestRecord`.
        enabled: False keeps the record but leaves the file to `LastWeights`.
    """

    def __init__(self, *, path: str, network: nn.Module, record: BestRecord, enabled: bool = True) -> None:
        self.path = Path(path)
        self.network = network
        self.record = record
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the validator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def _compare(self, engine: Engine) -> None:
        metric = float(engine.state.metrics[engine.state.key_metric_name])
        if math.isnan(metric):
            self.record.undefined += 1
            return
        if metric <= self.record.metric:
            return
        self.record.metric = metric
        self.record.epoch = engine.state.epoch
        # A resumed run validates its start before it is resumed: those are not the weights to keep, and the record
        # will be that of the run. Where nothing is resumed, the start is the file itself
        if self.enabled and not (engine.state.epoch == 0 and self.path.exists()):
            save_weights(self.path, self.network)


class LastWeights:
    """Save the network when training ends, unless the best one was saved already; sits in `train#handlers`.

    Args:
        path: Weights file, a bare state dict.
        network: Network to save.
        record: The run's `BestRecord`.
        enabled: True saves in any case; False only where no validation took place.
    """

    def __init__(self, *, path: str, network: nn.Module, record: BestRecord, enabled: bool = False) -> None:
        self.path = Path(path)
        self.network = network
        self.record = record
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        if not self.enabled and self.record.saved:
            return
        if not self.enabled:
            why = "no validation took place"
            if self.record.undefined:
                # As with a fold without a lesion
                why = (
                    f"none of {self.record.undefined} validations gave a number, because the metric is undefined there"
                )
            _logger.warning("%s: the last weights are saved as %s", why, self.path)
        save_weights(self.path, self.network)


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's state dict as tensors on the CPU, whole or not at all."""
    weights = undistributed(network).state_dict()
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # Given a path, torch would write the temporary name into the file, which would then differ from run to run
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)
