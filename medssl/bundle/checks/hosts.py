"""B07, B08, B09: what MONAI Label, Deploy, Slicer and the zoo's tests rely on in train.json and inference.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import BundleConfig, get_item, walk
from medssl.bundle.expressions import references
from medssl.bundle.targets import find_target
from medssl.core.findings import Finding

_INFERENCE_KEYS = (
    "imports", "bundle_root", "dataset_dir", "output_dir", "datalist", "device", "network_def", "network",
    "preprocessing", "dataset", "dataloader", "inferer", "postprocessing", "handlers", "evaluator", "initialize", "run",
)  # fmt: skip
_HANDLERS = ("train#handlers", "validate#handlers")
_UNLABELED = ("dataset", "dataset#data", "sampler", "dataloader")
_SEMI_SUPERVISED = re.compile(r"medssl\.methods\.(umct|baselines)\b")
_FIX = "See the rules for bundles; hosts change or read this part by its exact form."


def handlers(subject: Subject) -> Iterator[Finding]:
    """B07: literal handler lists by the rules of hosts, and no override by position."""
    seen = set()
    for _, config in subject.workflows("train"):
        for found in _handler_findings(config):
            if (found.where, found.text) not in seen:
                seen.add((found.where, found.text))
                yield found
    for name, content in subject.configs.items():
        for key in content:
            if any(part.isdigit() for part in key.replace("::", "#").split("#")):
                text = "an override by position breaks when the list changes"
                yield finding("B07", f"{name}.json, {key}", text, "Extend the list with '+', or use _disabled_.")


def inference(subject: Subject) -> Iterator[Finding]:
    """B08: inference.json as one self-contained file of stock components."""
    content = subject.configs.get("inference")
    if content is None:
        return
    present = [key for key in content if key in _INFERENCE_KEYS]
    for key in _INFERENCE_KEYS:
        if key not in content:
            yield _inference(key, "this key is required")
    if present != [key for key in _INFERENCE_KEYS if key in content]:
        text = f"expected the order {', '.join(_INFERENCE_KEYS)}"
        yield finding("B08", "inference.json", text, "Reorder the keys.", severity="warning")
    yield from _roots(content)
    yield from _transforms(content, segments=subject.segments)
    yield from _hosts(content)


def unlabeled(subject: Subject) -> Iterator[Finding]:
    """B09: unlabelled data under its own ids, never through a loader that cannot be empty."""
    content = subject.configs.get("train", {})
    semi_supervised = any(
        isinstance(value, str) and item_id.endswith("_target_") and _SEMI_SUPERVISED.match(value)
        for item_id, value in walk(content)
    )
    if not (semi_supervised or "unlabeled" in content or "unlabeled_datalist" in content):
        return
    if "unlabeled_datalist" not in content:
        yield finding("B09", "train.json, unlabeled_datalist", "this id is required, with the default []", _FIX)
    for name in _UNLABELED:
        if _item(content, f"unlabeled#{name}") is None:
            yield finding("B09", f"train.json, unlabeled#{name}", "this id is required", _FIX)
    if _item(content, "unlabeled#dataloader#shuffle"):
        text = "shuffle fails on an empty list of unlabelled cases"
        yield finding("B09", "train.json, unlabeled#dataloader#shuffle", text, "Use the sampler instead.")


def _handler_findings(config: BundleConfig) -> Iterator[Finding]:
    for item_id in _HANDLERS:
        listed = _item(config.content, item_id)
        if listed is None:
            continue
        if not isinstance(listed, list) or not all(isinstance(each, dict) and "_target_" in each for each in listed):
            text = "expected a literal list of components, each with _target_"
            yield finding("B07", config.locate(item_id), text, "Write the list out; Label inserts into it.")
            continue
        for number, handler in enumerate(listed):
            where = config.locate(f"{item_id}#{number}")
            for text in _handler_problems(item_id, handler):
                yield finding("B07", where, text, _FIX)
    for item_id, value in walk(config.content):
        if "epochs" in references(value) and item_id != "train#trainer#max_epochs":
            text = "@epochs is read directly, so a host that sets max_epochs is not followed"
            yield finding("B07", config.locate(item_id), text, "Read @train#trainer#max_epochs.")


def _handler_problems(item_id: str, handler: Mapping[str, Any]) -> Iterator[str]:
    target = str(handler["_target_"])
    name = target.rpartition(".")[2]
    if name == "CheckpointLoader" and item_id == "train#handlers":
        yield "the stock CheckpointLoader keeps Label from loading the pretrained weights; use medssl's own"
    if name == "ValidationHandler":
        if target != name:
            yield "ValidationHandler is written by its short name, or its ids are silently not checked"
        if handler.get("interval") != "@val_interval":
            yield f"the interval must be @val_interval, found {handler.get('interval')!r}"
        if str(handler.get("validator")).replace("::", "#") != "@validate#evaluator":
            yield f"the validator must be @validate#evaluator, found {handler.get('validator')!r}"


def _roots(content: Mapping[str, Any]) -> Iterator[Finding]:
    for item_id, value in walk(dict(content)):
        if isinstance(value, str) and value.startswith("%"):
            yield _inference(item_id, "a macro; hosts read this file alone")
        if not item_id.endswith("_target_") or not isinstance(value, str):
            continue
        root = value.split(".")[0]
        ours = item_id.startswith("network_def") and root == "medssl"
        if "." in value and root not in {"monai", "torch", "ignite"} and not ours:
            yield _inference(item_id, f"{value!r} is not part of monai, torch or ignite")


def _transforms(content: Mapping[str, Any], *, segments: bool) -> Iterator[Finding]:
    for item_id in ("preprocessing", "postprocessing"):
        listed = _item(content, f"{item_id}#transforms")
        if not isinstance(listed, list) or not listed or _target(content.get(item_id)) != "Compose":
            yield _inference(item_id, "expected a Compose of transforms")
            continue
        names = [_target(transform) for transform in listed]
        for number, name in enumerate(names):
            if not _is_map_transform(name):
                yield _inference(f"{item_id}#transforms#{number}", f"{name!r} is not a map transform (…d) of MONAI")
        yield from _ends(item_id, names, segments=segments)
    for transform in _item(content, "postprocessing#transforms") or []:
        if _target(transform) == "Invertd" and transform.get("nearest_interp", True) is not False:
            yield _inference("postprocessing", "Invertd needs nearest_interp false: it restores probabilities")


def _ends(item_id: str, names: list[str], *, segments: bool) -> Iterator[Finding]:
    if item_id == "preprocessing" and names[0] != "LoadImaged":
        yield _inference(f"{item_id}#transforms#0", f"the first must be exactly LoadImaged, found {names[0]!r}")
    if item_id == "postprocessing":
        last = "SaveImaged" if segments else "SaveClassificationd"
        if names[-1] != last:
            yield _inference(f"{item_id}#transforms", f"the last must be exactly {last}, found {names[-1]!r}")
        for needed in ("Invertd", "AsDiscreted") if segments else ("Activationsd",):
            if needed not in names:
                yield _inference(f"{item_id}#transforms", f"{needed} is missing")


def _hosts(content: Mapping[str, Any]) -> Iterator[Finding]:
    first = _item(content, "handlers#0") or {}
    if _target(first) != "CheckpointLoader" or first.get("load_dict") != {"model": "@network"}:
        yield _inference("handlers#0", 'expected the stock CheckpointLoader with load_dict {"model": "@network"}')
    if not _target(content.get("inferer")):
        yield _inference("inferer", "expected a component; without one Label runs the whole volume at once")
    if _item(content, "dataloader#num_workers") != 0:
        yield _inference("dataloader#num_workers", "expected 0, which Slicer and Windows rely on")
    panel = content.get("displayable_configs", {})
    if not isinstance(panel, dict) or any(isinstance(value, (dict, list)) for value in panel.values()):
        yield _inference("displayable_configs", "expected plain numbers and texts for Label's panel")


def _is_map_transform(name: str) -> bool:
    from monai.transforms import MapTransform

    found = find_target(name)
    return isinstance(found, type) and issubclass(found, MapTransform) and "Lambda" not in name


def _target(component: Any) -> str:
    return str(component.get("_target_", "")) if isinstance(component, dict) else ""


def _item(content: Any, item_id: str) -> Any:
    try:
        return get_item(content, item_id)
    except KeyError:
        return None


def _inference(item_id: str, text: str) -> Finding:
    return finding("B08", f"inference.json, {item_id}", text, _FIX)
