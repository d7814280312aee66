"""What frozen features know of the anatomy: which classes a slice shows, told by its nearest neighbours."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from medssl.networks.split import evaluation_mode
from medssl.training.distributed import is_main_process, undistributed

_logger = logging.getLogger("medssl.training")


class NeighbourProbe:
    """Score the encoder on labelled volumes, where there are any, at the end of an epoch; sits before the log.

    Volumes are cut into slices (slabs of the network's stride for networks of volumes). A slice's features are the
    mean of the deepest ones; its label is the set of classes it shows. Its nearest neighbours in other volumes vote on
    each class, and the balanced accuracy, meaned over classes, is logged as `probe`: 0.5 is chance. The labels
    change nothing in the training.

    Args:
        data: Items with `image` (C, X, Y, Z), `label` (1, X, Y, Z) and `case_id`; may be empty.
        network: Network with `encode`.
        every_epochs: Epochs between two scores.
        neighbours: Slices that vote.
    """

    def __init__(
        self, *, data: Sequence[dict[str, Any]], network: nn.Module, every_epochs: int = 1, neighbours: int = 5
    ) -> None:
        self.data = data
        self.network = network
        self.every_epochs = every_epochs
        self.neighbours = neighbours
        self._said = False

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, unless there are too few labelled volumes."""
        if len(self.data) < 2:
            _logger.info("no probe of the features: it needs at least 2 labelled volumes, found %d", len(self.data))
            return
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)

    def _score(self, engine: Engine) -> None:
        epoch, within = divmod(engine.state.iteration, engine.state.epoch_length)
        if within or epoch % self.every_epochs or not is_main_process():
            return
        accuracy = neighbour_accuracy(*self._slices(), neighbours=self.neighbours)
        if math.isfinite(accuracy):
            engine.state.output.setdefault("log", {})["probe"] = accuracy
        elif not self._said:
            self._said = True
            _logger.info("no probe of the features: no class is shown by some slices of the labelled volumes only")

    @torch.no_grad()
    def _slices(self) -> tuple[Tensor, Tensor, Tensor]:
        network: Any = undistributed(self.network)
        device = next(network.parameters()).device
        features, labels, volumes = [], [], []
        with evaluation_mode(network):
            for number, item in enumerate(self.data):
                image = slabs(torch.as_tensor(item[CommonKeys.IMAGE]).as_subclass(Tensor).float(), network.strides)
                label = slabs(torch.as_tensor(item[CommonKeys.LABEL]).as_subclass(Tensor).float(), network.strides)
                features.append(network.encode(image.to(device))[-1].mean((2, 3, 4)).cpu())
                labels.append(label.flatten(1))
                volumes.append(torch.full((len(image),), number))
        values = torch.cat([label.flatten() for label in labels]).unique()
        values = values[values != 0]
        shown = torch.zeros(sum(map(len, labels)), len(values), dtype=torch.bool)
        for number, value in enumerate(values):  # all at once would take slices x classes x pixels
            shown[:, number] = torch.cat([(label == value).any(1) for label in labels])
        return torch.cat(features), shown, torch.cat(volumes)


def slabs(volume: Tensor, strides: Sequence[int]) -> Tensor:
    """Cut (C, X, Y, Z) along Z into slabs as deep as the last stride, (N, C, X', Y', depth), padded to the strides."""
    missing = [-size % stride for size, stride in zip(volume.shape[1:], strides, strict=True)]
    padded = pad(volume, [each for gap in missing[::-1] for each in (0, gap)])
    return torch.stack(padded.split(strides[2], dim=-1))


def neighbour_accuracy(features: Tensor, shown: Tensor, volumes: Tensor, *, neighbours: int = 5) -> float:
    """Return the balanced accuracy of votes of the nearest rows of other volumes, meaned over classes.

    Args:
        features: (N, F).
        shown: (N, K) whether a row shows a class; classes that all rows or none show are left out.
        volumes: (N,) which volume a row is of.
        neighbours: Rows that vote.

    Returns:
        0 to 1; NaN if no class tells rows apart.
    """
    rows = normalize(features - features.mean(0), dim=1)
    near = (rows @ rows.T).masked_fill(volumes[:, None] == volumes[None], -torch.inf)
    nearness, voters = near.topk(min(neighbours, len(rows) - 1), dim=1)
    has_vote = nearness.isfinite()[..., None]  # other volumes may have fewer rows than are to vote
    voted = (shown[voters] & has_vote).sum(1) * 2 > has_vote.sum(1)
    varied = shown.any(0) & ~shown.all(0)
    hits = (voted & shown).sum(0) / shown.sum(0) / 2 + (~voted & ~shown).sum(0) / (~shown).sum(0) / 2
    return float(hits[varied].mean())
