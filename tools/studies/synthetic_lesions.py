"""SYNTHETIC lesions of known size and contrast, drawn into two real prostate exams: does detection follow contrast?

    python tools/studies/synthetic_lesions.py --data DATA --work WORK --out docs/results/synthetic_lesions

Every case is one of two real exams, moved, mirrored and made noisy, with or without drawn ellipsoids: dark in T2W and
ADC, bright in the high-b image. So it shows that the whole machinery of five folds, ensemble and external test measures
what was put in, and says nothing about cancer. What is stopped goes on with the same command; --small takes minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from medssl.bundle.folds import ENSEMBLE, PREDICTIONS, train_folds
from medssl.bundle.predictor import load_predictor
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.core.seeding import derive_seed
from medssl.data.exam_import import ExamOptions
from medssl.data.grids import Grid
from medssl.data.import_cases import ImportOptions
from medssl.data.importers import import_data
from medssl.data.manifest import Case, Manifest, save_manifest
from medssl.data.splits import assign_folds
from medssl.data.volume_writing import write_volume
from medssl.evaluation.detection import evaluate_detections
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.reports.build import write_report

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "prostate_mri_lesion_cswin_unet"
COMMAND = "python tools/studies/synthetic_lesions.py --data DATA --work WORK --out docs/results/synthetic_lesions"
CONTRASTS = (0.25, 0.5, 1.0, 2.0)  # in standard deviations of each sequence
TEST_CONTRASTS = (0.1, *CONTRASTS)  # the first is fainter than any in training
SIGNS = {"t2w": -1.0, "adc": -1.0, "hbv": 1.0}
RADII_MM = (3.0, 6.0)
CROP = (96, 96, 20)
SPACING = np.array([0.5, 0.5, 3.0])
PATCH = [64, 64, 20]


@dataclass(frozen=True)
class Size:
    """How large the study is: training cases, test cases at each contrast, folds, iterations of each network."""

    training: int
    test: int
    folds: int
    iterations: int


SIZES = {"full": Size(60, 40, 5, 400), "small": Size(6, 4, 2, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--work", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()
    size = SIZES["small" if arguments.small else "full"]
    exams = real_exams(arguments.data / "bpmri", arguments.work / "prepared")
    training, tests = write_cases(exams, arguments.work / "synthetic", size)
    bundle = small_patch_bundle(arguments.work / "bundle" / BUNDLE.name)
    run = arguments.work / "run"
    overrides = {"epochs": size.iterations, "iterations_per_epoch": 1, "batch_size": 2, "num_workers": 0}
    overrides |= {"learning_rate": 0.001, "val_interval": 10**6, "save_minutes": 2}
    train_folds(bundle, manifest=training, out=run, overrides=overrides)
    scores = {"cross_validation": score(training, run / PREDICTIONS, arguments.work / "scores", part="training")}
    with load_predictor(run / ENSEMBLE, device="cpu") as predictor:
        for contrast, manifest in tests.items():
            maps = arguments.work / "maps" / f"contrast_{contrast:g}"
            run_batch(predictor, gather_cases([manifest]), maps)
            scores[f"{contrast:g}"] = score(manifest, maps, arguments.work / f"scores_{contrast:g}", part="test")
    write_report([arguments.work / "scores", training], arguments.work / "report.html", worst=2)
    result = {"medssl": provenance("study"), "command": COMMAND, "size": vars(size), "scores": scores}
    write_json(arguments.out.with_suffix(".json"), result)
    write_text(arguments.out.with_suffix(".md"), page(result))


def real_exams(source: Path, target: Path) -> list[dict[str, Any]]:
    """Import both exams round the gland, and replace the real lesion by the tissue of the other side."""
    import_data(source, ImportOptions(root=target, exams=ExamOptions(crop=CROP)), layout="bpmri")
    exams = []
    for folder in sorted((target / "exams").iterdir()):
        images = {name: nib.load(folder / f"{name}.nii.gz") for name in SIGNS}
        exam: dict[str, Any] = {name: np.asarray(image.dataobj) for name, image in images.items()}
        lesion = np.asarray(nib.load(folder / "label.nii.gz").dataobj) > 0
        lesion = ndimage.binary_dilation(lesion, iterations=3)
        for name in SIGNS:
            exam[name] = np.where(lesion, exam[name][::-1], exam[name])
        exams.append({**exam, "affine": images["t2w"].affine, "kept": lesion})
    return exams


def write_cases(exams: list[dict[str, Any]], folder: Path, size: Size) -> tuple[Path, dict[float, Path]]:
    """Write training cases of four contrasts with folds, and a test set for each contrast; half of all are positive."""
    labels = {"0": "background", "1": "synthetic lesion"}
    common: dict[str, Any] = {"modality": "SYNTHETIC lesions in bpMRI: T2W, ADC, high-b DWI", "labels": labels}
    cases = tuple(
        write_case(exams, folder, f"train_{number:03d}", CONTRASTS[number // 2 % 4], positive=number % 2 == 0)
        for number in range(size.training)
    )
    manifest = Manifest.model_validate({"name": "synthetic lesions", **common})
    manifest = assign_folds(manifest.model_copy(update={"training": cases}), folds=size.folds, seed=0)
    save_manifest(folder / "training.json", manifest)
    tests = {}
    for contrast in TEST_CONTRASTS:
        held_out = tuple(
            write_case(exams, folder, f"test_{contrast:g}_{number:03d}", contrast, positive=number % 2 == 0)
            for number in range(size.test)
        )
        content = Manifest.model_validate({"name": f"synthetic lesions, contrast {contrast:g}", **common})
        tests[contrast] = folder / f"test_{contrast:g}.json"
        save_manifest(tests[contrast], content.model_copy(update={"test": held_out}))
    return folder / "training.json", tests


def write_case(exams: list[dict[str, Any]], folder: Path, name: str, contrast: float, *, positive: bool) -> Case:
    rng = np.random.default_rng(derive_seed("synthetic", name))
    exam = exams[int(rng.integers(len(exams)))]
    label = np.zeros(CROP, np.uint8)
    profile = np.zeros(CROP, np.float32)
    for centre, radii in drawn_lesions(rng, exam["kept"], count=int(rng.integers(1, 3)) if positive else 0):
        distance = ellipsoid(centre, radii)
        label[distance <= 1] = 1
        # The edge falls from full to no contrast over half a radius, as partial volume makes it
        profile = np.maximum(profile, np.clip((1.25 - distance) / 0.5, 0, 1))
    mirrored, shift = bool(rng.integers(2)), rng.integers(-6, 7, 2).tolist()
    grid = Grid(shape=CROP, affine=exam["affine"])
    paths = []
    for sequence, sign in SIGNS.items():
        values = exam[sequence] + sign * contrast * profile
        values = values * rng.uniform(0.9, 1.1) + ndimage.gaussian_filter(rng.normal(0, 0.3, CROP), (1, 1, 0))
        paths.append(f"{name}_{sequence}.nii.gz")
        write_volume(folder / paths[-1], moved(values, mirrored, shift).astype(np.float32), grid=grid, place=None)
    write_volume(folder / f"{name}_label.nii.gz", moved(label, mirrored, shift).copy(), grid=grid, place=None)
    return Case(id=name, image=tuple(paths), label=f"{name}_label.nii.gz", **{"class": int(positive)})


def drawn_lesions(rng: np.random.Generator, kept: np.ndarray, *, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield centre (voxels) and radii (mm) of lesions near the middle, away from what was replaced."""
    while count:
        radii = rng.uniform(*RADII_MM, size=3)
        centre = np.array(CROP) / 2 + rng.uniform(-1, 1, 3) * np.array([24, 20, 4])
        if not kept[ellipsoid(centre, radii) <= 1.5].any():
            yield centre, radii
            count -= 1


def ellipsoid(centre: np.ndarray, radii_mm: np.ndarray) -> np.ndarray:
    """Return the distance of each voxel from the centre, in radii."""
    index = np.stack(np.meshgrid(*map(np.arange, CROP), indexing="ij"), axis=-1)
    return np.linalg.norm((index - centre) * SPACING / radii_mm, axis=-1)


def moved(values: np.ndarray, mirrored: bool, shift: list[int]) -> np.ndarray:
    values = values[::-1] if mirrored else values
    return np.roll(values, shift, axis=(0, 1))


def small_patch_bundle(folder: Path) -> Path:
    """Copy the bundle with patches of 64 x 64 x 20, for processors."""
    if not folder.is_dir():
        shutil.copytree(BUNDLE, folder)
    for name in ("train.json", "inference.json", "pretrain.json"):
        path = folder / "configs" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"patch_size": PATCH}, indent=4))
    return folder


def score(manifest_file: Path, maps: Path, out: Path, *, part: Any) -> dict[str, Any]:
    manifest = Manifest.model_validate(json.loads(manifest_file.read_text()))
    evaluation = evaluate_detections(manifest, root=manifest_file.parent, predictions=maps, part=part, workers=1)
    inputs = {"manifest": {"name": manifest.name, "sha256": manifest.sha256()}, "part": part}
    content = {"medssl": provenance("evaluate", **inputs), **evaluation.to_json()}
    write_json(out / "metrics.json", content)
    return {name: content[name] for name in ("summary", "counts", "folds", "statements")}


def page(result: dict[str, Any]) -> str:
    def row(name: str, scores: dict[str, Any]) -> str:
        cells = []
        for metric in ("auroc", "ap", "sensitivity_at_0.5", "sensitivity_at_1", "sensitivity_at_2"):
            each = scores["summary"][metric]
            bounds = "" if each["low"] is None else f" [{each['low']:.2f}, {each['high']:.2f}]"
            cells.append("not defined" if each["value"] is None else f"{each['value']:.2f}{bounds}")
        return f"| {name} | {scores['counts']['scored']} | " + " | ".join(cells) + " |"

    size, scores = result["size"], result["scores"]
    return "\n".join(
        [
            "# Synthetic lesions in two real prostate exams",
            "",
            f"    {result['command']}",
            "",
            "**Synthetic**: ellipsoids of 3 to 6 mm radius, dark in T2W and ADC and bright in the high-b image by a",
            "contrast in standard deviations of each sequence, drawn into two real exams (ProstateX, CC BY 3.0) that",
            "were moved, mirrored and made noisy. All cases come from two people; intervals are over cases, so they",
            "only describe the draw. Nothing here says anything about cancer.",
            "",
            f"{size['folds']} folds of {size['training']} cases (contrasts 0.25 to 2), {size['iterations']} iterations",
            "of two patches of 64 x 64 x 20 voxels; the folds' ensemble on a test set of its own for each contrast.",
            "",
            "| set | cases | AUROC | AP | sensitivity at 0.5 | at 1 | at 2 false candidates a case |",
            "|---|---|---|---|---|---|---|",
            row("cross-validation, 0.25 to 2", scores["cross_validation"]),
            *(row(f"test, contrast {contrast:g}", scores[f"{contrast:g}"]) for contrast in TEST_CONTRASTS),
            "",
        ]
    )


if __name__ == "__main__":
    main()
