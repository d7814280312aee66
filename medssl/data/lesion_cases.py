"""Which training cases have a lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.core.errors import ImageError, MedsslError
from medssl.data.volumes import read_volume


def cases_with_lesion(data: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Tell for each case whether its label map has any voxel above 0; each label is read once, one at a time.

    Args:
        data: Cases as `training_cases` lists them.

    Raises:
        ImageError: If a label cannot be read.
    """
    return [_has_lesion(case) for case in data]


def _has_lesion(case: Mapping[str, Any]) -> bool:
    try:
        return bool((read_volume(Path(case["label"])).voxels > 0).any())
    except MedsslError as error:
        text = f"case {case.get('case_id', '?')}: expected a readable label, found: {error.text}"
        fix = "Run medssl check on the manifest; repair the case or take it out."
        raise ImageError(text, fix=fix, code=error.code) from error
