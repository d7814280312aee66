"""Which training cases are labelled in each draw of a study, from the splits.json of a shared data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def labelled_draws(data: Path, dataset: str, counts: Sequence[str], number: int) -> dict[str, list[list[str]]]:
    """Return the first draws for each number of labelled cases; a draw that repeats an earlier one is passed over.

    With "all", the whole training part is the only draw.

    Args:
        data: Folder with a folder for each data set.
        dataset: Name of the data set.
        counts: Numbers of labelled cases, as splits.json writes them, or "all" for the whole training part.
        number: Draws wanted; fewer are returned where there are not as many different ones.
    """
    splits = json.loads((data / dataset / "splits.json").read_text(encoding="utf-8"))
    if "all" in counts:
        return {str(len(splits["training"])): [splits["training"]]}
    known = splits["labelled_draws"]
    return {count: _different(known[count])[:number] for count in counts}


def _different(draws: list[list[str]]) -> list[list[str]]:
    found: list[list[str]] = []
    for ids in draws:
        if set(ids) not in map(set, found):
            found.append(ids)
    return found
