"""Patient-level intervals against a plain loop, and their edge cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.evaluation.statistics import Interval, draw_groups, mean_with_interval, paired_difference


def test_interval_agrees_with_a_plain_bootstrap_over_patients():
    rng = np.random.default_rng(3)
    groups = [f"p{index // 3}" for index in range(60)]
    values = [float(rng.normal(int(group[1:]) / 10, 0.1)) for group in groups]
    by_group = {group: [v for v, g in zip(values, groups, strict=True) if g == group] for group in groups}
    names = list(by_group)
    means = [np.mean([value for g in rng.choice(names, len(names)) for value in by_group[g]]) for _ in range(4000)]
    found = mean_with_interval(values, groups, draws=4000)
    assert [found.low, found.high] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)


def test_cases_of_one_patient_do_not_narrow_the_interval():
    values, groups = [0.1, 0.5, 0.9, 0.4, 0.6], ["a", "b", "c", "d", "e"]
    once = mean_with_interval(values, groups)
    copied = mean_with_interval(values * 10, groups * 10)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert (copied.n, copied.groups) == (50, 5)


def test_undefined_values_are_left_out_and_n_says_so():
    found = mean_with_interval([1.0, None, 2.0, 3.0], ["a", "b", "c", "d"])
    assert (found.mean, found.n, found.groups) == (2.0, 3, 3)


def test_fewer_than_three_patients_give_no_interval():
    found = mean_with_interval([1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "b"])
    assert found == Interval(mean=2.5, low=None, high=None, n=4, groups=2)


def test_nothing_defined_gives_no_mean():
    assert mean_with_interval([None], ["a"]) == Interval(mean=None, low=None, high=None, n=0, groups=0)


def test_seed_decides_the_interval():
    values, groups = np.linspace(0, 1, 30) ** 2, [f"p{index}" for index in range(30)]
    assert mean_with_interval(values, groups, seed=1) == mean_with_interval(values, groups, seed=1)
    assert mean_with_interval(values, groups, seed=1) != mean_with_interval(values, groups, seed=2)


def test_values_without_a_group_are_refused():
    with pytest.raises(ValueError, match="zip"):
        mean_with_interval([1.0, 2.0], ["a"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcdef")), min_size=1, max_size=20))
def test_interval_lies_within_the_values_and_around_the_mean(pairs):
    values, groups = zip(*pairs, strict=True)
    found = mean_with_interval(values, groups)
    if found.low is not None:
        assert min(values) - 1e-9 <= found.low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.high <= max(values) + 1e-9


def test_paired_difference_sees_a_small_constant_gain():
    easy_and_hard = [0.2, 0.5, 0.9, 0.7, 0.3]
    found = paired_difference([v + 0.01 for v in easy_and_hard], easy_and_hard, list("abcde"))
    assert (found.low, found.mean, found.high) == pytest.approx((0.01, 0.01, 0.01))


def test_paired_difference_needs_both_values():
    assert paired_difference([1.0, None, 3.0], [0.0, 1.0, None], list("abc")).n == 1


def test_drawn_groups_keep_their_cases_together():
    groups = ["a", "b", "a", "c", "b", "d"]
    draws = np.concatenate(list(draw_groups(groups, seed=1, draws=700)))
    assert draws.shape == (700, 6)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 2])
    np.testing.assert_array_equal(draws[:, [0, 1, 3, 5]].sum(1), np.full(700, 4))
    assert list(draw_groups(["a", "b", "a"], seed=1)) == []
