"""From a bundle folder to a predictor that runs cases: configuration checked, weights loaded strictly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medssl.bundle.config import META, BundleConfig, wanted_channels
from medssl.bundle.resolve import load_config, resolved_json
from medssl.core.cores import usable_cores
from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.files import sha256_file, sha256_json
from medssl.inference.lesions import candidate_rule
from medssl.inference.predictor import BundleFacts, Predictor
from medssl.inference.settings import mirrored_axes, output_rule, preprocessing_steps, tile_settings
from medssl.inference.tiles import TileSettings
from medssl.networks.uncertainty_net import MAPS, UncertaintyNet

_MOST_LANES = 8


def load_predictor(
    bundle: Path,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    overlap: float | None = None,
    workers: int | None = None,
    uncertainty: bool = False,
    trust: bool = False,
) -> Predictor:
    """Build what `configs/inference.json` describes and load its weights.

    Args:
        bundle: Folder of the bundle.
        device: "auto" (GPU if there is one), or a torch device such as "cpu" or "cuda:1".
        batch_size: Tiles at once; by default the bundle's on a GPU and 1 on a CPU, where lanes do better than batches.
        overlap: Share that neighbouring tiles share; by default the bundle's.
        workers: Tiles computed side by side on a CPU; by default one for each core, at most 8.
        uncertainty: Also make the maps of `UncertaintyNet`, with 10 stochastic passes.
        trust: Run code that bundles do not need.

    Raises:
        ConfigError: If the configuration cannot be read or asks for what the runner does not know, or the network
            has no uncertainty to tell.
        TrustError: If the bundle would run code and `trust` is not given.
        CheckpointError: If the weights are missing, hold more than tensors or do not fit.
    """
    config = load_config(bundle, ("inference",), trust=trust)
    _require_parts(config)
    parser = bundle_parser(config, bundle)
    chosen = choose_device(device)
    tiles = _tiles(parser.get_parsed_content("inferer"), chosen, batch_size=batch_size, overlap=overlap)
    rule = output_rule(parser.get_parsed_content("postprocessing"))
    steps = preprocessing_steps(parser.get_parsed_content("preprocessing"))
    weights = weights_path(parser, bundle)
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    if uncertainty:
        network = UncertaintyNet(network)
    return Predictor(
        network=network,
        preprocessing=steps,
        tiles=tiles,
        rule=rule,
        facts=bundle_facts(config, bundle, weights),
        device=chosen,
        amp_dtype=chosen_dtype(parser, chosen),
        # Masks are put into the network for a pass, which two lanes at once would mix up
        lanes=1 if uncertainty else _lanes(chosen, workers),
        maps=MAPS if uncertainty else (),
        candidates=candidate_rule(config.content.get("lesion_candidates")),
        mirrors=mirrored_axes(config.content.get("flip_axes")),
    )


def choose_device(device: str) -> torch.device:
    """Return the torch device behind a name; "auto" takes the GPU if there is one.

    Raises:
        ConfigError: If the name is no device, or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        message = f"--device: expected auto, cpu, cuda or cuda:N, found {device!r}."
        raise ConfigError(message) from error
    there = torch.cuda.device_count() if chosen.type == "cuda" else 1
    if chosen.type not in ("cpu", "cuda") or (chosen.index or 0) >= there:
        message = (
            f"--device: expected a device of this machine (cpu, {torch.cuda.device_count()} GPUs), found {device!r}."
        )
        raise ConfigError(message)
    return chosen


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from a bare state dict; every tensor must fit.

    Raises:
        CheckpointError: If the file is missing, holds more than tensors, has non-finite values or does not fit.
    """
    fix = "Train the bundle (medssl train, medssl finetune), or download its weights if it names any to download."
    if not path.is_file():
        text = f"{path.parent.name}/{path.name}: expected the bundle's weights, found no file."
        raise CheckpointError(text, fix=fix, code="weights-missing")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        text = f"{path.name}: expected a state dict of tensors, found something that is not safe to load ({error})."
        raise CheckpointError(text, fix="Save network.state_dict() again.", code="weights-format") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        text = f"{path.name}: expected a bare state dict of tensors, found other values."
        raise CheckpointError(text, fix="Save network.state_dict() alone.", code="weights-format")
    broken = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        text = f"{path.name}: expected finite weights, found NaN or infinite ones in {len(broken)} tensors."
        raise CheckpointError(text, fix=fix, code="weights-not-finite")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        text = f"{path.name}: expected the tensors of network_def, found others. {error}"
        raise CheckpointError(text, fix="Use the weights of this architecture.", code="weights-do-not-fit") from error


def _require_parts(config: BundleConfig) -> None:
    missing = [
        key for key in ("network_def", "preprocessing", "inferer", "postprocessing") if key not in config.content
    ]
    if missing:
        message = f"inference.json: expected what segmenting needs, found no {', '.join(missing)}. Complete the bundle."
        raise ConfigError(message)


def bundle_parser(config: BundleConfig, bundle: Path) -> Any:
    """Return MONAI's parser of a configuration that `load_config` returned, with the network on the CPU."""
    from monai.bundle import ConfigParser

    # The network goes to its device later: here it only takes its weights.
    return ConfigParser(config=deepcopy(config.content) | {"bundle_root": str(bundle), "device": "cpu"})


def _tiles(inferer: Any, device: torch.device, *, batch_size: int | None, overlap: float | None) -> TileSettings:
    if batch_size is not None and batch_size < 1:
        message = f"--batch-size: expected 1 or more, found {batch_size}."
        raise ConfigError(message)
    if overlap is not None and not 0 <= overlap < 1:
        message = f"--overlap: expected a share from 0 to below 1, found {overlap:g}."
        raise ConfigError(message)
    tiles = tile_settings(inferer)
    size = batch_size or (tiles.batch_size if device.type == "cuda" else 1)
    return dataclasses.replace(tiles, batch_size=size, overlap=tiles.overlap if overlap is None else (overlap,) * 3)


def weights_path(parser: Any, bundle: Path) -> Path:
    """Return what the configuration's CheckpointLoader loads, or models/model.pt."""
    for number, handler in enumerate(parser.get("handlers") or []):
        if isinstance(handler, Mapping) and handler.get("_target_") == "CheckpointLoader":
            return Path(parser.get_parsed_content(f"handlers#{number}#load_path"))
    return bundle / "models" / "model.pt"


def bundle_facts(config: BundleConfig, bundle: Path, weights: Path) -> BundleFacts:
    """Return what outputs say of the bundle that made them.

    Raises:
        ConfigError: If its metadata names no classes.
    """
    metadata = config.content.get(META, {})
    return BundleFacts(
        name=bundle.resolve().name,
        version=str(metadata.get("version", "")),
        weights_sha256=sha256_file(weights),
        config_sha256=sha256_json(resolved_json(config)),
        labels=_class_names(metadata),
        channels=wanted_channels(config.content),
    )


def _class_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the classes that metadata.json names, channel to name.

    Raises:
        ConfigError: If it names none.
    """
    try:
        labels: dict[str, str] = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    except (KeyError, TypeError) as error:
        message = "metadata.json, network_data_format#outputs#pred#channel_def: expected the label names, found none."
        raise ConfigError(message) from error
    return {str(value): str(name) for value, name in labels.items()}


def chosen_dtype(parser: Any, device: torch.device) -> torch.dtype | None:
    """Return the type of mixed precision; a CPU computes in float32, as MONAI's engine does there."""
    if device.type != "cuda" or not parser.get("amp"):
        return None
    given = (parser.get_parsed_content("amp_kwargs") if parser.get("amp_kwargs") else {}).get("dtype")
    return given if isinstance(given, torch.dtype) else torch.float16


def _lanes(device: torch.device, workers: int | None) -> int:
    if workers is not None and workers < 1:
        message = f"--workers: expected 1 or more, found {workers}."
        raise ConfigError(message)
    if device.type != "cpu":
        return 1
    return workers or min(usable_cores(), _MOST_LANES)
