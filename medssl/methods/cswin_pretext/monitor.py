"""Whether turns are told by a shortcut, such as the shape of the field of view, instead of by anatomy."""

from __future__ import annotations

import logging
from collections import deque

from ignite.engine import Engine, Events

from medssl.training.distributed import is_main_process

_logger = logging.getLogger("medssl.training")


class RotationShortcut:
    """Warn once if nearly all turns are told right early on; sits in `train#handlers`.

    Args:
        until: Iterations that count as early.
        window: Iterations over which the accuracy is meant.
        accuracy: From here on turns count as told by a shortcut.
    """

    def __init__(self, *, until: int = 1000, window: int = 100, accuracy: float = 0.98) -> None:
        self.until = until
        self.accuracy = accuracy
        self.warned = False
        self._recent: deque[float] = deque(maxlen=window)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)

    def _look(self, engine: Engine) -> None:
        found = engine.state.output.get("log", {}).get("rotation_accuracy")
        if found is None or self.warned or engine.state.iteration > self.until:
            return
        self._recent.append(float(found))
        full = len(self._recent) == self._recent.maxlen
        if full and sum(self._recent) / len(self._recent) >= self.accuracy:
            self.warned = True
            if is_main_process():
                _logger.warning(
                    "iteration %d: %.0f%% of the turns are told right: the network may read the border of the field of "
                    "view instead of anatomy. Crop inside it, or set the weight of rotation to 0.",
                    engine.state.iteration,
                    100 * sum(self._recent) / len(self._recent),
                )
