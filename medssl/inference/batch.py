"""Many cases through one predictor: reading, computing and writing overlap, and one bad case never stops the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medssl.core import exit_codes
from medssl.core.errors import MedsslError, ResourceError
from medssl.core.files import sha256_file, sha256_json, sole_writer, sweep_leftovers
from medssl.core.findings import Finding, finding_from
from medssl.core.provenance import provenance, utc_now
from medssl.data.exam_import import native_grid
from medssl.data.grids import Grid
from medssl.data.volume_writing import write_volume
from medssl.inference.cases import ImageCase, refuse_to_overwrite
from medssl.inference.lesions import DETECTION_MAP, Maps, list_candidates, lost_candidates, on_t2w
from medssl.inference.memory import CaseMemory, free_memory, peak_memory, require_memory
from medssl.inference.pipeline import Finished, Outcome, Stage, run_stages
from medssl.inference.predictor import Predictor, Working
from medssl.inference.record import RunRecord

_logger = logging.getLogger("medssl.inference")

CaseRecord = dict[str, Any]

# What the record of a finished case keeps of the run that made it
_KEPT = (
    "output",
    "output_sha256",
    "more_outputs",
    "uncertainty",
    "lesion_candidates",
    "finding",
    "seconds",
    "estimated_memory_bytes",
)


@dataclass(kw_only=True)
class _Job:
    case: ImageCase
    input_sha256: str = ""
    need: CaseMemory | None = None
    working: Working | None = None
    probabilities: Any = None
    labels: Any = None
    maps: dict[str, Any] = field(default_factory=dict)
    lesions: Maps = field(default_factory=dict)

    @property
    def held(self) -> Working:
        if self.working is None:
            message = "the stages of a case run in order"
            raise RuntimeError(message)
        return self.working


def run_batch(
    predictor: Predictor,
    cases: Sequence[ImageCase],
    out: Path,
    *,
    probabilities: bool = False,
    skip_finished: bool = True,
    startup_seconds: float = 0.0,
    stall_seconds: float = 3600.0,
    on_case: Callable[[CaseRecord], None] | None = None,
) -> list[CaseRecord]:
    """Segment every case into `out` and keep run.json; cases that are done and unchanged are not computed again.

    Args:
        predictor: The bundle.
        cases: From `cases.gather_cases`.
        out: Output folder.
        probabilities: Also write <id>_probabilities.nii.gz.
        skip_finished: False computes every case again.
        startup_seconds: What loading took, for the record.
        stall_seconds: A case longer than this in one stage is given up.
        on_case: Called with each case's record as soon as it is known.

    Returns:
        The records of the cases, in the order in which they ended.

    Raises:
        ConfigError: If an output would take the place of an image, or of a file that no run wrote; or if another
            process writes into `out`.
    """
    begin = time.monotonic()
    refuse_to_overwrite(cases, out, replace=not skip_finished)
    with sole_writer(out):
        sweep_leftovers(out)
        record = RunRecord(out, _header(predictor, probabilities=probabilities, startup_seconds=startup_seconds))
        runner = _CaseRunner(predictor, record, out, probabilities=probabilities, skip_finished=skip_finished)
        with _closed(record, predictor, begin), _one_computing_thread(predictor):
            for outcome in runner.outcomes(cases, stall_seconds):
                described = runner.describe(outcome)
                record.add(described)
                if on_case is not None:
                    on_case(described)
    return record.cases


@contextmanager
def _closed(record: RunRecord, predictor: Predictor, begin: float) -> Iterator[None]:
    """Write the last run.json, which says that the run finished only if nothing was raised."""
    finished = None
    try:
        yield
        finished = utc_now()
    finally:
        record.close(
            finished=finished,
            wall_seconds=round(time.monotonic() - begin, 3),
            peak_memory_bytes=peak_memory(),
            peak_gpu_memory_bytes=_peak_gpu_memory(predictor.device),
        )


def exit_code(records: Sequence[CaseRecord]) -> int:
    """Return the exit code of a run: 0 all well, 2 nothing could be done, 3 some cases failed."""
    failed = sum(record["state"] == "failed" for record in records)
    if failed == 0:
        return exit_codes.OK
    return exit_codes.NOTHING_DONE if failed == len(records) else exit_codes.SOME_FAILED


class _CaseRunner:
    def __init__(
        self, predictor: Predictor, record: RunRecord, out: Path, *, probabilities: bool, skip_finished: bool
    ) -> None:
        self._predictor = predictor
        self._record = record
        self._out = out
        self._probabilities = probabilities
        self._skip_finished = skip_finished
        self._told_without_t2w = False

    def outcomes(self, cases: Sequence[ImageCase], stall_seconds: float) -> Iterator[Outcome]:
        # Two readers and two writers, so that one slow file does not hold up the others.
        stages = (
            Stage(name="read", work=self._read, workers=2),
            Stage(name="network", work=self._network, workers=self._predictor.lanes),
            Stage(name="restore", work=self._restore, workers=1),
            Stage(name="write", work=self._write, workers=2),
        )
        queue_bytes = max(free_memory() // 8, 1)
        jobs = [_Job(case=case) for case in cases]
        return run_stages(jobs, stages, size_of=_held_bytes, queue_bytes=queue_bytes, stall_seconds=stall_seconds)

    def describe(self, outcome: Outcome) -> CaseRecord:
        """Return the case's entry of run.json."""
        job: _Job = outcome.item
        described: CaseRecord = {
            "id": job.case.id,
            "state": "failed",
            "image": list(job.case.names),
            "input_sha256": job.input_sha256 or None,
            "output": None,
            "output_sha256": None,
            "seconds": {name: round(seconds, 4) for name, seconds in outcome.seconds.items()},
            "estimated_memory_bytes": job.need.peak if job.need else None,
            "finding": None,
        }
        job.maps, job.lesions = {}, {}
        job.working = job.labels = job.probabilities = None  # a failed case must not keep its volumes
        described["seconds"]["total"] = round(sum(outcome.seconds.values()), 4)
        if outcome.error is not None:
            described["finding"] = _finding(outcome, job.case)
            return described
        return described | outcome.value

    def _read(self, job: _Job) -> _Job | Finished:
        job.input_sha256 = _input_hash(job.case)
        earlier = self._record.finished_case(job.case.id, job.input_sha256) if self._skip_finished else None
        if earlier is not None:
            return Finished({"state": "skipped"} | {key: earlier[key] for key in _KEPT if key in earlier})
        job.need = self._predictor.plan(job.case.paths, keep_probabilities=self._probabilities)
        require_memory(job.need)
        job.working = self._predictor.read(job.case.paths)
        return job

    def _network(self, job: _Job) -> _Job:
        job.working = self._predictor.score(job.held, keep_probabilities=self._probabilities)
        return job

    def _restore(self, job: _Job) -> _Job:
        job.labels = self._predictor.labels(job.held)
        if self._probabilities:
            job.probabilities = self._predictor.probabilities(job.held)
        job.maps = self._predictor.maps(job.held)
        job.lesions = self._predictor.lesions(job.held)
        job.held.maps = None
        job.held.volume = torch.empty(0)  # scores are no longer needed while the files are written
        return job

    def _write(self, job: _Job) -> CaseRecord:
        name = f"{job.case.id}.nii.gz"
        named = job.maps | job.lesions
        extras = {f"{job.case.id}_{map_name}.nii.gz": voxels for map_name, voxels in named.items()}
        if self._probabilities:
            extras[f"{job.case.id}_probabilities.nii.gz"] = job.probabilities
        # It may fail, so before anything is written
        t2w_grid = native_grid(job.case.paths[0].parent) if job.lesions else None
        for extra, voxels in extras.items():
            write_volume(self._out / extra, voxels, grid=job.held.native, place=job.held.place)
        on_t2w_grid, lost = self._write_on_t2w(job, t2w_grid)
        write_volume(self._out / name, job.labels, grid=job.held.native, place=job.held.place)
        written: CaseRecord = {"state": "done", "output": name, "output_sha256": sha256_file(self._out / name)}
        if extras:
            more = [*extras, *on_t2w_grid]
            written["more_outputs"] = {extra: sha256_file(self._out / extra) for extra in more}
        if job.lesions:
            written["lesion_candidates"] = list_candidates(job.lesions[DETECTION_MAP], job.held.native)
        if lost:
            written["finding"] = _lost(lost, len(written["lesion_candidates"]), job.case).to_json()
        if job.maps:
            written["uncertainty"] = case_uncertainty(job.labels, job.maps)
        job.working = job.labels = job.probabilities = None
        job.maps, job.lesions = {}, {}
        return written

    def _write_on_t2w(self, job: _Job, native: Grid | None) -> tuple[list[str], list[float]]:
        """Write the lesion maps on the grid of the T2W too, if the images were cut from an exam and it is known.

        Returns:
            The names of the files, and the confidences of candidates that have no voxel there.
        """
        if native is None:
            self._tell_without_t2w(job)
            return [], []
        names, moved = [], on_t2w(job.lesions, job.held.native, native)
        for map_name, voxels in moved.items():
            names.append(f"{job.case.id}_{map_name}.nii.gz")
            write_volume(self._out / names[-1], voxels, grid=native, place=None)
        return names, lost_candidates(job.lesions, moved)

    def _tell_without_t2w(self, job: _Job) -> None:
        if job.lesions and not self._told_without_t2w:
            self._told_without_t2w = True
            _logger.info(
                "%s: maps are on the grid of the images alone, because no record of an import lies beside them that "
                "tells the grid of the T2W; the same of other cases is not told again",
                job.case.id,
            )


def _lost(confidences: Sequence[float], candidates: int, case: ImageCase) -> Finding:
    text = (
        f"expected every candidate on the grid of the T2W too, found {len(confidences)} of {candidates} without a "
        f"voxel there (confidence up to {confidences[0]:.3f}): too small for it, outside it, or beside a stronger one."
    )
    fix = f"Look for it in {case.id}_{DETECTION_MAP}.nii.gz, on the grid of the import, or in run.json."
    return Finding(code="candidate-lost", severity="warning", case=case.id, text=text, fix=fix)


def case_uncertainty(labels: Any, maps: Mapping[str, Any]) -> dict[str, float]:
    """Reduce each map of uncertainty to one number for the case: its sum over the number of foreground voxels.

    Uncertainty lives at borders and in what may be missing or false, so its sum is compared with the size of what was
    found; a case where nothing was found counts as one voxel and so comes first in any list.

    Args:
        labels: Label map (X, Y, Z), 0 is background.
        maps: Name to map (X, Y, Z).
    """
    foreground = max(1, int((labels > 0).sum()))
    return {name: round(float(voxels.sum(dtype="float64")) / foreground, 6) for name, voxels in maps.items()}


def _held_bytes(job: _Job) -> int:
    arrays = sum(
        array.nbytes
        for array in (job.labels, job.probabilities, *job.maps.values(), *job.lesions.values())
        if array is not None
    )
    return arrays + (job.working.nbytes if job.working is not None else 0)


def _input_hash(case: ImageCase) -> str:
    from medssl.data.volumes import read_header

    for path in case.paths:
        read_header(path)  # a missing, unreadable or endless file is named as such before it is hashed
    hashes = [sha256_file(path) for path in case.paths]
    return hashes[0] if len(hashes) == 1 else sha256_json(hashes)


def _finding(outcome: Outcome, case: ImageCase) -> dict[str, Any]:
    error = outcome.error
    if isinstance(error, MemoryError):
        text = f"stage {outcome.stage}: expected enough RAM, found none left ({free_memory() / 2**30:.1f} GiB free)."
        error = ResourceError(text, fix="Use --workers 1, or a machine with more memory.", code="memory")
    elif error is not None and not isinstance(error, MedsslError):
        # keep the stage: the same message means different things while reading and while computing
        error = type(error)(f"stage {outcome.stage}: {error}") if type(error) is RuntimeError else error
    return finding_from(error or RuntimeError("unknown"), case=case.id, where=case.names[0]).to_json()


def _header(predictor: Predictor, *, probabilities: bool, startup_seconds: float) -> dict[str, Any]:
    facts, tiles = predictor.facts, predictor.tiles
    return {
        "medssl": provenance("infer", weights=facts.weights_sha256, config=facts.config_sha256),
        "bundle": facts.to_json(),
        "labels": dict(facts.labels),
        "settings": {
            "tile": list(tiles.roi_size),
            "overlap": list(tiles.overlap),
            "blend": tiles.mode,
            "precision": str(predictor.amp_dtype or torch.float32).removeprefix("torch."),
            "probabilities": probabilities,
            "maps": list(predictor.map_names),
            **({"lesion_candidates": predictor.candidates.to_json()} if predictor.candidates else {}),
            **({"mirrors": [list(axes) for axes in predictor.mirrors]} if predictor.mirrors else {}),
        },
        "device": str(predictor.device),
        "lanes": predictor.lanes,
        "tile_batch": tiles.batch_size,
        "started": utc_now(),
        "finished": None,
        "wall_seconds": None,
        "startup_seconds": round(startup_seconds, 3),
        "peak_memory_bytes": None,
    }


@contextmanager
def _one_computing_thread(predictor: Predictor) -> Iterator[None]:
    """Let every lane compute on its own core: threads that wait for each other waste both."""
    before = torch.get_num_threads()
    if predictor.device.type == "cpu":
        torch.set_num_threads(max(before // predictor.lanes, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _peak_gpu_memory(device: torch.device) -> int | None:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None
