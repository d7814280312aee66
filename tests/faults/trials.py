"""Every fault against every command that meets it: what is planted, what is run, and what must come of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults import hospital
from faults.broken_files import make_broken_files
from faults.hospital import VICTIM, Outcome, attempt_call
from faults.hostile_files import MARKER, config_faults, json_faults, path_faults, tensor_faults

import medssl.bundle.run  # noqa: F401  (before root's rights are given up)
from medssl.bundle.catalog import find_bundle
from medssl.core import exit_codes

_SHIPPED = "hippocampus_mri_supervised"
_NAMED = (exit_codes.SOME_FAILED,)
_REFUSED = (exit_codes.USAGE,)
_STOPPED = (exit_codes.NOTHING_DONE,)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One fault against one command.

    Attributes:
        fault: What is wrong.
        command: What meets it.
        plant: Puts the fault into a hospital folder.
        act: Runs the command there.
        allowed: Exit codes that are right.
        survives: Files that must still be there, and whole, afterwards.
        silent: Whether it may pass without a finding, because this command is right to read the file.
    """

    fault: str
    command: str
    plant: Callable[[Path], object]
    act: Callable[[Path], Outcome]
    allowed: tuple[int, ...]
    survives: tuple[str, ...] = ()
    silent: bool = False

    @property
    def needs_an_ordinary_user(self) -> bool:
        """Whether root's rights would undo the fault."""
        return self.fault == "no_permission"


def all_trials() -> list[Trial]:
    """Return the trials, in the order of the table."""
    return [*_images(), *_pipes(), *_paths(), *_tensors(), *_configs(), *_json()]


def markers(folder: Path) -> list[Path]:
    """Return what hostile code left, wherever it could have left it."""
    return [path for path in (folder / MARKER, folder.parent / MARKER, Path.cwd() / MARKER) if path.exists()]


_FAULTS = ("truncated", "text", "two_d", "four_d", "rgb", "nan_voxels", "zero_spacing", "singular_affine")
_FAULTS += ("huge_header", "empty", "no_permission", "dangling_link")


def _replace(folder: Path, *, name: str, fault: str) -> None:
    path = folder / name
    source = make_broken_files(folder / "broken")[fault]
    path.unlink()
    shutil.move(source, path)  # a link stays a link


def _pipe(folder: Path, *, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def _images() -> Iterator[Trial]:
    for fault in _FAULTS:
        yield from _image_trials(fault, lambda name, fault=fault: partial(_replace, name=name, fault=fault))


def _pipes() -> Iterator[Trial]:
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    if hasattr(os, "mkfifo"):
        yield from _image_trials("pipe", lambda name: partial(_pipe, name=name))


def _image_trials(fault: str, plant: Callable[[str], Callable[[Path], object]]) -> Iterator[Trial]:
    training, test = f"data/{VICTIM['training']}", f"data/{VICTIM['test']}"
    kept = ("predictions/t4.nii.gz",)
    make = partial(Trial, fault=fault)
    yield make(command="check", plant=plant(f"{training}.nii.gz"), act=hospital.check, allowed=_NAMED)
    yield make(command="check (label)", plant=plant(f"{training}_label.nii.gz"), act=hospital.check, allowed=_NAMED)
    yield make(command="train", plant=plant(f"{training}.nii.gz"), act=hospital.train, allowed=_STOPPED)
    # NaN and a plane of two dimensions pass a reader of headers; training skips what is not finite
    yield make(
        command="train loader",
        plant=plant(f"{training}.nii.gz"),
        act=_load,
        allowed=(*_REFUSED, exit_codes.OK) if fault == "nan_voxels" else _REFUSED,
        silent=fault == "nan_voxels",
    )
    yield make(command="infer", plant=plant(f"{test}.nii.gz"), act=hospital.infer, allowed=_NAMED, survives=kept)
    yield make(command="evaluate", plant=plant("predictions/v2.nii.gz"), act=hospital.evaluate, allowed=_NAMED)
    yield make(
        command="report",
        plant=plant(f"{test}.nii.gz"),
        act=hospital.report,
        allowed=(exit_codes.OK,),
        survives=("report.html",),
        silent=fault == "nan_voxels",  # drawn: a picture may have a hole
    )


def _load(folder: Path) -> Outcome:
    """Fill the cache of the training set as the bundles do."""
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

    from medssl.data.datasets import SeededCacheDataset, training_cases

    cases = training_cases(manifest=str(folder / "data" / "manifest.json"))
    keys = ["image", "label"]
    transform = Compose([LoadImaged(keys), EnsureChannelFirstd(keys)])
    return attempt_call(lambda: SeededCacheDataset(cases, transform, num_workers=0))


def _paths() -> Iterator[Trial]:
    acts: dict[str, tuple[Callable[[Path], Outcome], tuple[int, ...], str]] = {
        "check": (hospital.check, _NAMED, "training"),
        "train": (hospital.train, _STOPPED, "training"),
        "infer": (hospital.infer, _REFUSED, "test"),
        "report": (hospital.report, (exit_codes.OK,), "test"),
    }
    for fault, path in path_faults().items():
        for command, (act, allowed, part) in acts.items():
            plant = partial(_set_case, part=part, key="image", path=path)
            yield Trial(fault=fault, command=command, plant=plant, act=act, allowed=allowed)
        plant = partial(_set_case, part="test", key="label", path=path)
        yield Trial(fault=fault, command="evaluate", plant=plant, act=hospital.evaluate, allowed=_REFUSED)


def _set_case(folder: Path, *, part: str, key: str, path: str) -> None:
    manifest = folder / "data" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content[part][-1][key] = path
    manifest.write_text(json.dumps(content), encoding="utf-8")


def _tensors() -> Iterator[Trial]:
    for fault in tensor_faults(Path()):
        make = partial(Trial, fault=fault, allowed=_REFUSED)
        yield make(command="infer (model.pt)", plant=partial(_tensor, fault=fault, name="bundle"), act=_infer_again)
        yield make(command="resume (last.pt)", plant=partial(_resume_file, fault=fault), act=_resume)
        yield make(command="finetune (weights)", plant=partial(_tensor, fault=fault, name="bundle"), act=_read_weights)


def _tensor(folder: Path, *, fault: str, name: str) -> None:
    tensor_faults(folder / MARKER)[fault](folder / name / "models" / "model.pt")


def _infer_again(folder: Path) -> Outcome:
    return hospital.infer(folder, "--overwrite")


def _resume_file(folder: Path, *, fault: str) -> None:
    from training.small_run import small_run

    run = small_run(folder, epochs=1)
    run.trainer.run()
    tensor_faults(folder / MARKER)[fault](folder / "last.pt")


def _resume(folder: Path) -> Outcome:
    from training.small_run import small_run

    return attempt_call(small_run(folder, epochs=2).trainer.run)


def _read_weights(folder: Path) -> Outcome:
    from medssl.networks.weights import read_weights

    return attempt_call(lambda: read_weights(folder / "bundle" / "models" / "model.pt"))


def _configs() -> Iterator[Trial]:
    acts: dict[str, tuple[Callable[[Path], Outcome], str]] = {
        "infer": (_infer_again, "bundle"),
        "train": (partial(_with_shipped, hospital.train), "shipped_mri_bundle"),
        "finetune": (partial(_with_shipped, hospital.finetune), "shipped_mri_bundle"),
        "bundle verify": (partial(_with_shipped, hospital.verify), "shipped_mri_bundle"),
        "bundle info": (partial(_with_shipped, hospital.info), "shipped_mri_bundle"),
    }
    for fault in config_faults(Path()):
        for command, (act, name) in acts.items():
            only_reads = command == "bundle info"
            yield Trial(
                fault=fault,
                command=command,
                plant=partial(_config, fault=fault, name=name),
                act=act,
                allowed=(exit_codes.OK,) if only_reads else _REFUSED,
                silent=only_reads,
            )


def _config(folder: Path, *, fault: str, name: str) -> None:
    if name == "shipped_mri_bundle":
        shutil.copytree(find_bundle(_SHIPPED), folder / name)
    config_faults(folder / MARKER)[fault](folder / name)


def _with_shipped(act: Callable[[Path, Path], Outcome], folder: Path) -> Outcome:
    return act(folder, folder / "shipped_mri_bundle")


def _json() -> Iterator[Trial]:
    files: dict[str, dict[str, tuple[Callable[[Path], Outcome], tuple[int, ...]]]] = {
        "data/manifest.json": {
            "check": (hospital.check, _REFUSED),
            "train": (hospital.train, _REFUSED),
            "infer": (hospital.infer, _REFUSED),
            "evaluate": (hospital.evaluate, _REFUSED),
            "report": (hospital.report, _REFUSED),
        },
        "predictions/run.json": {
            # infer takes the record for none of its own and computes everything again
            "infer (run.json)": (hospital.infer, (exit_codes.OK,)),
            "evaluate (run.json)": (hospital.evaluate, _REFUSED),
            "report (run.json)": (hospital.report, _REFUSED),
        },
        "bundle/configs/inference.json": {"infer (config)": (hospital.infer, _REFUSED)},
        "bundle/configs/metadata.json": {"infer (metadata)": (hospital.infer, _REFUSED)},
        "metrics/metrics.json": {"report (metrics)": (hospital.report, _REFUSED)},
    }
    for fault, damage in json_faults().items():
        for name, acts in files.items():
            for command, (act, allowed) in acts.items():
                plant = partial(_damage, name=name, damage=damage)
                silent = exit_codes.OK in allowed
                yield Trial(fault=fault, command=command, plant=plant, act=act, allowed=allowed, silent=silent)


def _damage(folder: Path, *, name: str, damage: Callable[[Path], Any]) -> None:
    damage(folder / name)
