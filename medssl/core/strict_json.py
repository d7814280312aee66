"""JSON as it is meant: every key once, no NaN, and text that can be written again."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str) -> Any:
    """Parse JSON; of a key that is said twice, Python's parser would keep the last value and lose the others.

    Raises:
        ValueError: If it is no JSON, says a key twice, or holds NaN, an infinity or half of a surrogate pair.
        RecursionError: If it is nested too deeply.
    """
    content = json.loads(text, object_pairs_hook=_unique, parse_constant=no_constant)
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8")  # 1e999 is infinite; \\ud800 is no text
    return content


def no_constant(name: str) -> Any:
    """Refuse NaN and infinities, for `json.loads(parse_constant=...)`."""
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            message = f"the key {key!r} appears twice"
            raise ValueError(message)
        content[key] = value
    return content
