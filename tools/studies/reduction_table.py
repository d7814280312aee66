"""Reduce real data by every strategy, and look for duplicates that were planted.

    python tools/studies/reduction_table.py --data DATA --out docs/results/reduction

Each strategy runs in a process of its own, for its peak memory. The embedding's ResNet-18 has random weights, because
no trained ones are shipped: it shows cost and mechanics, not merit.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.data.manifest import Manifest
from medssl.reduction.folders import manifest_of_images
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings

STRATEGIES = ("all", "every_n", "dhash", "ssim", "nmi", "embedding")
SETS = ("ct", "acdc", "ct2d", "head_ct")
COSTLY = ("ssim", "nmi", "embedding")
FLAT = ("ct2d", "head_ct")
# All pairs of 946 images would take ssim and nmi many minutes
TOO_MANY_PAIRS = {("ct2d", "ssim"), ("ct2d", "nmi")}
SIDE = 64


def manifest_of(data: Path, name: str) -> tuple[Manifest, Path]:
    if name in FLAT:
        folder = data / "ct2d" if name == "ct2d" else data / "ct2d" / name
        return manifest_of_images(folder, modality="CT"), folder
    folder = data / ("ct" if name == "ct" else "acdc/images")
    names = ("chest_abdomen_256", "example_ct", "example_ct_sm") if name == "ct" else None
    files = [f"{stem}.nii.gz" for stem in names] if names else sorted(file.name for file in folder.glob("*.nii.gz"))
    cases = [{"id": file.removesuffix(".nii.gz"), "image": file, "patient": file.split("_frame")[0]} for file in files]
    content = {"name": name, "modality": "CT" if name == "ct" else "MR", "labels": {"0": "background"}}
    return Manifest.model_validate({**content, "unlabeled": cases}), folder


def random_encoder() -> Any:
    import torch
    from monai.networks.nets import resnet18

    from medssl.reduction.encoder import load_encoder

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = resnet18(spatial_dims=2, n_input_channels=1, conv1_t_stride=2, shortcut_type="B", bias_downsample=False)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "w.pt")
        return load_encoder(Path(folder) / "w.pt", architecture="resnet18")


def one(data: Path, name: str, strategy: str) -> dict[str, Any]:
    """Every strategy but ALL keeps about what HASH-6 keeps; EveryN exactly as many of each volume."""
    manifest, root = manifest_of(data, name)
    scope = "dataset" if name in FLAT else "volume"
    encoder = random_encoder() if strategy == "embedding" else None
    budget: Any = None
    budgets = None
    if strategy == "every_n":
        hashed = reduce_manifest(manifest, root, Settings(scope=scope), workers=0).audit.counts()
        budget = hashed["kept"] if scope == "dataset" else "given"
        budgets = {case: row["kept"] for case, row in hashed["cases"].items()} if budget == "given" else None
    settings = Settings(method=strategy, scope=scope, budget=budget, size=SIDE)
    wall, processor = time.perf_counter(), time.process_time()
    audit, findings = reduce_manifest(manifest, root, settings, budgets=budgets, encoder=encoder, workers=0)
    counts = audit.counts()
    return {
        "set": name,
        "strategy": strategy,
        "scope": scope,
        "items": counts["items"],
        "kept": counts["kept"],
        "threshold": audit.settings["threshold_used"],
        "reasons": counts["reasons"],
        "wall_s": round(time.perf_counter() - wall, 1),
        "processor_s": round(time.process_time() - processor, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "findings": sorted({finding.code for finding in findings}),
    }


def planted(data: Path, folder: Path) -> list[dict[str, Any]]:
    """Plant what is known: repeated slices in a volume, a copied volume, a noisy volume, a copied and a noisy image."""
    rng = np.random.default_rng(0)
    image = nib.load(data / "ct" / "example_ct.nii.gz")
    voxels = np.asanyarray(image.dataobj).astype(np.int16)

    def save(name: str, values: np.ndarray) -> None:
        nib.save(nib.Nifti1Image(values.astype(np.int16), image.affine), folder / f"{name}.nii.gz")

    def noisy(values: np.ndarray) -> np.ndarray:
        return values + np.rint(rng.normal(0, 20, values.shape))

    repeated = np.concatenate([voxels, voxels[:, :, 40:50], noisy(voxels[:, :, 60:70])], axis=2)
    save("repeated", repeated)
    save("copy", voxels)
    save("noisy", noisy(voxels))
    save("original", voxels)
    rows = []

    def run(what: str, cases: list[tuple[str, str]], planted_places: list[tuple[str, int]], **settings: Any) -> None:
        entries = [{"id": name, "image": f"{name}.nii.gz", "patient": patient} for name, patient in cases]
        content = {"name": "p", "modality": "CT", "labels": {"0": "background"}, "unlabeled": entries}
        audit = reduce_manifest(Manifest.model_validate(content), folder, Settings(**settings), workers=0).audit
        dropped = {row.place for row in audit.rows if not row.kept}
        rows.append(
            {"planted": what, **settings, "n": len(planted_places), "found": len(dropped & set(planted_places))}
        )
        print(rows[-1], flush=True)

    depth = voxels.shape[2]
    run("10 slices again", [("repeated", "p")], [("repeated", depth + k) for k in range(10)], scope="volume")
    run("10 noisy slices", [("repeated", "p")], [("repeated", depth + 10 + k) for k in range(10)], scope="volume")
    every = [(k) for k in range(depth)]
    for scope, patients in (("patient", ("p", "p")), ("dataset", ("p", "q"))):
        for name in ("copy", "noisy"):
            cases = [("original", patients[0]), (name, patients[1])]
            run(f"{name} of a volume, slices", cases, [(name, k) for k in every], scope=scope)
            run(f"{name} of a volume, whole", cases, [(name, 0)], scope=scope, unit="volume")
    (folder / "images").mkdir()
    for number, file in enumerate(sorted((data / "ct2d" / "head_ct").glob("*.jpg"))[:20]):
        pixels = np.asarray(Image.open(file))
        Image.fromarray(pixels).save(folder / "images" / f"a{number}.png")
        Image.fromarray(pixels).save(folder / "images" / f"b{number}.png")
        Image.fromarray((pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)).save(
            folder / "images" / f"c{number}.png"
        )
    images = manifest_of_images(folder / "images", modality="CT")
    audit = reduce_manifest(images, folder / "images", Settings(scope="dataset"), workers=0).audit
    dropped = {row.case[0:1] + row.case[1:] for row in audit.rows if not row.kept}
    for kind, what in (("b", "copy of an image"), ("c", "noisy image")):
        found = sum(name.startswith(kind) for name in dropped)
        rows.append({"planted": what, "scope": "dataset", "n": 20, "found": found})
    return rows


def page(result: dict[str, Any]) -> str:
    table = [
        f"| {row['set']} | {row['strategy']} | {row['scope']} | {row['kept']} of {row['items']} "
        f"| {row['kept'] / row['items']:.1%} | {'' if row['threshold'] is None else format(row['threshold'], '.4g')} "
        f"| {row['processor_s']} | {row['wall_s']} | {row['peak_mb']} |"
        for row in result["strategies"]
    ]
    finds = [
        f"| {row['planted']} | {row['scope']} | {row.get('unit', 'slice')} | {row['n']} | {row['found']} |"
        for row in result["planted"]
    ]
    return f"""# What reduction keeps

ct: three CT volumes (275 slices at 1 mm, 112 and 30 at 3 mm; the 30 are part of the 112). acdc: 160 cardiac MR volumes
of 80 patients, 6 to 14 slices of 8 mm. ct2d: 946 CT slices as JPEG, 8 bits without HU; head_ct: 200 of them. HASH-6
("dhash", threshold in bits) is the published rule; every_n keeps exactly as many of each volume (of all, for 2D), and
the similarities (thresholds as similarity, thumbnails of {SIDE} x {SIDE}) are calibrated to keep as many in all. The
encoder of "embedding" has **random weights**. Seconds are those of one process on a shared machine and include
reading; peak memory includes Python and its packages. Which reduced set trains better is not measured here.

| data | strategy | scope | kept | share | threshold | processor, s | wall, s | peak, MB |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(table)}

## Planted duplicates

Found are the planted items that HASH-6 drops. Noise: 20 HU, or 3 of 255 grey values. A slice may also be dropped
because of another neighbour, as reduction means to; a noisy slice is kept where noise changes more than 6 bits.

| planted | scope | unit | planted | found |
|---|---|---|---|---|
{chr(10).join(finds)}

Made by:

    {result["command"]}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, help="Only this data set and strategy; prints JSON.")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.data, *options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = planted(options.data, Path(folder))
    rows: list[dict[str, Any]] = []
    order = [(name, strategy) for name in SETS for strategy in STRATEGIES if (name, strategy) not in TOO_MANY_PAIRS]
    for name, strategy in sorted(order, key=lambda pair: pair[1] in COSTLY):
        words = [sys.executable, __file__, "--data", str(options.data), "--one", name, strategy]
        rows.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
        print(rows[-1], flush=True)
        write(options.out, rows, found)  # what is done is not lost


def write(out: Path, rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: (SETS.index(row["set"]), STRATEGIES.index(row["strategy"])))
    command = f"python tools/studies/reduction_table.py --data DATA --out docs/results/{out.name}"
    result = {**provenance("reduction_table"), "command": command, "strategies": rows, "planted": found}
    write_json(out.with_suffix(".json"), result)
    write_text(out.with_suffix(".md"), page(result))


if __name__ == "__main__":
    main()
