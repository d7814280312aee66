"""What a step reads from a batch of two streams."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.engines.utils import default_prepare_batch

from medssl.core.errors import ConfigError
from medssl.training.streams import case_ids, read_streams

_ENGINE = SimpleNamespace(
    prepare_batch=default_prepare_batch, non_blocking=False, to_kwargs={}, state=SimpleNamespace(device="cpu")
)


def _batch(**unlabeled) -> dict:
    batch = {"image": torch.zeros(2, 1, 4, 4, 4), "label": torch.ones(2, 1, 4, 4, 4), "case_id": ["a", "b"]}
    return {**batch, "unlabeled": unlabeled} if unlabeled else batch


def test_labelled_crops_come_first_and_of_unlabelled_ones_only_the_image() -> None:
    crops = torch.ones(3, 1, 4, 4, 4)
    streams = read_streams(_ENGINE, _batch(image=crops, label="never read", case_id=["c"]))
    assert streams.joined.flatten(1).mean(1).tolist() == [0, 0, 1, 1, 1]
    assert case_ids(_batch(image=crops, case_id=["c"])) == ["a", "b", "c"]


@pytest.mark.parametrize("batch", [_batch(), _batch(image=[])])
def test_an_absent_or_empty_stream_is_none(batch: dict) -> None:
    streams = read_streams(_ENGINE, batch)
    assert streams.unlabeled is None
    assert torch.equal(streams.joined, streams.images)


def test_crops_of_two_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"shape \(1, 4, 4, 4\), got \(2, 4, 4, 4\)"):
        read_streams(_ENGINE, _batch(image=torch.zeros(2, 2, 4, 4, 4)))
