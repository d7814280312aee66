"""A validation shared by processes gives the table of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from processes import in_processes
from training.process_runs import buffers_of_each, dice_table

from medssl.training import CaseSampler


@given(cases=st.integers(0, 30), world=st.integers(1, 9))
def test_every_case_is_validated_once_and_in_order(cases: int, world: int) -> None:
    shares = [list(CaseSampler(range(cases), rank=rank, world_size=world)) for rank in range(world)]
    together = [case for share in shares for case in share]
    assert together[:cases] == list(range(cases))
    # Idle processes repeat the last case behind all others, where it is cut off
    assert set(together[cases:]) <= {cases - 1}
    assert len(together) == (max(cases, world) if cases else 0)


@given(cases=st.integers(1, 30), world=st.integers(1, 9))
def test_processes_have_equal_work_but_for_one_case(cases: int, world: int) -> None:
    lengths = [len(CaseSampler(range(cases), rank=rank, world_size=world)) for rank in range(world)]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


def test_the_table_is_that_of_one_process_also_with_fewer_cases_than_processes() -> None:
    counts = [1, 2, 3, 5]
    alone = dice_table(counts)
    assert [len(table) for _, table in alone] == counts
    assert in_processes(dice_table, counts, count=3) == [alone] * 3


def test_running_statistics_are_the_main_processs_everywhere() -> None:
    assert in_processes(buffers_of_each) == [[1.0, 1.0], [1.0, 1.0]]
