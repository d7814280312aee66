"""Run a bundle's training or evaluation in a folder that is itself a bundle."""

from __future__ import annotations

import difflib
import json
import logging
import resource
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from medssl.bundle.config import META, BundleConfig, config_path, get_item, read_json, wanted_channels
from medssl.bundle.inherit import write_inherited
from medssl.bundle.resolve import load_config, own_errors, resolved_json, workflow_of
from medssl.core.errors import ConfigError
from medssl.core.files import atomic_folder, sha256_file, sha256_json, sole_writer, sweep_leftovers, write_json
from medssl.core.provenance import provenance
from medssl.data.manifest import Manifest, load_manifest
from medssl.training.distributed import is_launched, is_main_process, process_count, wait_for_all

_logger = logging.getLogger("medssl.bundle")

_SEVERAL = "multi_gpu_train.json"
_RESULTS = "results"
_RESUME = "checkpoints/last.pt"
STARTING_WEIGHTS = "finetune_model_path"
"""Id of the file that a training starts from where `finetune` is true."""
# May change between a run and its continuation without changing what is trained
_FREE_TO_CHANGE = {
    "bundle_root",
    "cache_rate",
    "data_list_file_path",
    "dataset_dir",
    "epochs",
    "num_workers",
    "save_minutes",
    "use_tensorboard",
}
# Key of resolved.json beside the settings
_DATA = "data_sha256"


def copy_bundle(
    bundle: Path, out: Path, *, changed: Mapping[str, Mapping[str, Any]] | None = None, without: Collection[str] = ()
) -> None:
    """Copy a bundle's configuration, documents and licence to `out`, without weights and results, whole or not at all.

    Args:
        bundle: Source bundle.
        out: New folder; may exist if it is empty.
        changed: Configurations that are written instead of the source's, by their names.
        without: Names of configurations that are left out.

    Raises:
        ConfigError: If `out` holds something else already.
    """
    if out.exists() and any(out.iterdir()):
        message = f"{out}: expected an empty or new folder, found files. Choose another --out."
        raise ConfigError(message)
    wanted = [path for name in ("configs", "docs") for path in sorted((bundle / name).rglob("*"))]
    with atomic_folder(out) as folder:
        (folder / "models").mkdir()
        for path in [*wanted, *bundle.glob("LICENSE*")]:
            if path.is_file():
                copy = folder / path.relative_to(bundle)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
        for name in without:
            (folder / "configs" / f"{name}.json").unlink(missing_ok=True)
        for name, content in (changed or {}).items():
            write_json(folder / "configs" / f"{name}.json", content)


def train(
    bundle: Path,
    *,
    manifest: Path,
    out: Path,
    data_root: Path | None = None,
    config_files: Sequence[str] = ("train.json",),
    overrides: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Train a bundle on a manifest, or continue the run that `out` holds.

    Under torchrun, `multi_gpu_train.json` is merged last, and all processes train one network; `out` must be one folder
    for all of them, and only the main process writes to it. A bundle with models/encoder.pt starts from it, unless
    `finetune` is among the overrides.

    Args:
        bundle: Bundle folder; its configuration is copied to `out` at the first start.
        manifest: Manifest file.
        out: Run folder, itself a bundle: configs, models, checkpoints, results.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        config_files: Files of configs/, merged in this order.
        overrides: Configuration ids and their values.
        trust: Run code that bundles do not need.

    Returns:
        The record that the main process also writes to results/run.json; there it names the weights.

    Raises:
        ConfigError: If the configuration is wrong, or it or the cases differ from those of the run to continue.
    """
    encoder = _encoder_of(bundle, config_files)
    if encoder:
        _logger.info("starting from %s; --set finetune=false starts from random weights", encoder[STARTING_WEIGHTS])
    values = {**encoder, **(overrides or {}), **run_paths(out, manifest, data_root)}
    files = (*config_files, _SEVERAL) if is_launched() else tuple(config_files)
    # Every process reads its configuration before the main one begins to copy it
    config = load_config(out if (out / "configs").is_dir() else bundle, files, values, trust=trust)
    dataset = load_manifest(manifest)
    _compare_classes(config, dataset)
    require_channels(config, dataset)
    flow = workflow_of(config, "train")
    with own_errors():
        flow.initialize()  # joins the processes
    is_main = is_main_process()
    record = provenance("train", manifest=dataset.sha256(), overrides=dict(overrides or {}))
    if is_main:
        copy_once(bundle, out)
    with sole_writer(out) if is_main else nullcontext():
        if is_main:
            prepare_run(out, settings_of(config, dataset))
        record |= run_initialized(flow)
        if is_main:
            write_inherited(out, config, overrides or {})
    if is_main:
        record["weights_sha256"] = sha256_file(out / "models" / "model.pt")
        write_json(out / _RESULTS / "run.json", record)
    return record


def run_paths(out: Path, manifest: Path, data_root: Path | None) -> dict[str, str]:
    """Return the overrides that say where a run reads and writes."""
    return {
        "bundle_root": str(out.resolve()),
        "dataset_dir": str((data_root or manifest.parent).resolve()),
        "data_list_file_path": str(manifest.resolve()),
    }


def _encoder_of(bundle: Path, config_files: Sequence[str]) -> dict[str, Any]:
    """Return the overrides that let a training start from the pre-trained encoder of its bundle, if it has one."""
    encoder = bundle / "models" / "encoder.pt"
    if not encoder.is_file() or not any("finetune" in read_json(config_path(bundle, each)) for each in config_files):
        return {}
    return {"finetune": True, STARTING_WEIGHTS: str(encoder.resolve())}


def weights_to_start_from(bundle: Path, config_files: Sequence[str], overrides: Mapping[str, Any]) -> Path | None:
    """Return the weights file that `train` would start from by these overrides or its encoder; None for random ones."""
    values = {**_encoder_of(bundle, config_files), **overrides}
    path = values.get(STARTING_WEIGHTS)
    return Path(path) if values.get("finetune") and isinstance(path, str) else None


def _mapped_values(config: BundleConfig) -> dict[str, str]:
    """Return label value to channel where the training maps them, as a fine-tuned bundle does."""
    try:
        transforms = get_item(config.content, "train#preprocessing#transforms")
    except KeyError:
        return {}
    maps = [each for each in transforms if isinstance(each, Mapping) and each.get("_target_") == "MapLabelValued"]
    return {
        str(value): str(channel)
        for each in maps
        for value, channel in zip(each["orig_labels"], each["target_labels"], strict=True)
    }


def require_channels(config: BundleConfig, manifest: Manifest) -> None:
    """Refuse a dataset whose cases have not the channels that the bundle's network takes.

    Raises:
        ConfigError: If they have more or fewer.
        ManifestError: If cases have different numbers of them.
    """
    wanted = wanted_channels(config.content)
    if not wanted or not any(manifest.cases()):
        return
    if len(wanted) != (found := manifest.channels()):
        message = (
            f"manifest {manifest.name!r}: expected {len(wanted)} image files in each case, as the bundle's input has "
            f"({', '.join(wanted)}), found {found}."
        )
        raise ConfigError(message, fix="Import the data anew, or adapt the bundle to it with medssl finetune.")


def _compare_classes(config: BundleConfig, manifest: Manifest) -> None:
    """Refuse a dataset that gives a class of the bundle another value: the weights would be named the wrong way round.

    Raises:
        ConfigError: If it does. Classes of other names are trained, with a warning.
    """
    metadata = config.content.get(META, {})
    named = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {}).get("channel_def", {})
    bundle = {str(name).casefold(): str(value) for value, name in named.items()}
    mapped = _mapped_values(config)
    dataset = {name.casefold(): mapped.get(value, value) for value, name in manifest.labels.items()}
    moved = [f"{name} {bundle[name]} -> {value}" for name, value in dataset.items() if bundle.get(name, value) != value]
    if moved:
        message = (
            f"manifest {manifest.name!r}: expected the label values of the bundle, found others: {', '.join(moved)}."
        )
        raise ConfigError(message, fix="Remap the labels, or use medssl finetune, which adapts the bundle to the data.")
    if dataset.keys() != bundle.keys():
        found, known = ", ".join(manifest.labels.values()), ", ".join(map(str, named.values()))
        _logger.warning(
            "the data has the classes %s, and the bundle will call them %s; see medssl finetune", found, known
        )


def run_initialized(flow: Any) -> dict[str, Any]:
    """Run and finalize, once the main process has prepared the folder; return what it cost."""
    processes = process_count()
    wait_for_all()
    started = time.monotonic()
    with own_errors():
        flow.run()
        flow.finalize()  # parts the processes
    return {
        "processes": processes,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def copy_once(bundle: Path, out: Path) -> None:
    """Make the run folder, unless it is a bundle already.

    Args:
        bundle: Source bundle.
        out: Run folder.

    Raises:
        ConfigError: If `out` holds something else, or is a bundle whose weights no run of this folder has made.
    """
    if not (out / "configs").is_dir():
        copy_bundle(bundle, out)
    elif (out / "models" / "model.pt").is_file() and not (
        (out / _RESULTS / "resolved.json").is_file() or (out / _RESUME).is_file()
    ):
        message = f"{out}: expected an empty or new folder, or one of a run, found a bundle with weights of its own."
        raise ConfigError(message, fix="Choose another --out folder; the weights there would be lost.")


def prepare_run(out: Path, settings: dict[str, Any], *, results: str = _RESULTS, resume: str = _RESUME) -> None:
    """Refuse to continue a run that had other settings; then record the settings. Its only writer calls this.

    Args:
        out: Run folder.
        settings: What `settings_of` returned.
        results: Folder below `out` that keeps resolved.json.
        resume: Resume file below `out`.

    Raises:
        ConfigError: If `out` holds a run with other settings.
    """
    sweep_leftovers(out)
    saved_file = out / results / "resolved.json"
    if (out / resume).is_file() and saved_file.is_file():
        # Runs of earlier versions do not name their data
        saved = {_DATA: settings[_DATA]} | read_json(saved_file)
        _refuse_changed_settings(out, deciding_settings(saved), deciding_settings(settings))
    write_json(saved_file, settings)


def settings_of(config: BundleConfig, manifest: Manifest) -> dict[str, Any]:
    """Return everything that decides what a run trains: the merged configuration and the hash of its cases."""
    return resolved_json(config) | {_DATA: _data_sha256(manifest)}


def deciding_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run shares with its continuation."""
    # A start is a share of the run, so with more epochs a run in its second stage would fall back into the first one.
    # Refused, rather than told of: a resumed run that equals no undisturbed one is worth nothing
    free = _FREE_TO_CHANGE - ({"epochs"} if _has_two_stages(settings) else set())
    return {key: value for key, value in settings.items() if key not in free}


def _has_two_stages(settings: Mapping[str, Any]) -> bool:
    """Tell whether the step has a weight that stays 0 up to a share of the run, as co-training has."""
    try:
        weight = get_item(settings, "train#step#weight")
        if isinstance(weight, str):
            weight = get_item(settings, weight.removeprefix("@"))
    except KeyError:
        return False
    return isinstance(weight, Mapping) and "total_steps" in str(weight.get("start"))


def _refuse_changed_settings(out: Path, saved: dict[str, Any], settings: dict[str, Any]) -> None:
    before, now = _lines(saved), _lines(settings)
    changed = [line for line in difflib.unified_diff(before, now, "saved run", "this command", n=0, lineterm="")]
    if changed:
        message = f"{out}: the run to continue has other settings:\n" + "\n".join(changed)
        if "epochs" in saved and saved["epochs"] != settings.get("epochs"):
            message += "\nIts second stage begins at a share of all epochs, so that more of them would move it."
        message += "\nPut the settings back to resume, or start a new run in another --out folder."
        raise ConfigError(message)


def _data_sha256(manifest: Manifest) -> str:
    """Return the hash of what training reads of a manifest, wherever its files lie; other test cases change nothing."""
    content = manifest.to_json()
    return sha256_json({key: content[key] for key in ("labels", "training", "unlabeled", "validation")})


def _lines(settings: dict[str, Any]) -> list[str]:
    return json.dumps(settings, indent=1, sort_keys=True).splitlines()
