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


@pytest.fixture
def runnable(bundle: Path, edit: Edit) -> Path:
    """The copy with a network of a few hundred weights and patches of 16 voxels, so that checks can run it."""
    import torch

    from medssl.bundle.checks.running import bare_network

    small = {"channels": [4, 8], "strides": [2], "num_res_units": 1}
    for name in ("train", "inference"):
        content = json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))
        edit(name, {"network_def": content["network_def"] | small, "patch_size": [16, 16, 16]})
    for side, key in (("inputs", "image"), ("outputs", "pred")):
        edit("metadata", {f"network_data_format#{side}#{key}#spatial_shape": [16, 16, 16]})
    torch.save(bare_network(bundle).state_dict(), bundle / "models" / "model.pt")
    return bundle
