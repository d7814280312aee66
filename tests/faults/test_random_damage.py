"""Bytes changed, cut and repeated at random: a reader returns or raises an error of its own, never anything else."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from faults.broken_files import write_good_file

from medssl.core.errors import MedsslError
from medssl.data.volumes import read_volume
from medssl.networks.weights import read_weights

_TIMES = 300


def _damage(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(min(len(changed), rng.choice([400, len(changed)])))] = rng.randrange(256)
    return bytes(changed[: rng.randint(1, len(changed))] if rng.random() < 0.2 else changed)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["header and voxels", "gzip"])
def test_a_damaged_image_is_read_or_refused(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    good = gzip.decompress(write_good_file(tmp_path / "good.nii.gz").read_bytes())
    suffix = ".nii" if pack is bytes else ".nii.gz"
    rng, refused = random.Random(0), 0
    for number in range(_TIMES):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(pack(_damage(good, rng)))
        try:
            read_volume(path)
        except MedsslError:
            refused += 1
    assert 20 < refused < _TIMES


@pytest.mark.timeout(60)
def test_a_damaged_stream_of_gzip_is_refused(tmp_path: Path) -> None:
    good = write_good_file(tmp_path / "good.nii.gz").read_bytes()
    rng, refused = random.Random(1), 0
    for _ in range(_TIMES):
        (tmp_path / "damaged.nii.gz").write_bytes(_damage(good, rng))
        try:
            read_volume(tmp_path / "damaged.nii.gz")
        except MedsslError:
            refused += 1
    assert refused > _TIMES // 2


@pytest.mark.timeout(60)
def test_damaged_weights_are_read_or_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(5, 3), "bias": torch.zeros(5)}, tmp_path / "good.pt")
    good, rng, refused = (tmp_path / "good.pt").read_bytes(), random.Random(2), 0
    for _ in range(_TIMES):
        (tmp_path / "damaged.pt").write_bytes(_damage(good, rng))
        try:
            read_weights(tmp_path / "damaged.pt")
        except MedsslError:
            refused += 1
    assert 20 < refused < _TIMES
