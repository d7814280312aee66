"""Run a study cell by cell: what is done is skipped, what fails is recorded, nothing is lost when it is killed."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medssl.core.cores import usable_cores
from medssl.core.errors import ConfigError, MedsslError
from medssl.core.files import sha256_json, sole_writer, write_json
from medssl.core.suggest import did_you_mean
from medssl.data.manifest import Manifest, anonymous_patients, save_manifest
from medssl.data.splits import keep_labeled_cases, unlabeled_case
from medssl.data.workers import map_isolated
from medssl.studies.plan import Arm, Run, StudyPlan
from medssl.studies.records import (
    RESULT,
    begin_record,
    folder_of,
    identity_of,
    is_record_of,
    is_result,
    read_done,
    readable_json,
)

_logger = logging.getLogger("medssl.studies")
# In quotes, where a name may have spaces, or bare
_PATH = re.compile(r"""(['"])[^'"]*[\\/][^'"]*\1|(?<![\w.])(?:[A-Za-z]:)?[\\/][^\s'",:]+""")
# A run that takes longer hangs; a whole training must fit into it
_STALL_SECONDS = 14 * 24 * 3600.0
_TAKEN = "taken"  # marks a result that another study.json gave
_CONDITIONS = ("spacing_mm", "machine")

Execute = Callable[[Run, Path, Path], Mapping[str, Any]]
"""Carries out one run: (run, manifest file, folder) -> the evaluation's content of metrics.json."""
Fuse = Callable[[Run, list[Path], Path, Path], Mapping[str, Any]]
"""Scores an ensemble: (run, folders of its members, manifest file, folder) -> content of metrics.json."""
Part = Callable[[Run, Path, Path, Path], list[Mapping[str, Any]]]
"""Scores every view alone: (run, folder of the trained run, manifest file, folder) -> a metrics.json of each."""


Pretrain = Callable[[Arm, Path, Path], None]
"""Pre-trains an arm's bundle: (arm, manifest file without labels, folder, which becomes a bundle with an encoder)."""
Spent = Callable[[Path], tuple[float, int | None]]
"""What the training in a run's folder has cost so far: (folder) -> seconds over all its parts, and patches passed
forward and back; None where they were not counted."""
Conditions = Callable[[Path], dict[str, Any]]
"""Reads under which conditions a run was trained: (folder) -> what it knows of "spacing_mm", the voxel size along
X, Y, Z, -1 as it is, and "machine", device and precision."""


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What carries out the work of a study; handed in, because training lies on the same floor as studies.

    Attributes:
        execute: Trains one network, applies it to the scored part and scores it.
        fuse: Fuses the networks of an ensemble and scores them.
        part: Scores the views of a multi-view network one by one.
        pretrain: Pre-trains a bundle; needed by plans with such arms only.
        spent: Reads what a training has cost; without it, a resumed run tells the seconds of its last part only.
        conditions: Reads the voxel size, machine and precision of a training, which the tables tell.
    """

    execute: Execute
    fuse: Fuse
    part: Part
    pretrain: Pretrain | None = None
    spent: Spent | None = None
    conditions: Conditions | None = None


def take_results(plan: StudyPlan, manifest: Manifest, out: Path, study: Path) -> int:
    """Put the results of a study made elsewhere into the folders of their runs, and return how many fit.

    So a study can be carried by several machines, or go on from a study.json that was kept without its networks.
    Results of another plan, another bundle or other data are left out, as are runs that are complete here.

    Args:
        plan: The study.
        manifest: The dataset, with all labels.
        out: Folder of the study.
        study: A study.json.

    Raises:
        ConfigError: If the file is no study.json.
    """
    content = readable_json(study) if study.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("runs"), list):
        message = f"{study}: expected the study.json of an earlier study, found none that can be read."
        raise ConfigError(message)
    known = {each["sha256"]: each for each in content["runs"] if is_result(each)}
    taken = 0
    for run in plan.runs():
        identity = identity_of(run, plan, manifest)
        found = known.get(identity["sha256"])
        if found is not None and is_record_of(found, identity) and read_done(run, plan, manifest, out) is None:
            begin_record(folder_of(run, out), identity)
            write_json(folder_of(run, out) / RESULT, {**found, _TAKEN: True})
            taken += 1
    return taken


def run_study(
    plan: StudyPlan, manifest: Manifest, out: Path, hands: Hands, *, only: Iterable[str] = (), workers: int = 0
) -> list[dict[str, Any]]:
    """Carry out what is missing of a study and return the results of all runs that are there, in their order.

    A run's result.json appears when it is complete, so the same call goes on after any stop. A run that fails,
    out of memory for instance, leaves the error in its result and is tried again by the next call.

    Args:
        plan: The study.
        manifest: The dataset, with all labels; each run sees those of its draw.
        out: Folder of the study.
        hands: What trains and scores.
        only: Names of arms to carry out; by default all.
        workers: Processes that carry out runs at the same time, which share the cores and the GPU; `hands` is pickled
            for them. 0: one run after the other, in this process.

    Raises:
        ConfigError: If the plan has no arm of a name in `only`.
    """
    names = [arm.name for arm in plan.arms]
    wanted = set(only) or set(names)
    for name in sorted(wanted - set(names)):
        message = f"expected names of the plan's arms ({', '.join(names)}), found {name!r}.{did_you_mean(name, names)}"
        raise ConfigError(message)
    families = plan.families(run for run in plan.runs() if run.arm.name in wanted)
    carry_out = partial(_carry_out, plan=plan, manifest=manifest, out=out, hands=hands)
    if workers:
        carry_out = partial(carry_out, threads=max(1, usable_cores() // workers))
        carried = map_isolated(carry_out, families, workers=workers, stall_seconds=_STALL_SECONDS)
    else:
        carried = [carry_out(family) for family in families]
    fresh: dict[str, dict[str, Any]] = {}
    for family, outcomes in zip(families, carried, strict=True):
        if isinstance(outcomes, Exception):  # the process died; its runs cannot tell of it themselves
            _logger.error("%s failed: %s", family[0].key, _told(outcomes, manifest))
            outcomes = [_failed(run, plan, manifest, outcomes) for run in family]
        fresh |= {run.key: outcome for run, outcome in zip(family, outcomes, strict=True)}
    return _published(fresh.get(run.key) or read_done(run, plan, manifest, out) for run in plan.runs())


def read_results(plan: StudyPlan, manifest: Manifest, out: Path) -> list[dict[str, Any]]:
    """Return the results that are there, without running anything."""
    return _published(read_done(run, plan, manifest, out) for run in plan.runs())


def _published(results: Iterable[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Return the results that are there, without what concerns this folder alone."""
    return [{key: value for key, value in result.items() if key != _TAKEN} for result in results if result is not None]


def _carry_out(
    family: list[Run], *, plan: StudyPlan, manifest: Manifest, out: Path, hands: Hands, threads: int | None = None
) -> list[dict[str, Any]]:
    """Return the outcomes of runs, one after the other; in a process beside others, on its part of the cores."""
    if threads is not None:
        torch.set_num_threads(threads)
        _speak()
    without = [run for run in family if read_done(run, plan, manifest, out) is None]
    sources = {source.key for run in without if (source := plan.trained_run(run)) is not None}
    return [_outcome(run, plan, manifest, out, hands, with_network=run.key in sources) for run in family]


def _speak() -> None:
    """Let this process tell which runs it begins and ends, but not their training, whose lines would mix."""
    if not _logger.handlers:
        _logger.addHandler(logging.StreamHandler())
        _logger.setLevel(logging.INFO)
        _logger.propagate = False


def _outcome(
    run: Run, plan: StudyPlan, manifest: Manifest, out: Path, hands: Hands, *, with_network: bool
) -> dict[str, Any]:
    try:
        return _complete(run, plan, manifest, out, hands, with_network=with_network)
    except Exception as error:  # exhausted memory or a defect in one run must not take the others with it
        _logger.error("%s failed: %s", run.key, _told(error, manifest))
        _logger.debug("%s failed", run.key, exc_info=error)
        return _failed(run, plan, manifest, error)


def _failed(run: Run, plan: StudyPlan, manifest: Manifest, error: Exception) -> dict[str, Any]:
    return {**identity_of(run, plan, manifest), "error": _told(error, manifest)}


def _told(error: BaseException, manifest: Manifest) -> str:
    """Return what an error says, without paths and names of the cases' files, which may name patients."""
    said = _PATH.sub("(a path)", _said(error))
    files = {Path(file).name for _, case in manifest.cases() for file in (*case.image, case.label or "") if file}
    for name in sorted(files, key=len, reverse=True):
        said = said.replace(name, "(a file)")
    return said


def _said(error: BaseException) -> str:
    """Return what an error says in one line; the innermost one knows best."""
    while error.__cause__ is not None and not isinstance(error, MedsslError):
        error = error.__cause__
    if isinstance(error, MedsslError):
        return str(error)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # What a worker process of a loader tells is a whole traceback; its last line is the error
    said = lines[-1] if "Traceback" in text else " ".join(lines)
    return f"{type(error).__name__}{f': {said}' if said else ''}"


def _complete(
    run: Run, plan: StudyPlan, manifest: Manifest, out: Path, hands: Hands, *, with_network: bool = False
) -> dict[str, Any]:
    """Return the result of a run, carrying it out if need be; the members of an ensemble come before it.

    With `with_network`, a result that another study.json gave is not enough: the run is carried out for its network.
    """
    done = read_done(run, plan, manifest, out)
    if done is not None and not (with_network and done.get(_TAKEN)):
        return done
    members, trained = plan.member_runs(run), plan.trained_run(run)
    stands_on = members if trained is None else [trained]
    before = [_complete(each, plan, manifest, out, hands, with_network=True) for each in stands_on]
    started, cost = _pretrained(run, plan, manifest, out, hands)
    _logger.info("%s: %d iterations", run.key, run.iterations)
    folder = folder_of(run, out)
    begin_record(folder, identity_of(run, plan, manifest))
    earlier, _ = _spent(folder, hands)
    begin = time.monotonic()
    file = _manifest_of(run, manifest, folder)
    if trained is not None:
        dice = _mean_of([_dice(each) for each in hands.part(run, folder_of(trained, out), file, folder)])
    elif members:
        dice = _dice(hands.fuse(run, [folder_of(member, out) for member in members], file, folder))
    else:
        dice = _dice(hands.execute(started, file, folder))
    seconds = sum(each["seconds"] for each in before) + earlier + time.monotonic() - begin
    cost |= _taken_from(before) if before else _told_by(folder, hands)
    result = {**identity_of(run, plan, manifest), "seconds": round(seconds, 1), **cost, "dice": dice}
    if groups := patient_numbers(plan, manifest):
        result["groups"] = groups
    write_json(folder / RESULT, result)
    _logger.info("%s: done in %.0f s", run.key, seconds)
    return result


def patient_numbers(plan: StudyPlan, manifest: Manifest) -> dict[str, int]:
    """Return the number of the patient of each scored case where a patient has several; no name leaves the manifest."""
    groups = {case.id: case.group for case in manifest.part(plan.part)}
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups.values()))}
    return {} if len(numbers) == len(groups) else {case: numbers[group] for case, group in groups.items()}


def _taken_from(before: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the runs that another stands on tell of it: the patches of all, and the conditions of the first."""
    passed = [each.get("patches") for each in before]
    found: dict[str, Any] = {} if None in passed else {"patches": sum(passed)}
    return found | {key: before[0][key] for key in _CONDITIONS if key in before[0]}


def _told_by(folder: Path, hands: Hands) -> dict[str, Any]:
    """Return what a training tells of itself, without what it does not know."""
    patches = _spent(folder, hands)[1]
    found: dict[str, Any] = {} if patches is None else {"patches": patches}
    return found | ({} if hands.conditions is None else hands.conditions(folder))


def _spent(folder: Path, hands: Hands) -> tuple[float, int | None]:
    return (0.0, None) if hands.spent is None else hands.spent(folder)


def _pretrained(run: Run, plan: StudyPlan, manifest: Manifest, out: Path, hands: Hands) -> tuple[Run, dict[str, Any]]:
    """Return the run as one of the pre-trained bundle, made now if no run of its arms needed it before.

    The second value is what its result records of the pre-training.
    """
    if run.arm.pretrain is None:
        return run, {}
    if hands.pretrain is None:
        message = f"arm {run.arm.name}: expected hands that pre-train, found none. Carry the plan out by medssl study."
        raise ConfigError(message)
    decides: dict[str, Any] = {"bundle": run.arm.bundle, "pretrain": run.arm.pretrain.model_dump(mode="json")}
    decides["epoch"] = plan.iterations_per_epoch
    if run.recipe is not None:
        decides["recipe"] = run.recipe.pretraining
    folder = out / "pretraining" / sha256_json({**decides, "manifest": manifest.sha256()})[:12]
    record = folder / "pretraining.json"
    with sole_writer(folder, patience=math.inf):  # runs of other processes wait for the one that comes first
        if not record.is_file():
            begin = time.monotonic()
            file = folder / "manifest.json"
            save_manifest(file, anonymous_patients(_without_labels(manifest)))
            hands.pretrain(run.arm, file, folder / "bundle")
            write_json(record, {**decides, "seconds": round(time.monotonic() - begin, 1)})
    arm = run.arm.model_copy(update={"bundle": str((folder / "bundle").resolve())})
    seconds = float((readable_json(record) or {}).get("seconds", 0.0))
    return replace(run, arm=arm), {"pretraining_seconds": seconds}


def _without_labels(manifest: Manifest) -> Manifest:
    """Return the images of the training part and the unlabelled ones, and nothing of the scored parts."""
    cases = tuple(unlabeled_case(case) for case in (*manifest.training, *manifest.unlabeled))
    return manifest.model_copy(update={"training": (), "unlabeled": cases, "validation": (), "test": ()})


def _manifest_of(run: Run, manifest: Manifest, folder: Path) -> Path:
    path = folder / "manifest.json"
    save_manifest(path, anonymous_patients(keep_labeled_cases(manifest, ids=run.ids)))
    return path


def _dice(metrics: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return case to mean Dice and Dice of each class; cases that failed count as 0, so that failing never helps."""
    names = list(metrics["labels"].values())
    found = {
        case["id"]: {"mean": case["mean"]["dice"], **{name: case["classes"][name]["dice"] for name in names}}
        for case in metrics["cases"]
    }
    return found | {case["id"]: dict.fromkeys(["mean", *names], 0.0) for case in metrics["failed"]}


def _mean_of(tables: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Return the mean Dice over several networks, case by case; undefined where it is undefined for any."""
    found: dict[str, dict[str, float | None]] = {}
    for case, names in tables[0].items():
        found[case] = {}
        for name in names:
            values = [table[case][name] for table in tables]
            known = [value for value in values if value is not None]
            found[case][name] = sum(known) / len(known) if len(known) == len(values) else None
    return found
