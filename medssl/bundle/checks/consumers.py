"""B16, B17: the steps by which MONAI Label and the MONAI Deploy App SDK read a bundle, replayed on a phantom.

medssl needs neither; what they do to a configuration is written down in the rules for bundles, and is done to
the bundle in the same order, with MONAI's own parser and engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import torch

from medssl.bundle.checks.phantoms import image_path, phantom_shape, write_phantom_cases, write_phantom_image
from medssl.bundle.checks.running import data_places, runnable_copy, short
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import get_item
from medssl.bundle.resolve import run_workflow, workflow
from medssl.core.findings import Finding
from medssl.data.datasets import training_cases

_LABEL_MAP_DIMENSIONS = 4  # one channel and three axes, as both hosts hand it on


def label(subject: Subject) -> Iterator[Finding]:
    """B16: MONAI Label's reading of metadata and inference.json, and its changes to train.json."""
    if not subject.segments:
        return
    named = list(_label_metadata(subject))
    yield from named
    if named:
        return  # without sound names no data can be made for the rest
    with runnable_copy(subject) as bundle:
        yield from _result_findings("B16", subject, bundle)
        if "train" in subject.configs:
            yield from _label_training(subject, bundle)


def deploy(subject: Subject) -> Iterator[Finding]:
    """B17: Deploy's bundle operator: no LoadImaged, an image from memory, no SaveImaged, a uint8 label map."""
    if not subject.segments:
        return
    names = [part.get("_target_") for part in _transforms(subject, "preprocessing")]
    remaining = [name for name in names if name != "LoadImaged"]
    if not remaining or not str(remaining[0]).endswith("d"):
        text = f"without LoadImaged the first transform is {remaining[:1]}, not a map transform"
        yield finding("B17", "inference.json, preprocessing", text, "Put a map transform (…d) behind LoadImaged.")
        return
    with runnable_copy(subject) as bundle:
        yield from _result_findings("B17", subject, bundle)


def _label_metadata(subject: Subject) -> Iterator[Finding]:
    layout = subject.metadata["network_data_format"]
    first_input, first_output = next(iter(layout["inputs"].values())), next(iter(layout["outputs"].values()))
    named = {str(name).lower(): value for value, name in first_output.get("channel_def", {}).items()}
    where = "metadata.json, network_data_format"
    if "background" not in named:
        text = "channel 0 is not called background, so MONAI Label would offer it as a structure"
        yield finding("B16", where, text, 'Write "0": "background".')
    if len(named) != len(first_output.get("channel_def", {})):
        yield finding("B16", where, "two classes have one name once they are lower case", "Rename one.")
    if len(first_input.get("spatial_shape", [])) not in (2, 3):
        yield finding("B16", where, "the length of spatial_shape is not the dimension of the image", "Write it out.")


def _result_findings(code: str, subject: Subject, bundle: Path) -> Iterator[Finding]:
    """Run one image from memory through what a host keeps of inference.json, and look at the result."""
    result = _host_result(subject, bundle)
    where = "inference.json, postprocessing"
    if not isinstance(result, torch.Tensor) or result.ndim != _LABEL_MAP_DIMENSIONS or result.shape[0] != 1:
        text = f"without SaveImaged the result is {_described(result)}, expected a label map (1, X, Y, Z)"
        yield finding(code, where, text, "End with Invertd and AsDiscreted (argmax) before SaveImaged.")
        return
    if tuple(result.shape[1:]) != phantom_shape(subject):
        text = f"the label map has the shape {tuple(result.shape[1:])}, the image {phantom_shape(subject)}"
        yield finding(code, where, text, "Invert the preprocessing (Invertd).")
    values = result.unique()
    count = subject.pred["num_channels"]
    if not torch.equal(values, values.round().clamp(0, min(count, 256) - 1)):
        text = f"the label map holds values that are no class of uint8: {values[:5].tolist()}"
        yield finding(code, where, text, "Take the argmax (AsDiscreted) after Invertd.")


def _host_result(subject: Subject, bundle: Path) -> Any:
    """Return `pred` of one case: image in memory, transforms without LoadImaged and SaveImaged, inferer, network."""
    from monai.data import MetaTensor
    from monai.transforms import Compose, LoadImaged, SaveImaged

    paths = write_phantom_image(
        bundle / "phantom" / "phantom.nii.gz", channels=subject.channels, shape=phantom_shape(subject)
    )
    flow = workflow(bundle, ("inference",), workflow_type="inference", overrides={"datalist": [], "device": "cpu"})
    flow.initialize()
    parser = flow.parser
    before = Compose([each for each in _built(parser, "preprocessing") if not isinstance(each, LoadImaged)])
    after = Compose([each for each in _built(parser, "postprocessing") if not isinstance(each, SaveImaged)])
    inferer = parser.get_parsed_content("inferer")
    network = parser.get_parsed_content("network").eval()
    data = before({"image": _in_memory(paths[0], MetaTensor)})
    with torch.inference_mode():
        logits = inferer(data["image"][None], network)
    return after({**data, "pred": logits[0]})["pred"]


def _in_memory(item: Any, kind: Any) -> Any:
    """Return what a host that has read the file itself hands on: voxels with affine, channels not yet first."""
    files = item if isinstance(item, list) else [item]
    volumes = [torch.as_tensor(nib.load(path).get_fdata(dtype="float32")) for path in files]
    affine = torch.as_tensor(nib.load(image_path(item)).affine)
    voxels = volumes[0] if len(volumes) == 1 else torch.stack(volumes)
    meta = {"original_channel_dim": float("nan") if len(volumes) == 1 else 0}
    return kind(voxels, affine=affine, meta={**meta, "affine": affine, "original_affine": affine})


def _label_training(subject: Subject, bundle: Path) -> Iterator[Finding]:
    """Change train.json as MONAI Label does, and train one short epoch on pairs without any other key."""
    manifest = write_phantom_cases(bundle / "data", subject)
    overrides = short(subject, epochs=1, iterations=1) | data_places(manifest)
    flow = workflow(bundle, ("train",), overrides=overrides)
    parser = flow.parser
    pairs = _label_pairs(manifest)
    parser["train#trainer#max_epochs"] = 1
    parser["train#dataset#data"] = pairs
    parser["validate#dataset#data"] = pairs[:1]
    handlers = parser.get("train#handlers")
    if not any(each.get("_target_") == "CheckpointLoader" for each in handlers):
        path = str(bundle / "models" / "model.pt")
        loader = {"_target_": "CheckpointLoader", "load_path": path, "load_dict": {"model": "$@network"}}
        handlers.insert(0, loader)
    parser["train#handlers"] = handlers
    try:
        run_workflow(flow)
    except Exception as error:  # whatever the bundle raises is what a user of Label would meet
        text = f"training as MONAI Label starts it fails: {type(error).__name__}: {error}"
        yield finding("B16", "train.json", text, "Let train#dataset#data, handlers and max_epochs be overwritten.")


def _label_pairs(manifest: Path) -> list[dict[str, Any]]:
    return [{"image": case["image"], "label": case["label"]} for case in training_cases(manifest=str(manifest))]


def _built(parser: Any, item_id: str) -> list[Any]:
    return list(parser.get_parsed_content(item_id).transforms)


def _transforms(subject: Subject, item_id: str) -> list[Mapping[str, Any]]:
    try:
        listed = get_item(subject.configs["inference"], f"{item_id}#transforms")
    except KeyError:
        return []
    return [each for each in listed if isinstance(each, Mapping)]


def _described(result: Any) -> str:
    return f"a tensor of shape {tuple(result.shape)}" if isinstance(result, torch.Tensor) else type(result).__name__
