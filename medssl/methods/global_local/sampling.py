"""Batches of some volumes with one crop from each of their partitions, as a function of their position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from medssl.core.errors import ConfigError
from medssl.core.seeding import derive_seed
from medssl.methods.global_local.crops import CropKey
from medssl.training.loaders import StreamSampler


class PartitionSampler(StreamSampler):
    """Yield crops in batches of different volumes x all cells; any position can be resumed.

    Process r of W takes every W-th crop of a batch of W times as many volumes, which is the batch that one process
    would have.

    Args:
        data: Sized data.
        volumes: Volumes of a batch, for each process.
        cells: Number of cells of a volume.
        iterations_per_epoch: Batches of an epoch.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.

    Raises:
        ConfigError: If there are fewer volumes, or a batch cannot be shared evenly by the processes.

    Note:
        Source: Chaitanya et al., NeurIPS 2020: 3 volumes x 4 partitions.
    """

    def __init__(
        self,
        data: Any,
        *,
        volumes: int = 3,
        cells: int = 4,
        iterations_per_epoch: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.volumes = volumes * world_size
        self.cells = cells
        if len(data) < self.volumes:
            message = (
                f"sampler: expected at least {self.volumes} volumes for a batch of {self.volumes} x {cells} crops, "
                f"got {len(data)}. Add volumes, or change volumes_per_batch."
            )
            raise ConfigError(message)
        super().__init__(
            data,
            samples_per_epoch=iterations_per_epoch * self.volumes * cells,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    def __iter__(self) -> Iterator[CropKey]:  # type: ignore[override]  # a key with a cell
        end = (self.position // self.samples_per_epoch + 1) * self.samples_per_epoch
        for position in range(self.position + self.rank, end, self.world_size):
            batch, within = divmod(position, self.volumes * self.cells)
            place, cell = divmod(within, self.cells)
            yield CropKey(self._volumes_of(batch)[place], position, cell)
        self.position = end

    def _volumes_of(self, batch: int) -> list[int]:
        generator = np.random.default_rng(derive_seed(self.seed, "volumes", batch))
        return [int(each) for each in generator.choice(self.size, self.volumes, replace=False)]
