"""The order of samples as a function of their position, and the loader that joins two streams."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from medssl.core.errors import ConfigError
from medssl.core.seeding import derive_seed
from medssl.data.datasets import SampleKey

_logger = logging.getLogger("medssl.training")


class StreamSampler(Sampler):
    """Yield an endless shuffled stream in epochs of fixed length; any position can be resumed.

    Pass k over the data is a permutation keyed by (seed, k), so no case is repeated before all were seen, whatever
    the length of an epoch. Process r of W takes every W-th position: the union over processes is the stream of one
    process with a W times larger batch.

    Args:
        data: Sized data; only its length matters. May be empty, then the stream is.
        samples_per_epoch: Samples of all processes together in one epoch; a multiple of `world_size`.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.

    Raises:
        ConfigError: If an epoch cannot be shared evenly by the processes.
    """

    def __init__(self, data: Any, *, samples_per_epoch: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        if samples_per_epoch < 1 or samples_per_epoch % world_size:
            message = (
                f"sampler: expected samples_per_epoch to be a positive multiple of {world_size} processes, "
                f"got {samples_per_epoch}. Change batch_size or iterations_per_epoch."
            )
            raise ConfigError(message)
        self.size = len(data)
        self.samples_per_epoch = samples_per_epoch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = 0
        self._pass = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size if self.size else 0

    def __iter__(self) -> Iterator[SampleKey]:
        if not self.size:
            return
        end = (self.position // self.samples_per_epoch + 1) * self.samples_per_epoch
        for position in range(self.position + self.rank, end, self.world_size):
            yield SampleKey(self._index(position), position)
        self.position = end

    def _index(self, position: int) -> int:
        number, offset = divmod(position, self.size)
        if number != self._pass:
            generator = np.random.default_rng(derive_seed(self.seed, "order", number))
            self._order = generator.permutation(self.size)
            self._pass = number
        return int(self._order[offset])


class LesionSampler(StreamSampler):
    """A stream in which a fixed share of the samples has a lesion, however rare such cases are.

    Positive and other cases are two shuffled streams of their own, and both go on for ever: no case is repeated before
    all of its kind were seen. With cases of one kind only, it is that kind's stream; a warning tells if none has a
    lesion.

    Args:
        data: Sized data; only its length matters.
        positive: For each item, whether it has a lesion.
        samples_per_epoch: Samples of all processes together in one epoch; a multiple of `world_size`.
        share: Share of positive samples, above 0 and below 1; they are spread evenly.
        seed: Seed of the run.
        rank: This process.
        world_size: Number of processes.

    Raises:
        ConfigError: If the lengths differ, the share is out of range, or an epoch cannot be shared evenly.
    """

    def __init__(
        self,
        data: Any,
        *,
        positive: Sequence[bool],
        samples_per_epoch: int,
        share: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(data, samples_per_epoch=samples_per_epoch, seed=seed, rank=rank, world_size=world_size)
        if len(positive) != self.size or not 0 < share < 1:
            message = (
                f"sampler: expected {self.size} entries of positive and a share between 0 and 1, got "
                f"{len(positive)} and {share}."
            )
            raise ConfigError(message)
        self.share = share
        self._kinds = [np.flatnonzero(positive), np.flatnonzero(~np.asarray(positive, dtype=bool))]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}
        if self.size and not len(self._kinds[0]) and rank == 0:
            _logger.warning(
                "none of the %d training cases has a lesion: the network can learn only that there is none. Check the "
                "labels with medssl check, or the part and fold that are trained on.",
                self.size,
            )

    def _index(self, position: int) -> int:
        before, now = (math.floor(each * self.share) for each in (position, position + 1))
        if not all(len(kind) for kind in self._kinds):
            kind, count = int(not len(self._kinds[0])), position
        else:
            # Of the first `position` samples, `before` were positive
            kind, count = (0, before) if now > before else (1, position - before)
        number, offset = divmod(count, len(self._kinds[kind]))
        if self._orders.get(kind, (-1,))[0] != number:
            generator = np.random.default_rng(derive_seed(self.seed, "order", kind, number))
            self._orders[kind] = number, generator.permutation(self._kinds[kind])
        return int(self._orders[kind][1][offset])


class _StartWorker:
    """Start a worker process of a loader so that signals to the whole group leave it alone.

    Schedulers send SIGTERM to every process of a job, a terminal SIGINT. The main process decides when a run ends; if
    its workers died first, it could not finish the step that the resume file needs. Workers end with their parent.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self.then is not None:
            self.then(worker)


class TwoStreamLoader:
    """One loader for the trainer: labelled batches, each with a batch of the unlabelled stream beside it.

    Args:
        labeled: Loader over a `StreamSampler` of labelled cases; decides the length of an epoch.
        unlabeled: Loader of the same length over unlabelled cases, or None. Where it is None or empty, batches
            hold labelled data only.

    Raises:
        ConfigError: If both streams have data and their epochs differ in length.
    """

    def __init__(self, labeled: DataLoader, unlabeled: DataLoader | None = None) -> None:
        self.labeled = labeled
        self.unlabeled = unlabeled if unlabeled is not None and len(unlabeled) else None
        if unlabeled is not None and self.unlabeled is None:
            _logger.info("no unlabelled case: this run learns from labels alone")
        if self.unlabeled is not None and len(self.unlabeled) != len(labeled):
            message = (
                f"loader: an epoch has {len(labeled)} labelled but {len(self.unlabeled)} unlabelled batches. "
                "Give both samplers samples_per_epoch = iterations_per_epoch * their batch size."
            )
            raise ConfigError(message)
        for loader in self._loaders():
            if loader.generator is None:
                # A loader without its own generator draws from torch's global one at every epoch,
                # which would make a resumed run differ from an uninterrupted one. (Give MONAI's DataLoader
                # one from the start: otherwise it also resets the global one when it has no workers.)
                loader.generator = torch.Generator()
            loader.worker_init_fn = _StartWorker(loader.worker_init_fn)

    def _loaders(self) -> list[DataLoader]:
        return [self.labeled] if self.unlabeled is None else [self.labeled, self.unlabeled]

    def __len__(self) -> int:
        return len(self.labeled)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.unlabeled is None:
            yield from self.labeled
            return
        for labeled, unlabeled in zip(self.labeled, self.unlabeled, strict=True):
            yield {**labeled, "unlabeled": unlabeled}

    def start_at(self, iteration: int) -> None:
        """Continue both streams behind the first `iteration` batches of the run."""
        for loader in self._loaders():
            sampler = loader.sampler
            if not isinstance(sampler, StreamSampler):
                message = "loader: only a StreamSampler can continue at a position; use medssl.training.StreamSampler."
                raise ConfigError(message)
            sampler.position = iteration * (sampler.samples_per_epoch // len(loader))
