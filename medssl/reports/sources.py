"""What a report is made from: run folders, predictions, metrics, checks and manifests, recognised by their content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file
from medssl.data.manifest import Manifest, load_manifest

Json = dict[str, Any]

_EXPECTED = (
    "Expected a run or bundle folder, an output folder of medssl infer or evaluate, the JSON of medssl check, "
    "or a manifest."
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run or bundle folder: its log, and what lies beside it."""

    name: str
    log: tuple[Json, ...]
    torn_lines: int
    metadata: Json | None = None
    fingerprint: Json | None = None
    weights: Json | None = None


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What `medssl infer` left: run.json with its hash, and the folder that holds the label maps."""

    name: str
    folder: Path
    content: Json
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `medssl evaluate` left: metrics.json.

    Attributes:
        name: Folder of metrics.json; that of the run for one in its results/.
        content: The file's content.
        held_out: What medssl finetune predicted of the cases that it held out and scored, where the scores are its own.
    """

    name: str
    content: Json
    held_out: tuple[Inference, ...] = ()

    @property
    def title(self) -> str:
        """The name with what was scored, such as "scores (prostate, test)", or with what scored it."""
        manifest, command = self._input("manifest"), self._block().get("command")
        scored = [manifest.get("name") if isinstance(manifest, dict) else None, self._input("part")]
        known = ", ".join(word for word in scored if isinstance(word, str))
        if not known and isinstance(command, str) and command != "evaluate":
            known = f"by medssl {command}{', optimistic' if self.content.get('optimistic') else ''}"
        return f"{self.name} ({known})" if known else self.name

    @property
    def run_sha256(self) -> str | None:
        """Hash of the run.json whose label maps were scored, or None if the scores do not state it."""
        run = self._input("run")
        return run.get("sha256") if isinstance(run, dict) else None

    def _input(self, name: str) -> Any:
        """Return what the scores state about one of their inputs; each command has its own words for them."""
        inputs = self._block().get("inputs")
        return inputs.get(name) if isinstance(inputs, dict) else None

    def _block(self) -> Json:
        block = self.content.get("medssl")
        return block if isinstance(block, dict) else {}


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """A manifest with the folder its paths are relative to."""

    file: Path
    manifest: Manifest
    root: Path


@dataclass(kw_only=True)
class Sources:
    """Everything that was handed over, by kind, and the hash of every file that was read."""

    runs: list[Run] = field(default_factory=list)
    inferences: list[Inference] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    checks: list[Json] = field(default_factory=list)
    manifests: list[ManifestFile] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


def read_sources(paths: Sequence[Path], *, data_root: Path | None = None) -> Sources:
    """Recognise and read every source.

    Args:
        paths: Folders (a run, a bundle, an output of infer or evaluate) or JSON files of these.
        data_root: Folder that the manifests' paths are relative to; by default each manifest's own.

    Raises:
        ConfigError: If a source is missing, broken or of no known kind.
        ManifestError: If a manifest breaks its schema.
    """
    sources = Sources()
    for path in map(Path, paths):
        if path.is_dir():
            _add_folder(sources, path)
        elif path.is_file():
            _add_file(sources, path, data_root)
        else:
            message = f"{path}: no such file or folder. {_EXPECTED}"
            raise ConfigError(message)
    return sources


def read_log(path: Path) -> tuple[tuple[Json, ...], int]:
    """Read a log of JSON lines; a line that a killed process left half-written is counted, not an error.

    Returns:
        The events, and the number of torn lines.

    Raises:
        ConfigError: If a line is JSON but no object.
    """
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    events: list[Json] = []
    torn = 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except ValueError:
            torn += 1
            continue
        if not isinstance(event, dict):
            message = f"{path}, line {number}: expected a JSON object, found a {type(event).__name__}."
            raise ConfigError(message)
        events.append(event)
    return tuple(events), torn


def _add_folder(sources: Sources, folder: Path) -> None:
    known = False
    for name in ("run.json", "metrics.json", "results/metrics.json"):
        if (folder / name).is_file():
            _add_file(sources, folder / name, None)
            known = True
    for path in sorted(folder.glob("fold_*/run.json")):  # what medssl train --folds predicts: one run a fold
        _add_file(sources, path, None)
        known = True
    if (folder / "results").is_dir() or (folder / "configs" / "metadata.json").is_file():
        stages = sorted(path.parent for path in (folder / "results").glob("*/train_log.jsonl"))
        if not stages or (folder / "results" / "train_log.jsonl").is_file():
            sources.runs.append(_read_run(sources, folder))
        sources.runs.extend(_read_stage(sources, folder, stage) for stage in stages)
        known = True
    if not known:
        message = f"{folder}: no run.json, metrics.json, results/ or configs/metadata.json in it. {_EXPECTED}"
        raise ConfigError(message)


def _read_run(sources: Sources, folder: Path) -> Run:
    log_file = folder / "results" / "train_log.jsonl"
    log, torn = read_log(log_file) if log_file.is_file() else ((), 0)

    def optional(relative: str) -> Json | None:
        return _read_json(sources, folder / relative) if (folder / relative).is_file() else None

    return Run(
        name=_distinct_name(folder, [run.name for run in sources.runs]),
        log=log,
        torn_lines=torn,
        metadata=optional("configs/metadata.json"),
        fingerprint=optional("results/fingerprint.json"),
        weights=optional("results/weights.json"),
    )


def _read_stage(sources: Sources, folder: Path, stage: Path) -> Run:
    """Read one stage of a pre-training, whose log lies in a folder of its own."""
    log, torn = read_log(stage / "train_log.jsonl")
    weights = stage / "weights.json"
    name = f"{_distinct_name(folder, [])}, {stage.name}"
    return Run(
        name=_distinct_name(Path(name), [run.name for run in sources.runs]),
        log=log,
        torn_lines=torn,
        weights=_read_json(sources, weights) if weights.is_file() else None,
    )


def _add_file(sources: Sources, path: Path, data_root: Path | None) -> None:
    content = _read_json(sources, path)
    if "modality" in content and "labels" in content:
        root = data_root if data_root is not None else path.parent
        sources.manifests.append(ManifestFile(file=path, manifest=load_manifest(path), root=root))
    elif "summary" in content and isinstance(content.get("cases"), list):
        taken = [evaluation.name for evaluation in sources.evaluations]
        folder = path.resolve().parent
        name = _distinct_name(folder.parent if folder.name == "results" else folder, taken)
        sources.evaluations.append(Evaluation(name=name, content=content, held_out=_held_out(sources, folder)))
    elif isinstance(content.get("cases"), list):
        name = _distinct_name(path.parent, [inference.name for inference in sources.inferences])
        sources.inferences.append(_inference(name, path, content))
    elif "findings" in content:
        sources.checks.append(content)
    else:
        message = f"{path}: not recognised by its content. {_EXPECTED}"
        raise ConfigError(message)


def _held_out(sources: Sources, results: Path) -> tuple[Inference, ...]:
    """Return the predictions of held-out cases in the results/ of a fine-tuned bundle."""
    folders = [results / "validation", *sorted((results / "cross_validation").glob("fold_*"))]
    files = [folder / "run.json" for folder in folders if results.name == "results" and (folder / "run.json").is_file()]
    found = [(file, _read_json(sources, file)) for file in files]
    return tuple(_inference(file.parent.name, file, run) for file, run in found if isinstance(run.get("cases"), list))


def _inference(name: str, path: Path, content: Json) -> Inference:
    return Inference(name=name, folder=path.parent, content=content, sha256=sha256_file(path))


def _read_json(sources: Sources, path: Path) -> Json:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: expected JSON, found something unreadable ({error}). Write it again or leave it out."
        raise ConfigError(message) from error
    if not isinstance(content, dict):
        message = f"{path}: expected a JSON object, found a {type(content).__name__}. {_EXPECTED}"
        raise ConfigError(message)
    folder = _distinct_name(
        path.parent, [name.rpartition("/")[0] for name in sources.hashes if name.endswith(path.name)]
    )
    sources.hashes[f"{folder}/{path.name}"] = sha256_file(path)
    return content


def _distinct_name(folder: Path, taken: Sequence[str]) -> str:
    """Return a folder's name; if it is taken, with its parent's before it; if that is taken too, with a number.

    No more of a path is shown: folders further up may name a person or a project.
    """
    parts = folder.resolve().parts
    names = [folder.resolve().name, "/".join(parts[-2:]).lstrip("/")]
    numbered = (f"{names[0]} ({number})" for number in range(2, len(taken) + 3))
    return next(name for name in (*names, *numbered) if name not in taken)
