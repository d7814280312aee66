"""A bundle that may be broken: a small good one, made from the shipped configurations."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Edit = Callable[[str, dict[str, Any]], None]


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the shipped bundle with stand-in weights and figures, so that it is complete."""
    source = bundles / "hippocampus_mri_supervised"
    ignore = shutil.ignore_patterns("*.pt", "*.ts", "*.onnx")
    copy = Path(shutil.copytree(source, tmp_path / source.name, ignore=ignore))
    (copy / "models").mkdir(exist_ok=True)
    (copy / "models" / "model.pt").write_bytes(b"weights")
    metadata = copy / "configs" / "metadata.json"
    content = json.loads(metadata.read_text(encoding="utf-8"))
    figures = {"eval_metrics": {"mean_dice": 0.9}, "memory": {"gpu": "1 GB"}}
    content.pop("weights", None)
    metadata.write_text(json.dumps(content | figures), encoding="utf-8")
    return copy


@pytest.fixture
def edit(bundle: Path) -> Edit:
    """Set items of one configuration file of the copy: edit("train", {"epochs": 3}); None removes."""

    def change(name: str, items: dict[str, Any]) -> None:
        path = bundle / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for item_id, value in items.items():
            *parents, last = item_id.split("#")
            place = content
            for step in parents:
                place = place[int(step) if isinstance(place, list) else step]
            key = int(last) if isinstance(place, list) else last
            if value is None:
                del place[key]
            else:
                place[key] = value
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")

    return change
