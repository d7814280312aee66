"""Batches of volumes and cells: complete, different volumes, the same for any number of processes, resumable."""

from __future__ import annotations

import itertools

import pytest

from medssl.core.errors import ConfigError
from medssl.methods.global_local import PartitionSampler

_OPTIONS = {"volumes": 3, "cells": 4, "iterations_per_epoch": 2}


def _batches(sampler: PartitionSampler) -> list[list]:
    keys = list(sampler)
    size = 12 // sampler.world_size
    return [keys[begin : begin + size] for begin in range(0, len(keys), size)]


def test_a_batch_has_each_cell_of_each_of_its_volumes() -> None:
    for batch in _batches(PartitionSampler(range(7), **_OPTIONS)):
        assert len({(key.item, key.cell) for key in batch}) == 12
        assert len({key.item for key in batch}) == 3


def test_processes_share_the_batch_of_one() -> None:
    one = _batches(PartitionSampler(range(7), **_OPTIONS))
    shares = _OPTIONS | {"volumes": 1}
    two = [_batches(PartitionSampler(range(7), rank=rank, world_size=3, **shares)) for rank in range(3)]
    for whole, *parts in zip(one, *two, strict=True):
        assert sorted(whole) == sorted(itertools.chain(*parts))


def test_a_sampler_goes_on_at_any_batch() -> None:
    whole = PartitionSampler(range(7), **_OPTIONS)
    keys = [*whole, *whole]
    later = PartitionSampler(range(7), **_OPTIONS)
    later.position = 12
    assert list(later) == keys[12:24]
    assert list(later) == keys[24:]


def test_too_few_volumes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 volumes"):
        PartitionSampler(range(2), **_OPTIONS)
