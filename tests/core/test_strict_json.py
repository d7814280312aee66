"""JSON that loses something when it is read or written is refused."""

from __future__ import annotations

import pytest

from medssl.core.strict_json import parse_json


def test_sound_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": {"b": 1, "b": 2}}', "'b' appears twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": -Infinity}', "-Infinity is no JSON number"),
        ('{"a": 1e999}', "not JSON compliant"),
        ('["\\ud800"]', "surrogates not allowed"),
        ("{", "Expecting"),
    ],
)
def test_json_that_would_lose_something_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)
