"""Whether a pre-training learns or collapses, seen while it runs and without any label."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any, NamedTuple

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.training.distributed import is_main_process

_logger = logging.getLogger("medssl.training")

_NEAR_COLLAPSE = 0.01  # share of the collapse value
_SOLVED = 0.01  # likewise
_LEAST_SPREAD = 0.05  # of embeddings spread evenly over the sphere
_LEAST_RANK = 2.0


class Embedded(NamedTuple):
    """What a step leaves for the monitors, as `output["embedded"]`.

    Attributes:
        embeddings: (N, d), each of length 1, float32, without graph.
        sources: (N,), equal for views of one thing.
        collapse_value: Loss of a network that maps everything to one point, such as log(1 + number of negatives);
            None for losses without negatives.
        ends_at_zero: Whether a loss near 0 means that the task is solved; a decoupled one falls below.
    """

    embeddings: Tensor
    sources: Tensor
    collapse_value: float | None = None
    ends_at_zero: bool = True


def embedding_spread(embeddings: Tensor) -> Tensor:
    """Return the mean standard deviation over the dimensions of (N, d), as a share of 1 / sqrt(d).

    1 for embeddings spread evenly over the sphere, 0 where all are equal.
    """
    return embeddings.float().std(0, correction=0).mean() * math.sqrt(embeddings.shape[1])


def alignment(embeddings: Tensor, sources: Tensor) -> Tensor:
    """Return the mean squared distance between views of the same source; 0 at best, 2 for unrelated ones.

    Note:
        Source: Wang and Isola, ICML 2020. NaN where no source has two views.
    """
    same = (sources[:, None] == sources[None]).triu(1)
    return _squared_distances(embeddings)[same].mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """Return the logarithm of the mean Gaussian potential exp(-2 |a - b|^2) over pairs; lower is more even, 0 is worst.

    Note:
        Source: Wang and Isola, ICML 2020.
    """
    pairs = torch.ones(len(embeddings), len(embeddings), dtype=torch.bool, device=embeddings.device).triu(1)
    return (-2.0 * _squared_distances(embeddings)[pairs]).exp().mean().log()


def _squared_distances(embeddings: Tensor) -> Tensor:
    return (2.0 - 2.0 * embeddings.float() @ embeddings.float().T).clamp(min=0.0)


def rank_me(embeddings: Tensor) -> float:
    """Return the effective rank of (N, d), between 1 and min(N, d); computed in float64.

    Comparable only between runs of one method, on as many samples (N above d).

    Note:
        Source: Garrido et al., ICML 2023: exp of the entropy of singular values divided by their sum, plus 1e-7.
    """
    values = torch.linalg.svdvals(embeddings.detach().cpu().double())
    shares = values / values.sum().clamp(min=torch.finfo(torch.float64).tiny) + 1e-7
    return float((-(shares * shares.log()).sum()).exp())


class PretrainingHealth:
    """Measure the embeddings of any pre-training and warn of a collapse; sits in `train#handlers` before the log.

    Reads `output["embedded"]` of the step and adds to its `"log"`: `collapse_value` (loss of a collapsed network),
    `loss_to_collapse` (loss divided by it), `spread`, `alignment`, `uniformity` and, once the kept embeddings outnumber
    their dimensions, `rankme`. What is kept is not part of the resume file; the training does not depend on it.

    Args:
        every: Iterations between two measurements.
        kept: Embeddings kept for RankMe.
        warmup: Iterations before the first warning; untrained networks map all images to nearly the same point.
        patience: Iterations in a row within 1% of the collapse value that are called a collapse.

    Note:
        Spread below 5% or an effective rank below 2 is called a collapse at once after the warm-up. A loss below 1% of
        the collapse value is no collapse but a task too easy to teach anything more, which is said once.
    """

    def __init__(self, *, every: int = 20, kept: int = 1024, warmup: int = 200, patience: int = 200) -> None:
        self.every = every
        self.kept = kept
        self.warmup = warmup
        self.patience = patience
        self.warned: set[str] = set()
        self._kept: deque[Tensor] = deque()
        self._near = 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)

    def _measure(self, engine: Engine) -> None:
        output = engine.state.output
        embedded: Embedded | None = output.get("embedded")
        if embedded is None:
            return
        self._keep(embedded.embeddings)
        log = output.setdefault("log", {})
        collapse = embedded.collapse_value
        if collapse:
            log["collapse_value"] = collapse
            log["loss_to_collapse"] = output[CommonKeys.LOSS] / collapse
        if engine.state.iteration % self.every == 0:
            log |= self._values(embedded)
            self._judge(engine.state.iteration, log, ends_at_zero=embedded.ends_at_zero)

    def _keep(self, embeddings: Tensor) -> None:
        self._kept.append(embeddings)
        while sum(map(len, self._kept)) - len(self._kept[0]) >= self.kept:
            self._kept.popleft()

    def _values(self, embedded: Embedded) -> dict[str, Any]:
        found: dict[str, Any] = {
            "spread": float(embedding_spread(embedded.embeddings)),
            "uniformity": float(uniformity(embedded.embeddings)),
        }
        aligned = float(alignment(embedded.embeddings, embedded.sources))
        if math.isfinite(aligned):
            found["alignment"] = aligned
        kept = torch.cat(list(self._kept))
        if len(kept) > kept.shape[1]:
            found["rankme"] = rank_me(kept)
        return found

    def _judge(self, iteration: int, log: dict[str, Any], *, ends_at_zero: bool) -> None:
        if iteration < self.warmup:
            return
        if log["spread"] < _LEAST_SPREAD:
            self._warn("spread", iteration, f"the spread of the embeddings is {log['spread']:.3f} of an even one")
        if log.get("rankme", math.inf) < _LEAST_RANK:
            self._warn("rank", iteration, f"the embeddings fill {log['rankme']:.1f} dimensions")
        if "loss_to_collapse" in log:
            near = abs(float(log["loss_to_collapse"]) - 1.0) < _NEAR_COLLAPSE
            self._near = self._near + self.every if near else 0
            if self._near >= self.patience:
                self._warn("loss", iteration, f"the loss has been that of a collapse for {self._near} iterations")
            if ends_at_zero and float(log["loss_to_collapse"]) < _SOLVED and "solved" not in self.warned:
                self.warned.add("solved")
                if is_main_process():
                    text = "iteration %d: the task is solved (loss below 1%% of that of a collapse): further steps "
                    _logger.warning(text + "teach little. Make views or negatives harder, or stop earlier.", iteration)

    def _warn(self, kind: str, iteration: int, text: str) -> None:
        if kind not in self.warned and is_main_process():
            _logger.warning(
                "iteration %d: %s: the network maps all images to nearly one point. "
                "Lower the learning rate, raise the temperature, or look at the views.",
                iteration,
                text,
            )
        self.warned.add(kind)
