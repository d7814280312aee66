"""On which grids and machines the arms of a study worked: where these differ, a comparison is not what it seems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any


def grids_told(results: Sequence[dict[str, Any]]) -> str:
    """Return a sentence on the voxel sizes of the runs, or "" where they do not tell.

    Args:
        results: From `run_study`.
    """
    known = [each for each in results if "spacing_mm" in each and "dice" in each]
    by_draw: dict[tuple[int, int], dict[str, str]] = {}
    for each in known:
        by_draw.setdefault((each["labelled"], each["draw"]), {})[each["arm"]] = _shown(each["spacing_mm"])
    mixed = next((arms for arms in by_draw.values() if len(set(arms.values())) > 1), None)
    if mixed is not None:
        return f"The arms worked on different grids: {', '.join(f'{arm} at {size}' for arm, size in mixed.items())}."
    sizes = {size for arms in by_draw.values() for size in arms.values()}
    if len(sizes) > 1:
        return "The voxel size follows the labelled cases of a draw; all arms of a draw worked on the same grid."
    return f"All arms worked at voxels of {sizes.pop()}." if sizes else ""


def machines_told(results: Sequence[dict[str, Any]]) -> str:
    """Return a sentence on where the runs were trained and in which precision, or "" where they do not tell.

    Args:
        results: From `run_study`.
    """
    machines = Counter(each.get("machine", "") for each in results if "dice" in each)
    unknown = machines.pop("", 0)
    if len(machines) == 1 and not unknown:
        return f"All runs were trained on {next(iter(machines))}."
    counts = [f"{count} on {machine}" for machine, count in machines.most_common()]
    if len(machines) == 1:
        return f"Runs were trained on {next(iter(machines))}; for {unknown} of them the machine was not recorded."
    counts += [f"{unknown} where it was not recorded"] if unknown else []
    return f"Runs were trained on different machines: {', '.join(counts)}." if machines else ""


def _shown(spacing_mm: Sequence[float]) -> str:
    return " x ".join("own" if width <= 0 else f"{width:g}" for width in spacing_mm) + " mm"
