"""Embeddings of earlier batches: negatives of MoCo, or more samples for the assignments of SwAV."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from medssl.core.errors import CheckpointError, ConfigError


class EmbeddingQueue:
    """Keep the last embeddings of each view; the oldest make room. Belongs into the resume file's parts.

    It starts empty, so that nothing random is learnt from.

    Args:
        length: Embeddings of each view.
        dimensions: Length of an embedding.
        views: Views that are kept apart.
        data: The dataset: never more than half as many embeddings as it has slices are kept, or most of them would
            be of the slice itself or its own neighbours. None does not limit.

    Raises:
        ConfigError: If a number is not positive.
    """

    def __init__(self, *, length: int, dimensions: int, views: int = 1, data: Sized | None = None) -> None:
        if min(length, dimensions, views) < 1:
            message = (
                f"queue: expected length, dimensions and views above 0, got {length}, {dimensions} and {views}. "
                "Change queue."
            )
            raise ConfigError(message)
        self.length = length if data is None else max(1, min(length, len(data) // 2))
        self._rows = torch.zeros(views, self.length, dimensions)
        self._filled = 0
        self._next = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def is_full(self) -> bool:
        """Whether the oldest embeddings have begun to leave."""
        return self._filled == self.length

    def rows(self, view: int = 0) -> Tensor:
        """Return what is kept of one view, (N, d), in no particular order."""
        return self._rows[view, : self._filled]

    @torch.no_grad()
    def add(self, embeddings: Sequence[Tensor]) -> None:
        """Take in a batch (B, d) of every view."""
        added = torch.stack([each.detach() for each in embeddings])[:, -self.length :]
        self._rows = self._rows.to(added.device)
        count = added.shape[1]
        places = (self._next + torch.arange(count, device=added.device)) % self.length
        # Cloned: negatives of this iteration may still be wanted by its backward pass
        self._rows = self._rows.clone()
        self._rows[:, places] = added.to(self._rows.dtype)
        self._next = (self._next + count) % self.length
        self._filled = min(self.length, self._filled + count)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept and where the next embedding goes."""
        return {"rows": self._rows, "filled": self._filled, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            CheckpointError: If it was of another size.
        """
        if state["rows"].shape != self._rows.shape:
            message = (
                f"queue: expected {tuple(self._rows.shape)} embeddings, the resume file has "
                f"{tuple(state['rows'].shape)}. Put queue length and slices back, or start a new run."
            )
            raise CheckpointError(message)
        self._rows = state["rows"].clone().to(self._rows.device)
        self._filled, self._next = int(state["filled"]), int(state["next"])
