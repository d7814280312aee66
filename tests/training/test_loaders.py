"""Sample order as a function of position, and two streams in one loader."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset

from medssl.core.errors import ConfigError
from medssl.data.datasets import SeededCacheDataset
from medssl.training import LesionSampler, StreamSampler, TwoStreamLoader


@given(size=st.integers(1, 17), epoch=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_pass_over_the_data_takes_each_case_once(size: int, epoch: int, seed: int) -> None:
    sampler = StreamSampler(range(size), samples_per_epoch=epoch, seed=seed)
    keys = [key for _ in range(1 + 2 * size // epoch) for key in sampler]
    assert [key.position for key in keys] == list(range(len(keys)))
    assert sorted(key.item for key in keys[:size]) == list(range(size))
    assert sorted(key.item for key in keys[size : 2 * size]) == list(range(size))


@given(start=st.integers(0, 50))
def test_a_stream_continues_at_any_position(start: int) -> None:
    whole, later = (StreamSampler(range(7), samples_per_epoch=10, seed=1) for _ in range(2))
    expected = [key for _ in range(6) for key in whole][start:]
    later.position = start
    assert [key for _ in range(6) for key in later][: len(expected)] == expected


@given(size=st.integers(1, 17), world=st.integers(1, 6), share=st.integers(1, 9), epochs=st.integers(1, 4))
def test_processes_share_the_stream_without_loss_or_repetition(size: int, world: int, share: int, epochs: int) -> None:
    def stream(rank: int, processes: int) -> list:
        data, samples = range(size), share * world
        sampler = StreamSampler(data, samples_per_epoch=samples, rank=rank, world_size=processes)
        return [key for _ in range(epochs) for key in sampler]

    shared = [stream(rank, world) for rank in range(world)]
    assert {len(keys) for keys in shared} == {share * epochs}
    assert sorted((key for keys in shared for key in keys), key=lambda key: key.position) == stream(0, 1)


@given(batch=st.integers(1, 4), world=st.integers(1, 4), iteration=st.integers(0, 5))
def test_the_batches_of_all_processes_are_one_large_batch(batch: int, world: int, iteration: int) -> None:
    def batch_of(rank: int, processes: int, size: int) -> list:
        sampler = StreamSampler(range(7), samples_per_epoch=6 * batch * world, rank=rank, world_size=processes)
        return list(sampler)[iteration * size : (iteration + 1) * size]

    parts = [key for rank in range(world) for key in batch_of(rank, world, batch)]
    assert sorted(parts, key=lambda key: key.position) == batch_of(0, 1, batch * world)


@given(
    positive=st.lists(st.booleans(), min_size=2, max_size=12),
    share=st.sampled_from([0.25, 0.5, 0.6]),
    seed=st.integers(0, 5),
)
def test_a_share_of_the_stream_has_lesions_and_no_case_is_repeated_early(positive, share, seed) -> None:
    count = 60
    sampler = LesionSampler(positive, positive=positive, samples_per_epoch=count, share=share, seed=seed)
    items = [key.item for key in sampler]
    kinds = {kind: [item for item in items if positive[item] == kind] for kind in (True, False)}
    if all(kinds.values()):
        assert len(kinds[True]) == round(count * share)
    for kind, taken in kinds.items():
        size = positive.count(kind)
        for start in range(0, len(taken) - size, size or 1):
            assert len(set(taken[start : start + size])) == size


@given(start=st.integers(0, 50), world=st.integers(1, 3))
def test_a_stream_of_lesions_continues_anywhere_in_any_number_of_processes(start: int, world: int) -> None:
    positive = [True, False, False, False, True, False]

    def stream(rank: int, processes: int, position: int = 0) -> list:
        sampler = LesionSampler(
            positive, positive=positive, samples_per_epoch=12, seed=1, rank=rank, world_size=processes
        )
        sampler.position = position
        return [key for _ in range(6) for key in sampler]

    whole = stream(0, 1)
    later = stream(0, 1, start)
    assert later[: len(whole) - start] == whole[start : start + len(later)]
    shared = [key for rank in range(world) for key in stream(rank, world)]
    assert sorted(shared, key=lambda key: key.position) == whole


def test_lesions_are_told_for_every_item() -> None:
    for wrong in ({"positive": [True]}, {"positive": [True] * 3, "share": 1.0}):
        with pytest.raises(ConfigError, match="expected 3 entries of positive and a share between 0 and 1"):
            LesionSampler(range(3), samples_per_epoch=2, **wrong)


def test_an_epoch_that_processes_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 2"):
        StreamSampler(range(5), samples_per_epoch=7, world_size=2)


def _loader(count: int, *, batch: int, batches: int, stream: str) -> DataLoader:
    data = [{"image": float(i)} for i in range(count)]
    dataset = SeededCacheDataset(data, lambda item: item, stream=stream, num_workers=0)
    sampler = StreamSampler(dataset, samples_per_epoch=batch * batches)
    return DataLoader(dataset, batch_size=batch, sampler=sampler, num_workers=0, drop_last=True)


@pytest.mark.parametrize("labelled, unlabelled", [(2, 9), (9, 2)])
def test_both_streams_have_their_own_length(labelled: int, unlabelled: int) -> None:
    loader = TwoStreamLoader(
        _loader(labelled, batch=2, batches=4, stream="a"), _loader(unlabelled, batch=3, batches=4, stream="b")
    )
    batches = list(loader)
    assert len(loader) == len(batches) == 4
    assert {len(batch["image"]) for batch in batches} == {2}
    assert {len(batch["unlabeled"]["image"]) for batch in batches} == {3}


def test_an_empty_unlabelled_list_leaves_labelled_batches() -> None:
    loader = TwoStreamLoader(_loader(3, batch=1, batches=4, stream="a"), _loader(0, batch=1, batches=4, stream="b"))
    assert [set(batch) for batch in loader] == [{"image"}] * 4


def test_streams_of_different_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 labelled but 5 unlabelled"):
        TwoStreamLoader(_loader(3, batch=1, batches=4, stream="a"), _loader(3, batch=1, batches=5, stream="b"))


def test_only_a_stream_sampler_can_continue() -> None:
    loader = TwoStreamLoader(DataLoader(Dataset([1, 2, 3]), num_workers=0))
    with pytest.raises(ConfigError, match="StreamSampler"):
        loader.start_at(1)


class _Ignored:
    """Items that tell whether the process that makes them ignores the signals of its group."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: object) -> bool:
        return all(signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGTERM, signal.SIGINT))


def test_workers_leave_the_signals_of_the_group_to_the_main_process() -> None:
    data = _Ignored()
    sampler = StreamSampler(data, samples_per_epoch=1)
    loader = DataLoader(data, batch_size=1, sampler=sampler, num_workers=1)
    assert [batch.item() for batch in TwoStreamLoader(loader)] == [True]


def test_cases_without_any_lesion_are_warned_of_once(caplog) -> None:
    for rank in range(2):
        LesionSampler(range(3), positive=[False] * 3, samples_per_epoch=2, rank=rank, world_size=2)
    assert [record.getMessage() for record in caplog.records if "none of the 3 training cases" in record.getMessage()]
    assert len(caplog.records) == 1
    caplog.clear()
    LesionSampler(range(3), positive=[False, True, False], samples_per_epoch=2)
    assert not caplog.records
