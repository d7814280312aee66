"""Processes over cases: order, isolation of failures and of deaths."""

import sys

import pytest
from faults.worker_functions import die_on_two, double, lambda_from, sleep_on_two

from medssl.core.errors import ImageError, ResourceError
from medssl.data import workers
from medssl.data.workers import default_workers, map_isolated


@pytest.mark.parametrize(("count", "threads"), [(0, 1), (0, 3), (2, 1)])
def test_results_come_in_order_and_an_error_stays_with_its_item(count, threads):
    outcomes = map_isolated(double, list(range(6)), workers=count, threads=threads)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [0, 2, 4, 8, 10]
    assert isinstance(outcomes[3], ImageError)
    assert outcomes[3].code == "file-empty"


def test_a_dying_process_loses_its_own_item_only():
    outcomes = map_isolated(die_on_two, list(range(5)), workers=2)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [0, 1, 3, 4]
    assert isinstance(outcomes[2], ResourceError)
    assert outcomes[2].code == "worker-died"


def test_a_result_that_cannot_travel_is_an_error_of_its_item():
    assert isinstance(map_isolated(lambda_from, [1], workers=1)[0], RuntimeError)


def test_nothing_to_do_gives_nothing():
    assert map_isolated(double, [], workers=2) == []


def test_small_data_sets_need_no_processes(tmp_path, monkeypatch):
    (tmp_path / "small").write_bytes(b"x" * 1000)
    assert default_workers([tmp_path / "small", tmp_path / "missing"]) == 0
    monkeypatch.setattr(workers, "_BYTES_FOR_A_WORKER", 10)
    monkeypatch.setattr(workers, "usable_cores", lambda: 3)
    assert default_workers([tmp_path / "small"]) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_an_item_that_hangs_is_given_up_in_this_process_too(threads):
    outcomes = map_isolated(sleep_on_two, [1, 2, 3], workers=0, threads=threads, stall_seconds=0.2)
    assert (outcomes[0], outcomes[2]) == (1, 3)
    assert outcomes[1].code == "stalled"


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exit_asked_for_by_an_item_is_not_swallowed(threads):
    with pytest.raises(SystemExit):
        map_isolated(sys.exit, [1], workers=0, threads=threads)
