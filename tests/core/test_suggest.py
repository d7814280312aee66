"""Suggestions for misspelt names."""

from __future__ import annotations

from medssl.core.suggest import did_you_mean


def test_the_nearest_name_is_suggested_and_nothing_far_off() -> None:
    assert did_you_mean("overlp", ["overlap", "mode"]) == ' Did you mean "overlap"?'
    assert did_you_mean("xyz", ["overlap", "mode"]) == ""
