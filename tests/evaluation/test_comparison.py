"""Two evaluations side by side: pairing, verdicts, and refusal of what cannot be compared."""

import json

import pytest

from medssl.core.errors import ConfigError
from medssl.evaluation.comparison import MEAN, compare_evaluations, read_evaluation


def content(dice, *, labels=None, sha="a", tolerance=1.0):
    """An evaluation with one class and one case for each value, each of its own patient."""
    cases = [
        {
            "id": f"c{index}",
            "group": f"g{index}",
            "classes": {"liver": {"dice": value, "hd95_mm": None, "nsd": value}},
            "mean": {"dice": value, "hd95_mm": None, "nsd": value},
        }
        for index, value in enumerate(dice)
    ]
    inputs = {"manifest": {"name": "m", "sha256": sha}, "part": "test"}
    labels = labels or {"1": "liver"}
    return {
        "task": "segmentation",
        "labels": labels,
        "tolerance_mm": tolerance,
        "cases": cases,
        "medssl": {"inputs": inputs},
    }


def find(comparison, name, metric):
    (found,) = [each for each in comparison.differences if (each.name, each.metric) == (name, metric)]
    return found


def test_constant_difference_is_decided_although_the_cases_spread():
    spread = [0.1, 0.5, 0.9, 0.3]
    found = find(compare_evaluations(content([x + 0.02 for x in spread]), content(spread)), "liver", "dice")
    assert found.difference.mean == pytest.approx(0.02)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.02, 0.02))
    assert found.decided


@pytest.mark.parametrize("metric, better", [("dice", "a"), ("hd95_mm", "b")])
def test_of_distances_the_smaller_one_is_better(metric: str, better: str):
    high, low = ([{"dice": x, "hd95_mm": x, "nsd": x} for x in values] for values in ([0.9, 0.8, 0.7], [0.5, 0.4, 0.3]))
    evaluations = [content([0.0] * 3), content([0.0] * 3)]
    for evaluation, scores in zip(evaluations, (high, low), strict=True):
        for case, score in zip(evaluation["cases"], scores, strict=True):
            case["classes"]["liver"] = case["mean"] = score
    found = compare_evaluations(*evaluations)
    assert find(found, "liver", metric).better == find(found, MEAN, metric).better == better


def test_a_distance_to_what_one_side_missed_decides_nothing():
    values = [{"dice": 0.5, "hd95_mm": float(x), "nsd": 0.5} for x in (2, 2.1, 2, 1.9)]
    evaluations = [content([0.5] * 4), content([0.5] * 4)]
    for evaluation, shift in zip(evaluations, (0.0, 1.0), strict=True):
        for case, score in zip(evaluation["cases"], values, strict=True):
            case["classes"]["liver"] = case["mean"] = score | {"hd95_mm": score["hd95_mm"] + shift}
    assert find(compare_evaluations(*evaluations), MEAN, "hd95_mm").better == "a"
    missed = evaluations[0]["cases"][3]
    missed["classes"]["liver"] = missed["mean"] = {"dice": 0.0, "hd95_mm": None, "nsd": 0.0}
    found = find(compare_evaluations(*evaluations), MEAN, "hd95_mm")
    assert (found.one_sided, found.decided, found.better) == (1, True, None)


@pytest.mark.parametrize(
    "change", [{"labels": ["liver"]}, {"cases": [{"id": "c0", "group": "g"}]}, {"cases": 3}, {"task": "other"}]
)
def test_what_is_no_evaluation_is_refused(tmp_path, change: dict):
    (tmp_path / "metrics.json").write_text(json.dumps(content([0.5]) | change))
    with pytest.raises(ConfigError, match="found other content"):
        read_evaluation(tmp_path)


def test_differences_of_both_signs_are_undecided():
    found = find(compare_evaluations(content([0.5, 0.7, 0.6]), content([0.6, 0.6, 0.6])), MEAN, "dice")
    assert not found.decided
    assert found.better is None


def test_means_are_over_the_cases_where_both_are_defined():
    found = find(compare_evaluations(content([0.5, 0.7, None]), content([None, 0.6, 0.1])), "liver", "dice")
    assert (found.a.mean, found.b.mean, found.difference.n) == (0.7, 0.6, 1)


def test_case_that_one_side_lacks_is_named():
    found = compare_evaluations(content([0.5, 0.7]), content([0.5]))
    assert (found.cases, found.only_a, found.only_b) == (("c0",), ("c1",), ())


@pytest.mark.parametrize("other", [{"sha": "b"}, {"tolerance": 2.0}, {"labels": {"1": "spleen"}}])
def test_evaluations_of_other_things_are_refused(other):
    with pytest.raises(ConfigError, match="do not score the same thing"):
        compare_evaluations(content([0.5]), content([0.5], **other))


def test_no_common_case_is_refused():
    with pytest.raises(ConfigError, match="no scored case in common"):
        compare_evaluations(content([0.5]), content([]))


def test_comparison_is_json():
    found = json.loads(json.dumps(compare_evaluations(content([0.5]), content([0.6])).to_json()))
    assert found["cases"] == ["c0"]
    assert [each["metric"] for each in found["differences"][:3]] == ["dice", "hd95_mm", "nsd"]


@pytest.mark.parametrize("text", ["", "[]", '{"task": "other"}'])
def test_file_that_is_no_evaluation_is_refused(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ConfigError, match="medssl evaluate"):
        read_evaluation(tmp_path)


def test_metrics_of_a_fine_tuning_are_refused_in_words():
    own = content([0.5])
    finetuned = {**own, "medssl": {"inputs": {"manifest": "ab" * 32}}}
    with pytest.raises(ConfigError, match="do not score the same thing"):
        compare_evaluations(own, finetuned)
