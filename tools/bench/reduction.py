"""Measure reduction: whole-dataset selection over a growing number of hashes, and reading with hashing of real CT.

The hashes are synthetic: walks in which each slice differs from the last in a few bits, one walk for each scan; once
over all bits, once with background bits that never change, as air around a body leaves them. Each size is run in a
process of its own, for its peak memory. Reading is compared with nibabel, Pillow and imagehash slice by slice; both
take turns, so that other load on the machine meets both.

    python tools/bench/reduction.py --ct DATA/ct --out docs/results/reduction_speed
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagehash
import nibabel as nib
import numpy as np
from PIL import Image

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.data.manifest import Case
from medssl.data.workers import map_isolated
from medssl.reduction.hashing import dhash, hash_text
from medssl.reduction.items import ItemTask, read_items, to_grey
from medssl.reduction.selection import greedy
from medssl.reduction.similarity import HammingMeasure

SIZES = (10_000, 30_000, 100_000, 300_000, 541_439, 1_000_000)
SLICES_OF_A_SCAN = 607
BODY_BITS = np.uint64(0x7E7E7E7E7E7E7E7E)


def synthetic_hashes(count: int, *, skewed: bool) -> np.ndarray:
    rng = np.random.default_rng(0)
    scans = -(-count // SLICES_OF_A_SCAN)
    flips = rng.poisson(1.0, (scans, SLICES_OF_A_SCAN))
    steps = np.zeros(flips.shape, np.uint64)
    for flip in range(flips.max()):
        bits = np.uint64(1) << rng.integers(0, 64, flips.shape).astype(np.uint64)
        steps ^= np.where(flips > flip, bits, np.uint64(0))
    steps[:, 0] = rng.integers(0, 2**64, scans, dtype=np.uint64)
    hashes = np.bitwise_xor.accumulate(steps, axis=1).ravel()[:count]
    return hashes & BODY_BITS if skewed else hashes


def one_size(count: int, *, skewed: bool) -> dict[str, Any]:
    hashes = synthetic_hashes(count, skewed=skewed)
    wall, processor = time.perf_counter(), time.process_time()
    selection = greedy(HammingMeasure(hashes), threshold=6)
    return {
        "hashes": count,
        "skewed": skewed,
        "kept": int(selection.kept.sum()),
        "wall_s": round(time.perf_counter() - wall, 2),
        "processor_s": round(time.process_time() - processor, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def slice_by_slice(path: Path, *, floats: bool) -> list[str]:
    image = nib.as_closest_canonical(nib.load(path))
    return hashed_one_by_one(image.get_fdata() if floats else np.asanyarray(image.dataobj))


def hashed_one_by_one(voxels: np.ndarray) -> list[str]:
    texts = []
    for k in range(voxels.shape[2]):
        windowed = np.rint(np.clip((voxels[:, :, k].T + 1000.0) / 1400, 0, 1) * 255).astype(np.uint8)
        texts.append(str(imagehash.dhash(Image.fromarray(windowed))))
    return texts


def ours(path: Path) -> list[str]:
    task = ItemTask(root=path.parent, case=Case(id="a", image=(path.name,)), modality="CT", window=(-1000.0, 400.0))
    return [hash_text(value) for value in read_items(task).descriptors]


def two_cores(path: Path, *, scans: int) -> dict[str, Any]:
    """Wall time of several scans as `medssl reduce` reads them on two cores, and of the same one by one."""
    task = ItemTask(root=path.parent, case=Case(id="a", image=(path.name,)), modality="CT", window=(-1000.0, 400.0))
    together = timed(lambda: map_isolated(read_items, [task] * scans, workers=0, threads=2))[0]
    processes = timed(lambda: map_isolated(read_items, [task] * scans, workers=2))[0]
    one_by_one = timed(lambda: [slice_by_slice(path, floats=True) for _ in range(scans)])[0]
    return {
        "scans": scans,
        "file": path.name,
        "two_threads_wall_s": round(together, 2),
        "two_processes_wall_s": round(processes, 2),
        "get_fdata_wall_s": round(one_by_one, 2),
    }


def large_ct(source: Path, folder: Path) -> Path:
    """Every fourth slice of the chest and abdomen CT at 512 x 512, each pixel four times."""
    image = nib.load(source)
    voxels = np.asanyarray(image.dataobj)[:, :, ::4].repeat(2, axis=0).repeat(2, axis=1)
    path = folder / "large.nii.gz"
    nib.save(nib.Nifti1Image(voxels, image.affine @ np.diag([0.5, 0.5, 4, 1])), path)
    return path


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def reading(path: Path, *, repeats: int) -> dict[str, Any]:
    ways: dict[str, Callable[[], list[str]]] = {
        "medssl": lambda: ours(path),
        "get_fdata": lambda: slice_by_slice(path, floats=True),
        "dataobj": lambda: slice_by_slice(path, floats=False),
    }
    hashes = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way)[1])
    voxels = np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    slices = voxels.transpose(2, 1, 0)
    for _ in range(repeats):
        seconds.setdefault("medssl_hash", []).append(timed(lambda: dhash(to_grey(slices, window=(-1000.0, 400.0))))[1])
        seconds.setdefault("others_hash", []).append(timed(lambda: hashed_one_by_one(voxels))[1])
    median = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    return {
        "file": path.name,
        "shape": list(nib.load(path).shape),
        "equal_hashes": hashes["medssl"] == hashes["get_fdata"] == hashes["dataobj"],
        "processor_s": median,
        "ratio_get_fdata": round(median["get_fdata"] / median["medssl"], 2),
        "ratio_hash": round(median["others_hash"] / median["medssl_hash"], 2),
        "ratio_dataobj": round(median["dataobj"] / median["medssl"], 2),
    }


def page(result: dict[str, Any]) -> str:
    growth = [
        f"| {row['hashes']:,} | {'some bits constant' if row['skewed'] else 'all bits'} | {row['kept']:,} "
        f"| {row['processor_s']:.2f} | {row['wall_s']:.2f} | {row['peak_mb']} |"
        for row in result["growth"]
    ]
    files = [
        f"| {row['file']} | {' x '.join(map(str, row['shape']))} | {row['processor_s']['medssl']:.2f} "
        f"| {row['processor_s']['get_fdata']:.2f} | **{row['ratio_get_fdata']:.2f}** "
        f"| {row['processor_s']['dataobj']:.2f} | **{row['ratio_dataobj']:.2f}** "
        f"| **{row['ratio_hash']:.2f}** | {'yes' if row['equal_hashes'] else 'NO'} |"
        for row in result["reading"]
    ]
    return f"""# Speed of reduction

One process with one thread on a shared machine of two cores; processor time, which other load changes less than the
wall clock.

## Selection across a whole data set

HASH-6 by the exact greedy rule, with the remover and the nearest kept neighbour of every dropped hash. The hashes are
**synthetic**: walks of {SLICES_OF_A_SCAN} slices, each differing from the last in one bit on average. "Some bits
constant" leaves the first and last bit of every row at 0. 541,439 is the size of the largest data set of the paper.
The aim is 30 s and 2 GB for 541,439.

| hashes | bits | kept | processor, s | wall, s | peak memory, MB |
|---|---|---|---|---|---|
{chr(10).join(growth)}

## Reading, windowing and hashing real CT

Against nibabel, Pillow and imagehash slice by slice, once with `get_fdata` (float64) and once with the stored integers
(`dataobj`). medssl also hashes the file (SHA-256), finds empty slices and checks the voxels, which the others do not.
Medians of {result["repeats"]} turns. "Without reading" compares window and hash of stored integers in memory. "large"
is every fourth slice of the first CT with every pixel four times (512 x 512). The aim is a ratio of 3.

| file | shape | medssl, s | get_fdata, s | ratio | dataobj, s | ratio | ratio without reading | equal hashes |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(files)}

In one process decompression takes most of the time of either way, so that the aim is missed for compressed files.
Wall time for {result["two"]["scans"]} times {result["two"]["file"]}: {result["two"]["two_threads_wall_s"]} s by two
threads of medssl, {result["two"]["two_processes_wall_s"]} s by two processes with their start, and
{result["two"]["get_fdata_wall_s"]} s by get_fdata one by one.

Made by:

    {result["command"]}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct", type=Path, help="Folder with chest_abdomen_256.nii.gz and example_ct.nii.gz.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one-size", type=int, help="Only one number of hashes; prints JSON.")
    parser.add_argument("--skewed", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build"), help="For the large CT.")
    options = parser.parse_args()
    if options.one_size:
        print(json.dumps(one_size(options.one_size, skewed=options.skewed)))
        return
    growth = []
    for skewed, sizes in ((False, SIZES), (True, (541_439,))):
        for size in sizes:
            words = [sys.executable, __file__, "--one-size", str(size), *(["--skewed"] if skewed else [])]
            growth.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
            print(growth[-1], flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    first = options.ct / "chest_abdomen_256.nii.gz"
    files = [first, options.ct / "example_ct.nii.gz", large_ct(first, options.work)]
    rows = []
    for path in files:
        rows.append(reading(path, repeats=options.repeats))
        print(rows[-1], flush=True)
    two = two_cores(first, scans=6)
    print(two, flush=True)
    result = {
        **provenance("reduction_speed"),
        "command": f"python tools/bench/reduction.py --ct DATA/ct --out docs/results/{options.out.name}",
        "repeats": options.repeats,
        "growth": growth,
        "reading": rows,
        "two": two,
    }
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(result))


if __name__ == "__main__":
    main()
