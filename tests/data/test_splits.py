"""Splits: whole patients, nested draws, balanced folds; properties rather than examples."""

from collections import Counter

import pytest
from faults.small_dataset import manifest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medssl.core.errors import ConfigError
from medssl.data.splits import assign_folds, hold_out, keep_labeled, keep_labeled_cases, parse_amount


def build(sizes, **parts):
    """Make a manifest whose patient number p has sizes[p] training cases."""
    cases = [
        {
            "id": f"p{patient}_{visit}",
            "image": f"{patient}_{visit}.nii.gz",
            "label": "l.nii.gz",
            "patient": f"p{patient}",
        }
        for patient, size in enumerate(sizes)
        for visit in range(size)
    ]
    return manifest(training=cases, **parts)


def ids(cases):
    return {case.id for case in cases}


def patients(cases):
    return {case.group for case in cases}


SIZES = st.lists(st.integers(1, 4), min_size=2, max_size=12)
SEEDS = st.integers(0, 5)


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, seed=SEEDS, folds=st.integers(2, 6))
def test_folds_keep_patients_whole_and_are_balanced(sizes, seed, folds):
    assume(folds <= len(sizes))
    training = assign_folds(build(sizes), folds=folds, seed=seed).training
    assert len({(case.group, case.fold) for case in training}) == len(sizes)
    counts = Counter(case.fold for case in training)
    assert set(counts) == set(range(folds))
    assert max(counts.values()) - min(counts.values()) <= max(sizes)


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, seed=SEEDS, part=st.sampled_from(["validation", "test"]), share=st.floats(0.05, 0.6))
def test_held_out_cases_are_whole_patients_and_nothing_is_lost(sizes, seed, part, share):
    before = build(sizes)
    try:
        after = hold_out(before, part=part, amount=share, seed=seed)
    except ConfigError:
        assume(False)
    moved = after.part(part)
    assert ids(moved) | ids(after.training) == ids(before.training)
    assert not patients(moved) & patients(after.training)
    assert after.training
    wanted = max(1, round(share * len(before.training)))
    assert wanted <= len(moved) < wanted + max(sizes)


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, seed=SEEDS, amounts=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_a_smaller_draw_is_part_of_the_larger_one(sizes, seed, amounts):
    assume(max(amounts) <= sum(sizes))
    small, large = (keep_labeled(build(sizes), amount=amount, seed=seed) for amount in sorted(amounts))
    assert ids(small.training) <= ids(large.training)
    assert len(small.training) >= min(amounts)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES, seed=SEEDS)
def test_cases_that_lose_their_label_keep_no_trace_of_it(sizes, seed):
    before = build(sizes)
    after = keep_labeled(before, amount=1, seed=seed)
    assert ids(after.training) | ids(after.unlabeled) == ids(before.training)
    assert not patients(after.training) & patients(after.unlabeled)
    assert all(case.label is None and case.class_ is None and case.fold is None for case in after.unlabeled)
    assert all(case.label is not None for case in after.training)


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=SEEDS, order=st.randoms())
def test_a_draw_does_not_depend_on_the_order_of_the_manifest(sizes, seed, order):
    before = build(sizes)
    shuffled = list(before.training)
    order.shuffle(shuffled)
    other = before.model_copy(update={"training": tuple(shuffled)})
    assert ids(keep_labeled(before, amount=1, seed=seed).training) == ids(
        keep_labeled(other, amount=1, seed=seed).training
    )


def test_another_seed_is_another_draw():
    draws = {tuple(sorted(ids(keep_labeled(build([1] * 20), amount=4, seed=seed).training))) for seed in range(5)}
    assert len(draws) > 1


def test_held_out_draws_of_one_seed_differ_by_purpose():
    before = build([1] * 40)
    drawn = [ids(hold_out(before, part=part, amount=10, seed=0).part(part)) for part in ("validation", "test")]
    assert drawn[0] != drawn[1]


def test_patients_with_unlabelled_cases_are_not_held_out():
    other = {"id": "u", "image": "u.nii.gz", "patient": "p0"}
    before = build([1, 1, 1], unlabeled=[other])
    after = hold_out(before, part="test", amount=2, seed=0)
    assert patients(after.test) == {"p1", "p2"}
    with pytest.raises(ConfigError, match="2 patients with 2 cases"):
        hold_out(before, part="test", amount=3, seed=0)


def test_held_out_cases_lose_their_fold_and_join_those_already_there():
    held = {"id": "t", "image": "t.nii.gz", "patient": "t"}
    before = assign_folds(build([1, 1, 1, 1], test=[held]), folds=2, seed=0)
    after = hold_out(before, part="test", amount=1, seed=0)
    assert [case.fold for case in after.test] == [None, None]
    assert after.test[0].id == "t"


def test_holding_out_everything_is_refused():
    with pytest.raises(ConfigError, match="Ask for fewer"):
        hold_out(build([2, 2]), part="test", amount=3, seed=0)


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_that_patients_cannot_fill_are_refused(folds):
    with pytest.raises(ConfigError, match="from 2 to 3"):
        assign_folds(build([5, 1, 1]), folds=folds, seed=0)


def test_more_labels_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="found 3"):
        keep_labeled(build([3]), amount=4, seed=0)


def test_a_given_draw_is_kept_and_unknown_ids_get_a_hint():
    after = keep_labeled_cases(build([2, 1]), ids=["p0_1"])
    assert ids(after.training) == {"p0_1"}
    assert ids(after.unlabeled) == {"p0_0", "p1_0"}
    with pytest.raises(ConfigError, match='Did you mean "p0_'):
        keep_labeled_cases(build([2, 1]), ids=["p0_9"])
    with pytest.raises(ConfigError, match="found none"):
        keep_labeled_cases(build([2, 1]), ids=[])


@pytest.mark.parametrize(("text", "amount"), [("20", 20), ("0.2", 0.2), ("20%", 0.2), ("1", 1)])
def test_amounts_are_numbers_or_shares(text, amount):
    assert parse_amount(text, option="--test") == amount


@pytest.mark.parametrize("text", ["0", "1.5", "-3", "x", "", "100%", "nan", "%"])
def test_other_amounts_are_refused(text):
    with pytest.raises(ConfigError, match="--test"):
        parse_amount(text, option="--test")


@settings(max_examples=50, deadline=None)
@given(positive=st.integers(1, 11), negative=st.integers(10, 40), seed=SEEDS)
def test_rare_cases_are_spread_over_the_folds(positive, negative, seed):
    cases = [
        {"id": f"c{number}", "image": "i.nii.gz", "label": "l.nii.gz", "class": int(number < positive)}
        for number in range(positive + negative)
    ]
    training = assign_folds(manifest(training=cases), folds=5, seed=seed).training
    for kind in (0, 1, None):
        counts = [sum(case.fold == fold and kind in (None, case.class_) for case in training) for fold in range(5)]
        assert max(counts) - min(counts) <= (2 if kind is None else 1)
