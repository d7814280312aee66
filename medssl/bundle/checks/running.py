"""B14, B15, B18: the network with its weights, on one patch and on a whole image; and what all runs of a check need."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import nn

from medssl.bundle.checks.phantoms import SEED, image_path, phantom_shape, write_phantom_image
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.predictor import load_weights
from medssl.bundle.resolve import build_network, load_config, run_workflow, workflow
from medssl.core.errors import CheckpointError
from medssl.core.findings import Finding

_PARTS = ("configs", "models", "docs")
_ATOL_MM = 1e-3
_SHORT = {"num_workers": 0, "val_interval": 1, "use_tensorboard": False, "save_minutes": 1e6, "select_best": False}


def weights(subject: Subject) -> Iterator[Finding]:
    """B14: model.pt is a flat dictionary of finite tensors and fits `network_def` strictly."""
    path = subject.folder / "models" / "model.pt"
    if not path.is_file():
        yield not_shipped(subject)
        return
    try:
        load_weights(bare_network(subject.folder), path)
    except CheckpointError as error:
        yield finding("B14", f"models/{path.name}", error.text, error.fix)


def forward(subject: Subject) -> Iterator[Finding]:
    """B15: MONAI's own `verify_net_in_out`, and one tensor of the declared shape on the declared patch."""
    from monai.bundle import verify_net_in_out

    configs = subject.folder / "configs"
    try:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.json"),
            device="cpu",
        )
    except Exception as error:  # MONAI raises whatever the network raises
        text = f"monai.bundle verify_net_in_out fails: {type(error).__name__}: {error}"
        yield finding("B15", "inference.json, network_def", text, "Make metadata and network agree.")
    yield from _patch_findings(subject)


def geometry(subject: Subject) -> Iterator[Finding]:
    """B18: a stock inference run of an oblique image; its label map lies on the image's own grid."""
    if not subject.segments:
        return
    with runnable_copy(subject) as bundle:
        image = bundle / "phantom" / "phantom.nii.gz"
        paths = write_phantom_image(image, channels=subject.channels, shape=phantom_shape(subject))
        out = bundle / "out"
        flow = workflow(
            bundle,
            ("inference",),
            workflow_type="inference",
            overrides={"datalist": paths, "output_dir": str(out), "device": "cpu"},
        )
        run_workflow(flow)
        written = sorted(out.rglob("*.nii.gz"))
        if len(written) != 1:
            text = f"expected one output for one image, found {len(written)}"
            yield finding("B18", "inference.json, postprocessing", text, "Save each case once.")
            return
        yield from _grid_findings(Path(image_path(paths[0])), written[0])


@contextmanager
def runnable_copy(subject: Subject) -> Iterator[Path]:
    """Yield a copy of the bundle in which runs may write; weights that are not shipped are drawn at random."""
    with tempfile.TemporaryDirectory(prefix="medssl-verify-") as folder:
        copy = Path(folder) / subject.folder.name
        for part in _PARTS:
            if (subject.folder / part).is_dir():
                shutil.copytree(subject.folder / part, copy / part)
        path = copy / "models" / "model.pt"
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            torch.save(bare_network(copy).state_dict(), path)
        yield copy


def known_overrides(subject: Subject, wished: Mapping[str, Any]) -> dict[str, Any]:
    """Return those overrides whose ids the bundle's train.json has."""
    return {item_id: value for item_id, value in wished.items() if item_id in subject.configs["train"]}


def short(subject: Subject, *, epochs: int, iterations: int) -> dict[str, Any]:
    """Return the overrides, among the ids that the bundle has, that make a training as short as asked."""
    return known_overrides(subject, {**_SHORT, "epochs": epochs, "iterations_per_epoch": iterations})


def data_places(manifest: Path) -> dict[str, Any]:
    """Return the overrides that make a run read a manifest of phantoms, on the CPU."""
    return {"data_list_file_path": str(manifest), "dataset_dir": str(manifest.parent), "device": "cpu"}


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums over several threads come in any order, so only one thread repeats a run bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bare_network(bundle: Path) -> nn.Module:
    """Build `network_def` of inference.json on the CPU, with weights drawn from a fixed seed."""
    config = load_config(bundle, ("inference",))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build_network(config).eval()


def network_with_weights(bundle: Path) -> nn.Module:
    """Build `network_def` with the bundle's weights, where it has any."""
    network = bare_network(bundle)
    path = bundle / "models" / "model.pt"
    if path.is_file():
        load_weights(network, path)
    return network.eval()


def not_shipped(subject: Subject) -> Finding:
    """Return the finding for missing weights: a warning where metadata says that they are not shipped."""
    if subject.metadata.get("weights") == "not shipped":
        text = "the weights are not shipped; the checks run on random ones"
        return finding("B14", "models/model.pt", text, "Make them as docs/README.md says.", severity="warning")
    fix = 'Train the bundle; or say "weights": "not shipped" in metadata.json.'
    return finding("B14", "models/model.pt", "the weights are missing", fix)


def _patch_findings(subject: Subject) -> Iterator[Finding]:
    size = subject.patch
    image = torch.randn(1, subject.channels, *size, generator=torch.Generator().manual_seed(SEED))
    with torch.inference_mode():
        pred = network_with_weights(subject.folder)(image)
    where = "inference.json, network_def"
    if not isinstance(pred, torch.Tensor):
        text = f"expected one tensor in evaluation mode, found {type(pred).__name__}"
        yield finding("B15", where, text, "Return the final logits alone unless the network is training.")
        return
    declared = subject.pred
    wanted = (1, declared.get("num_channels"), *(size if subject.segments else ()))
    if tuple(pred.shape) != wanted:
        text = f"expected logits of shape {wanted} for the declared patch, found {tuple(pred.shape)}"
        yield finding("B15", where, text, "Make metadata and network agree.")
    if not torch.isfinite(pred).all():
        yield finding("B15", where, "the output of a random patch is not finite", "Train the weights again.")
    if str(pred.dtype).removeprefix("torch.") != declared.get("dtype"):
        text = f"metadata declares {declared.get('dtype')}, the network returns {pred.dtype}"
        yield finding("B15", where, text, "Make metadata and network agree.")


def _grid_findings(image: Path, output: Path) -> Iterator[Finding]:
    given, made = nib.load(image), nib.load(output)
    where, fix = "inference.json, postprocessing", "Invert the preprocessing before saving (Invertd)."
    if made.shape != given.shape:
        text = f"expected the image's shape {given.shape}, found {made.shape}"
        yield finding("B18", where, text, fix)
    shift = float(np.abs(made.affine - given.affine).max())
    if shift > _ATOL_MM:
        text = f"expected the image's affine, found one that differs by up to {shift:.3g} mm: {_rounded(made.affine)}"
        yield finding("B18", where, text, fix)
    if not np.issubdtype(made.get_data_dtype(), np.integer):
        text = f"expected whole label values, found {made.get_data_dtype()}"
        yield finding("B18", where, text, "Set output_dtype of SaveImaged to $numpy.uint8.")


def _rounded(affine: Any) -> str:
    return json.dumps(np.round(affine, 3).tolist())
