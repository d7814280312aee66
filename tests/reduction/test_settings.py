"""Settings that contradict each other are refused, each with a reason."""

import json

import pytest

from medssl.core.errors import ConfigError
from medssl.reduction.settings import Settings


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"method": "hash"}, "method"),
        ({"scope": "series"}, "scope"),
        ({"parts": ("train",)}, "'train'"),
        ({"unit": "volume"}, "scope patient or dataset"),
        ({"unit": "volume", "scope": "dataset", "method": "ssim"}, "dhash"),
        ({"method": "every_n"}, "--every"),
        ({"every": 3}, "--every"),
        ({"threshold": 6, "budget": 3}, "Leave one out"),
        ({"method": "all", "threshold": 3}, "Leave one out"),
        ({"threshold": 65}, "0 to 64"),
        ({"threshold": -1}, "0 to 64"),
        ({"threshold": 5.5}, "whole bits"),
        ({"method": "ssim", "threshold": 6}, "0 to 1"),
        ({"budget": 0}, "at least 1"),
        ({"method": "every_n", "every": 0}, "at least 1"),
        ({"budget": "given", "scope": "dataset"}, "scope volume"),
        ({"size": 3}, "size"),
        ({"bins": 1000}, "bins"),
    ],
)
def test_contradictions_are_refused(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Settings(**wrong)


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigError, match=r"(?s)threshold.*bins"):
        Settings(threshold=99, bins=1)


def test_settings_are_plain_json():
    settings = Settings(window=(-1000, 400), protect=("a",)).to_json()
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"unit": "volumes"}, "unit: expected one of slice, volume, found 'volumes'. Did you mean \"volume\"?"),
        ({"method": "dhsah"}, "method: expected one of"),
        ({"scope": "all"}, "scope: expected one of"),
        ({"threshold": float("nan")}, "threshold: expected 0 to 64"),
        ({"threshold": float("inf")}, "threshold: expected 0 to 64"),
    ],
)
def test_words_and_numbers_that_are_none_are_named(wish, said):
    with pytest.raises(ConfigError) as raised:
        Settings(**wish)
    assert said in str(raised.value)
