"""The shipped bundle for slices at a size for tests, and images with classes. Synthetic."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from medssl.bundle.catalog import shipped_bundles
from medssl.data.manifest import Case, Manifest, save_manifest
from medssl.networks import SliceNet

NAMES = ("no finding", "finding")
SMALL: dict[str, Any] = {"network_def#size": "tiny", "image_size": [16, 16]}


def small_slice_bundle(folder: Path, *, weights: bool = True) -> Path:
    """Copy the bundle with a tiny network for images of 16 x 16; its weights are random."""
    shutil.copytree(shipped_bundles()["ct_slice_reduced_contrast"], folder)
    for name in ("inference", "train", "pretrain", "moco"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["network_def"]["size"] = "tiny"
        content["image_size"] = [16, 16]
        path.write_text(json.dumps(content), encoding="utf-8")
    if weights:
        (folder / "models").mkdir()
        torch.manual_seed(0)
        torch.save(SliceNet(size="tiny").state_dict(), folder / "models" / "model.pt")
    return folder


def write_images(folder: Path, *, training: int = 8, validation: int = 4, test: int = 4) -> Path:
    """Write images, every second with a bright square, and their manifest; two images of each patient."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cases = []
    for number in range(training + validation + test):
        pixels = rng.integers(0, 60, (20, 24)).astype(np.uint8)
        if number % 2:
            pixels[4:14, 6:16] += 150
        Image.fromarray(pixels).save(folder / f"{number}.png")
        known: dict[str, Any] = {"class": NAMES[number % 2], "patient": f"patient {number // 2}"}
        cases.append(Case(id=f"image_{number}", image=(f"{number}.png",), **known))
    manifest = Manifest(
        name="squares",
        modality="CT",
        labels=dict(zip("01", NAMES, strict=True)),
        training=tuple(cases[:training]),
        validation=tuple(cases[training : training + validation]),
        test=tuple(cases[training + validation :]),
    )
    save_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"
