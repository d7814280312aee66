"""What the tests of bundles on several processes run in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.bundle.resolve import run_workflow, workflow
from medssl.bundle.run import train

# What is taken down behind the last step may wait for ever for a process that has already ended, on a busy machine;
# kept until the process ends, it is taken down when its answer is out
_kept: list[Any] = []


def trained(
    bundle: Path, manifest: Path, out: Path, overrides: Mapping[str, Any], *, files: tuple[str, ...] = ("train",)
) -> dict[str, Any]:
    """Train a bundle as `medssl train` does; return the record."""
    return train(bundle, manifest=manifest, out=out, overrides=overrides, config_files=files)


def evaluated(bundle: Path, files: tuple[str, ...], out: Path, overrides: Mapping[str, Any]) -> list[str]:
    """Evaluate a bundle with merged files; return the names of what is in `out` now."""
    run_workflow(workflow(bundle, files, overrides={**overrides, "output_dir": str(out)}))
    return sorted(path.name for path in out.iterdir()) if out.is_dir() else []


def flow_finished(bundle: Path, files: tuple[str, ...], overrides: Mapping[str, Any]) -> None:
    """Run the workflow of merged files to its end."""
    flow = workflow(bundle, files, overrides=overrides)
    _kept.append(flow)
    run_workflow(flow)
