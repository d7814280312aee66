"""Class probabilities of many 2D images: one JSON file a case, a table of all, and run.json as for segmentations."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError, ImageError
from medssl.core.files import sha256_file, sole_writer, sweep_leftovers, write_json, write_text
from medssl.core.findings import finding_from
from medssl.core.provenance import provenance, utc_now
from medssl.data.images import read_grey_image
from medssl.data.volume_checks import size_of_regular_file
from medssl.inference.cases import ImageCase
from medssl.inference.memory import peak_memory
from medssl.inference.predictor import BundleFacts
from medssl.inference.record import RunRecord
from medssl.inference.settings import Transform

CaseRecord = dict[str, Any]

SUFFIX = "_classes.json"
_TABLE = "predictions.csv"
_READERS = 2


class ClassPredictor:
    """A bundle that classifies images, ready to run.

    Args:
        network: `network_def` with its weights.
        preprocessing: Map transforms for an image (1, X, Y) with values from 0 to 255, without the loading ones.
        facts: Names and hashes of the bundle; its labels are the classes in the order of the network's scores.
        device: Where the network runs.
        amp_dtype: Type of mixed precision, or None for float32.
        batch_size: Images at once.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        preprocessing: Sequence[Transform],
        facts: BundleFacts,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
        batch_size: int = 1,
    ) -> None:
        self.facts = facts
        self.device = device
        self.amp_dtype = amp_dtype
        self.batch_size = batch_size
        self._network = network.eval().to(device)
        self._transforms = tuple(preprocessing)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.facts.labels.values())

    def describe(self) -> str:
        """Return the plan of a run as one line."""
        precision = str(self.amp_dtype or torch.float32).removeprefix("torch.")
        return f"{self.facts.name}: {self.device}, {precision}, {self.batch_size} images at once"

    def read(self, path: Path) -> Tensor:
        """Read an image and preprocess it as the bundle says, (C, X, Y).

        Raises:
            ImageError: If it cannot be read.
        """
        data: Mapping[Any, Any] = {"image": torch.from_numpy(read_grey_image(path).astype(np.float32))[None]}
        for transform in self._transforms:
            data = transform(dict(data))
        return torch.as_tensor(data["image"]).as_subclass(Tensor)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Tensor]) -> list[list[float]]:
        """Return the probability of each class for each image.

        Raises:
            ImageError: If the network gives something that is not finite.
        """
        with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            scores = self._network(torch.stack(list(images)).to(self.device))
        found = scores.float().softmax(1).cpu()
        if not torch.isfinite(found).all():
            text = "expected finite class scores, found NaN or infinite ones."
            raise ImageError(text, fix="Check the image; or switch mixed precision off (amp false).", code="not-finite")
        return [[round(float(value), 7) for value in row] for row in found]


@dataclass(kw_only=True)
class _Job:
    case: ImageCase
    started: float
    input_sha256: str | None = None
    image: Tensor | None = None
    error: Exception | None = None
    earlier: CaseRecord | None = None


def classify_batch(
    predictor: ClassPredictor,
    cases: Sequence[ImageCase],
    out: Path,
    *,
    skip_finished: bool = True,
    startup_seconds: float = 0.0,
    on_case: Callable[[CaseRecord], None] | None = None,
) -> list[CaseRecord]:
    """Classify every case into `out`: <id>_classes.json, predictions.csv and run.json.

    Cases that are done and unchanged are not computed again, and one that fails never stops the others.

    Args:
        predictor: The bundle.
        cases: From `cases.gather_cases`.
        out: Output folder.
        skip_finished: False computes every case again.
        startup_seconds: What loading took, for the record.
        on_case: Called with each case's record as soon as it is known.

    Returns:
        The records of the cases.

    Raises:
        ConfigError: If an output would take the place of a file that no run wrote, or another process writes there.
    """
    begin = time.monotonic()
    _refuse_to_overwrite(cases, out, replace=not skip_finished)
    with sole_writer(out):
        sweep_leftovers(out)
        record = RunRecord(out, _header(predictor, startup_seconds))
        finished = None
        try:
            for described in _records(predictor, cases, out, record if skip_finished else None):
                record.add(described)
                if on_case is not None:
                    on_case(described)
            _write_table(out, record.cases, predictor.classes)
            finished = utc_now()
        finally:
            seconds = round(time.monotonic() - begin, 3)
            record.close(finished=finished, wall_seconds=seconds, peak_memory_bytes=peak_memory())
    return record.cases


def _records(
    predictor: ClassPredictor, cases: Sequence[ImageCase], out: Path, earlier: RunRecord | None
) -> Iterator[CaseRecord]:
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(cases), predictor.batch_size):
            chunk = cases[start : start + predictor.batch_size]
            jobs = list(readers.map(lambda case: _read(predictor, case, earlier), chunk))
            waiting = [job for job in jobs if job.image is not None]
            rows = iter(_scored(predictor, waiting))
            for job in jobs:
                yield _finish(job, next(rows) if job.image is not None else None, predictor.classes, out)


def _read(predictor: ClassPredictor, case: ImageCase, earlier: RunRecord | None) -> _Job:
    job = _Job(case=case, started=time.monotonic())
    try:
        size_of_regular_file(case.paths[0])
        job.input_sha256 = sha256_file(case.paths[0])
        job.earlier = None if earlier is None else earlier.finished_case(case.id, job.input_sha256)
        if job.earlier is None:
            job.image = predictor.read(case.paths[0])
    except Exception as error:  # whatever it is belongs to this case
        job.error = error
    return job


def _scored(predictor: ClassPredictor, jobs: Sequence[_Job]) -> list[list[float] | Exception]:
    """Return the probabilities of a batch; if the batch fails, each image by itself, so that one is to blame."""
    if not jobs:
        return []
    try:
        return list(predictor.probabilities([job.image for job in jobs if job.image is not None]))
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        return [row for job in jobs for row in _scored(predictor, [job])]


def _finish(job: _Job, row: list[float] | Exception | None, classes: Sequence[str], out: Path) -> CaseRecord:
    described: CaseRecord = {
        "id": job.case.id,
        "state": "failed",
        "image": list(job.case.names),
        "input_sha256": job.input_sha256,
        "output": None,
        "output_sha256": None,
        "finding": None,
    }
    error = row if isinstance(row, Exception) else job.error
    if job.earlier is not None:
        kept = ("output", "output_sha256", "predicted", "seconds")
        described |= {"state": "skipped"} | {key: job.earlier[key] for key in kept if key in job.earlier}
        return described
    if error is None and not isinstance(row, Exception) and row is not None:
        probabilities = dict(zip(classes, row, strict=True))
        predicted = max(probabilities, key=lambda name: probabilities[name])
        path = out / f"{job.case.id}{SUFFIX}"
        write_json(path, {"case": job.case.id, "predicted": predicted, "probabilities": probabilities})
        described |= {"state": "done", "output": path.name, "output_sha256": sha256_file(path), "predicted": predicted}
    else:
        finding = finding_from(error or RuntimeError("unknown"), case=job.case.id, where=job.case.names[0])
        described["finding"] = finding.to_json()
    return described | {"seconds": {"total": round(time.monotonic() - job.started, 4)}}


def _write_table(out: Path, records: Sequence[CaseRecord], classes: Sequence[str]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "predicted", *classes])
    for record in records:
        if record["output"] is not None:
            content = json.loads((out / record["output"]).read_text(encoding="utf-8"))
            values = [content["probabilities"][name] for name in classes]
            writer.writerow([record["id"], content["predicted"], *values])
    write_text(out / _TABLE, stream.getvalue())


def _refuse_to_overwrite(cases: Sequence[ImageCase], out: Path, *, replace: bool) -> None:
    if replace or (out / "run.json").is_file():
        return
    for case in cases:
        if (out / f"{case.id}{SUFFIX}").exists():
            message = f"--out {out}: {case.id}{SUFFIX} exists, and no run.json there speaks of it. Choose a new folder."
            raise ConfigError(message)


def _header(predictor: ClassPredictor, startup_seconds: float) -> dict[str, Any]:
    facts = predictor.facts
    return {
        "medssl": provenance("infer", weights=facts.weights_sha256, config=facts.config_sha256),
        "bundle": facts.to_json(),
        "task": "classification",
        "labels": dict(facts.labels),
        "settings": {"precision": str(predictor.amp_dtype or torch.float32).removeprefix("torch.")},
        "device": str(predictor.device),
        "started": utc_now(),
        "finished": None,
        "wall_seconds": None,
        "startup_seconds": round(startup_seconds, 3),
        "peak_memory_bytes": None,
    }
