"""What a run is told about its network and its input holds for the configurations that come after it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.config import BundleConfig, has_item, id_steps, read_json, set_item
from medssl.bundle.resolve import evaluated
from medssl.core.files import write_json

NETWORK, DROPOUT = "network_def", "dropout_rate"
_INPUT = ("patch_size", "resample_to_spacing", "image_size", "intensity_mean", "intensity_deviation")
INHERITED = (NETWORK, DROPOUT, *_INPUT)


def inherited(overrides: Mapping[str, Any], keys: Sequence[str] = INHERITED) -> dict[str, Any]:
    """Return those of a run's overrides that decide what its network is and sees."""
    return {item_id: value for item_id, value in overrides.items() if id_steps(item_id)[0] in keys}


def write_inherited(
    out: Path, config: BundleConfig, overrides: Mapping[str, Any], keys: Sequence[str] = INHERITED
) -> None:
    """Write a run's overrides of network and input into its train.json and inference.json.

    Otherwise inference and evaluation would build another network than the one that was trained, or show it other
    voxels. train.json takes them as they were given; inference.json, which lacks the ids they may refer to, takes what
    they came to. A configuration that has nothing of the kind is left alone.

    Args:
        out: Run folder, itself a bundle.
        config: The configuration that ran, with its overrides.
        overrides: Configuration ids and their values.
        keys: First part of the ids that are inherited.
    """
    wanted = inherited(overrides, keys)
    values = {"train": wanted, "inference": {item_id: evaluated(config, item_id) for item_id in wanted}}
    for name, given in values.items():
        path = out / "configs" / f"{name}.json"
        if not given or not path.is_file():
            continue
        content = read_json(path)
        for item_id, value in given.items():
            above = "#".join(id_steps(item_id)[:-1])
            if has_item(content, above or item_id):
                set_item(content, item_id, value)
        write_json(path, content)
