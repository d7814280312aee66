"""Watch over co-training without labels: nothing but the source network says what the classes are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from medssl.core.errors import ConfigError, TrainingError
from medssl.methods.umct.fusion import view_agreement
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.split import evaluation_mode
from medssl.training.distributed import mean_over_processes

_ABSENT = 1e-4  # share of a crop below which a class is as good as absent, and cannot vanish any more
_AGREED = 0.99
_SHRUNK = 0.5


class DriftGuard:
    """Stop a run whose classes grow or vanish, compared with the source network on the same crops.

    Several processes judge the mean over the crops of all, and stop together. Belongs into the resume file's parts.

    Args:
        source: The network before adaptation, frozen; a second one of the same architecture.
        lowest: Least ratio of a foreground class's mean probability, adapted to source.
        highest: Largest ratio; of a class that fills less than 1e-4 of the source's crops, to 1e-4.
        interval: Iterations between two looks; a look costs one forward pass of every view.
        window: Looks that are averaged; before there are so many, nothing is stopped.

    Raises:
        ConfigError: If the range does not hold 1, or interval or window is not positive.
    """

    def __init__(
        self,
        *,
        source: MultiViewNet,
        lowest: float = 0.2,
        highest: float = 5.0,
        interval: int = 5,
        window: int = 5,
    ) -> None:
        if not 0.0 < lowest < 1.0 < highest or interval < 1 or window < 1:
            message = (
                "DriftGuard: expected 0 < lowest < 1 < highest and a positive interval and window, "
                f"got {lowest}, {highest}, {interval}, {window}."
            )
            raise ConfigError(message)
        self.source = source.eval().requires_grad_(False)
        self.lowest = lowest
        self.highest = highest
        self.interval = interval
        self._looks: deque[Tensor] = deque(maxlen=window)  # (2, C + 1): now and before, with the views' agreement

    def look(
        self,
        probabilities: Sequence[Tensor],
        image: Tensor,
        *,
        iteration: int,
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        """Compare what the views now say of crops with what the source said, when it is time to.

        Args:
            probabilities: Probabilities (B, C, X, Y, Z) of each view.
            image: The crops (B, C, X, Y, Z).
            iteration: Iteration of the run, from 0.
            autocast: Makes the context of the network.

        Raises:
            TrainingError: If a class has left the range, or the views agree on ever less foreground.
        """
        if iteration % self.interval:
            return
        with torch.no_grad(), evaluation_mode(self.source), autocast():
            before = self.source(image).float().softmax(1)
        now = torch.stack(list(probabilities)).mean(0)
        agreement = view_agreement(probabilities).reshape(1)
        looked = torch.stack([torch.cat([_shares(each), agreement]) for each in (now, before)])
        self._looks.append(mean_over_processes(looked).cpu())
        if len(self._looks) == self._looks.maxlen:
            self._judge(iteration)

    def state_dict(self) -> dict[str, Any]:
        """Return the looks so far."""
        return {"looks": list(self._looks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._looks.clear()
        self._looks.extend(state["looks"])

    def _judge(self, iteration: int) -> None:
        (*now, agreement), (*before, _) = torch.stack(list(self._looks)).mean(0).tolist()
        for channel, (share, source) in enumerate(zip(now[1:], before[1:], strict=True), start=1):
            ratio = share / max(source, _ABSENT)
            vanishes = source > _ABSENT and ratio < self.lowest
            if vanishes or ratio > self.highest:
                _stop(iteration, f"class {channel} fills {ratio:.2g} times what the source network gave it")
        source = sum(before[1:])
        kept = sum(now[1:]) / source if source > _ABSENT else 1.0
        if agreement > _AGREED and kept < _SHRUNK:
            _stop(iteration, f"the views agree on {agreement:.1%} of voxels and on {kept:.2g} of the foreground")


def _shares(probabilities: Tensor) -> Tensor:
    """Return the mean probability of every class, (C,)."""
    return probabilities.mean(dim=(0, 2, 3, 4))


def _stop(iteration: int, found: str) -> None:
    message = (
        f"adaptation without labels drifts at iteration {iteration}: {found}. Take fewer epochs, a lower "
        "learning_rate or an anchor above 0; or give a few labelled cases, which hold the classes in place."
    )
    raise TrainingError(message)
