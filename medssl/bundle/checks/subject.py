"""The bundle under check, read once: its files as data, and its configurations merged as they are run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medssl.bundle.config import BundleConfig, merge_config, read_json, walk
from medssl.core.errors import ConfigError
from medssl.core.findings import Finding, Severity

# How the files of a bundle are run: merged in this order, as this type of workflow.
_RUNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("inference", ("inference",)),
    ("train", ("train",)),
    ("train", ("train", "evaluate")),
    ("train", ("train", "multi_gpu_train")),
    ("train", ("train", "evaluate", "multi_gpu_evaluate")),
)
_WRITES_ENCODER = "medssl.training.EncoderWeights"


@dataclass(frozen=True)
class Subject:
    """A bundle under check.

    Attributes:
        folder: The bundle.
        extra_schema: A second schema for metadata.json, or None.
    """

    folder: Path
    extra_schema: Path | None = None
    _problems: dict[str, str] = field(default_factory=dict)

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Name to content of every configuration that can be read, without metadata."""
        found = {}
        for path in sorted((self.folder / "configs").glob("*.json")):
            if path.name == "monailabel_train.json":
                continue  # written by MONAI Label when it trains
            try:
                found[path.stem] = read_json(path)
            except ConfigError as error:
                self._problems[f"configs/{path.name}"] = str(error)
        return found

    @property
    def unreadable(self) -> dict[str, str]:
        """File to reason for every JSON file of configs/ that cannot be read."""
        _ = self.configs
        return self._problems

    @property
    def metadata(self) -> dict[str, Any]:
        """Content of metadata.json, empty if it cannot be read."""
        return self.configs.get("metadata", {})

    @property
    def segments(self) -> bool:
        """Whether the bundle makes label maps on the grid of an image."""
        return bool(self.pred.get("format") == "segmentation")

    @property
    def classifies(self) -> bool:
        """Whether the bundle gives class scores of a 2D image."""
        return bool(self.pred.get("format") == "classification")

    @property
    def trains(self) -> bool:
        """Whether the bundle can be trained on the phantoms of the checks: pairs of image and label map."""
        return self.segments and "train" in self.configs

    @property
    def stages(self) -> list[str]:
        """Names of the configurations that pre-train: all that write an encoder."""
        return [
            name
            for name, content in self.configs.items()
            if any(value == _WRITES_ENCODER for _, value in walk(content)) or name.startswith("pretrain")
        ]

    @property
    def channels(self) -> int:
        """Number of channels of `image`."""
        return int(self._format("inputs", "image").get("num_channels", 1))

    @property
    def classes(self) -> dict[str, str]:
        """Label value to name, background included."""
        return dict(self.pred.get("channel_def", {}))

    @property
    def pred(self) -> Mapping[str, Any]:
        """What metadata says of the output."""
        return self._format("outputs", "pred")

    @property
    def patch(self) -> tuple[int, ...]:
        """The patch that metadata declares for `image`, in voxels; sizes that are patterns count as 32."""
        shape = self._format("inputs", "image").get("spatial_shape", [])
        return tuple(size if isinstance(size, int) else 32 for size in shape)

    def _format(self, side: str, name: str) -> Mapping[str, Any]:
        found = self.metadata.get("network_data_format", {}).get(side, {}).get(name, {})
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def merged(self) -> dict[tuple[str, ...], BundleConfig | ConfigError]:
        """Every merge of files that is run, or why it cannot be merged."""
        found: dict[tuple[str, ...], BundleConfig | ConfigError] = {}
        for _, files in self._runs():
            try:
                found[files] = merge_config(self.folder, files)
            except ConfigError as error:
                found[files] = error
        return found

    def workflows(self, kind: str | None = None) -> Iterator[tuple[str, BundleConfig]]:
        """Yield (workflow type, merged configuration) for every merge that succeeds."""
        for workflow_type, files in self._runs():
            config = self.merged[files]
            if isinstance(config, BundleConfig) and kind in {None, workflow_type}:
                yield workflow_type, config

    def _runs(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        stages = tuple(("train", files) for name in self.stages for files in ((name,), (name, f"multi_gpu_{name}")))
        changed = tuple(("train", ("train", name)) for name in self.configs if name.startswith("train_"))
        for workflow_type, files in _RUNS + changed + stages:
            if all(name in self.configs for name in files):
                yield workflow_type, files


def finding(code: str, where: str, text: str, fix: str, *, severity: Severity = "error") -> Finding:
    """Make the finding of a check."""
    return Finding(code=code, severity=severity, where=where, text=text, fix=fix)
