"""What names a run, and the records in its folder: which run it is of, and its result."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from medssl.core.files import set_aside, sha256_json, sole_writer, write_json
from medssl.data.manifest import Manifest
from medssl.studies.plan import Run, StudyPlan

_logger = logging.getLogger("medssl.studies")
RESULT = "result.json"
_MARK = "identity.json"


def folder_of(run: Run, out: Path) -> Path:
    """Return the folder of a run."""
    return out / "runs" / run.key


def identity_of(run: Run, plan: StudyPlan, manifest: Manifest) -> dict[str, Any]:
    """Return what names a run, with a hash of everything that decides its result, and of the configurations."""
    decides = {"arm": run.arm.to_json(), "ids": run.ids, "seed": run.seed, "iterations": run.iterations}
    decides |= {"part": plan.part, "epoch": plan.iterations_per_epoch, "manifest": manifest.sha256()}
    if run.arm.source is not None:
        decides["members"] = plan.arm(run.arm.source).to_json()
    identity = {
        "arm": run.arm.name,
        "labelled": run.labelled,
        "draw": run.draw,
        "seed": run.seed,
        "iterations": run.iterations,
        "sha256": sha256_json(decides),
    }
    return identity | ({} if run.recipe is None else {"recipe": run.recipe.model_dump(mode="json")})


def is_record_of(record: Any, identity: Mapping[str, Any]) -> bool:
    """Tell whether a record is of a run; its recipe counts where both know it, as tables are made without bundles."""
    if not isinstance(record, dict) or record.get("sha256") != identity["sha256"]:
        return False
    recipes = [each["recipe"] for each in (record, identity) if each.get("recipe") is not None]
    return len(recipes) < 2 or recipes[0] == recipes[1]


def read_done(run: Run, plan: StudyPlan, manifest: Manifest, out: Path) -> dict[str, Any] | None:
    """Return the result of a run, or None if there is none of what it is now."""
    path = folder_of(run, out) / RESULT
    if not path.is_file():
        return None
    result: Any = readable_json(path)
    return result if is_result(result) and is_record_of(result, identity_of(run, plan, manifest)) else None


def is_result(record: Any) -> bool:
    """Tell whether a record is the result of a run, with the scores of its cases."""
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        return False
    scores = record.get("dice")
    return isinstance(scores, dict) and bool(scores) and all(isinstance(case, dict) for case in scores.values())


def begin_record(folder: Path, identity: Mapping[str, Any]) -> None:
    """Mark a run's folder as this run's; what a run of another identity left there is moved aside, never continued.

    Training goes on from whatever checkpoint lies in its folder, also one of other cases or another budget.

    Raises:
        ConfigError: If another process trains the run that would be moved.
    """
    mark = folder / _MARK
    if folder.is_dir() and not (mark.is_file() and is_record_of(readable_json(mark), identity)):
        with sole_writer(folder / "bundle") if (folder / "bundle").is_dir() else nullcontext():
            aside = set_aside(folder)
        _logger.warning(
            "%s: the plan, the bundle or the data changed; the earlier run was moved to %s", folder.name, aside.name
        )
    write_json(mark, dict(identity))


def readable_json(path: Path) -> Any:
    """Return the content of a file, or None if it is damaged, so that it says nothing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
