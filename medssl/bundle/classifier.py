"""From a bundle that classifies images to a predictor: configuration checked, weights loaded strictly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.config import BundleConfig
from medssl.bundle.predictor import (
    bundle_facts,
    bundle_parser,
    choose_device,
    chosen_dtype,
    load_weights,
    weights_path,
)
from medssl.bundle.resolve import load_config
from medssl.core.errors import ConfigError
from medssl.inference.classes import ClassPredictor
from medssl.inference.settings import Transform

_LOADERS = ("LoadImaged", "EnsureChannelFirstd")
_SAVERS = ("FromMetaTensord", "SaveClassificationd")
_STOCK = "Run this bundle with: python -m monai.bundle run --config_file configs/inference.json"


def load_classifier(
    bundle: Path, *, device: str = "auto", batch_size: int | None = None, trust: bool = False
) -> ClassPredictor:
    """Build what `configs/inference.json` of a classifying bundle describes and load its weights.

    Args:
        bundle: Folder of the bundle.
        device: "auto" (GPU if there is one), or a torch device such as "cpu" or "cuda:1".
        batch_size: Images at once; by default 16 on a GPU and 4 on a CPU.
        trust: Run code that bundles do not need.

    Raises:
        ConfigError: If the configuration cannot be read or asks for what is not known here.
        TrustError: If the bundle would run code and `trust` is not given.
        CheckpointError: If the weights are missing, hold more than tensors or do not fit.
    """
    if batch_size is not None and batch_size < 1:
        message = f"--batch-size: expected 1 or more, found {batch_size}."
        raise ConfigError(message)
    config = load_config(bundle, ("inference",), trust=trust)
    missing = [key for key in ("network_def", "preprocessing", "postprocessing") if key not in config.content]
    if missing:
        message = f"inference.json: expected what classifying needs, found no {', '.join(missing)}."
        raise ConfigError(message, fix="Complete the bundle.")
    parser = bundle_parser(config, bundle)
    steps = _preprocessing(parser.get_parsed_content("preprocessing"))
    _require_softmax(config)
    weights = weights_path(parser, bundle)
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    chosen = choose_device(device)
    return ClassPredictor(
        network=network,
        preprocessing=steps,
        facts=bundle_facts(config, bundle, weights),
        device=chosen,
        amp_dtype=chosen_dtype(parser, chosen),
        batch_size=batch_size or (16 if chosen.type == "cuda" else 4),
    )


def _preprocessing(preprocessing: Any) -> Sequence[Transform]:
    """Return the transforms behind the loading ones, for which `medssl.data.images` stands in.

    Raises:
        ConfigError: If an image is loaded in another way, or a transform is random.
    """
    from monai.transforms import Randomizable

    steps = tuple(preprocessing.flatten().transforms)
    names = [type(step).__name__ for step in steps]
    if tuple(names[:2]) != _LOADERS:
        message = f"inference.json, preprocessing: expected {' and '.join(_LOADERS)} first, found {names[:2]}."
        raise ConfigError(message, fix=_STOCK, code="bundle-unsupported")
    if any(isinstance(step, Randomizable) for step in steps):
        message = "inference.json, preprocessing: expected no random transform, found one."
        raise ConfigError(message, fix=_STOCK, code="bundle-unsupported")
    return steps[2:]


def _require_softmax(config: BundleConfig) -> None:
    """Refuse a postprocessing that makes something else of the scores than their softmax."""
    steps = config.content["postprocessing"].get("transforms", [])
    activations = [step for step in steps if step.get("_target_") == "Activationsd"]
    others = [step.get("_target_") for step in steps if step not in activations]
    if (
        len(activations) != 1
        or not activations[0].get("softmax")
        or set(others) - {"FromMetaTensord", "SaveClassificationd"}
    ):
        message = (
            "inference.json, postprocessing: expected Activationsd with softmax, FromMetaTensord, SaveClassificationd."
        )
        raise ConfigError(message, fix=_STOCK, code="bundle-unsupported")
