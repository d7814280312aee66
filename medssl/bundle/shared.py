"""What a training is told about network and input holds for the configurations that come after it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.bundle.config import get_item, read_json, set_item
from medssl.core.files import write_json

NETWORK = "network_def"
_INPUT = ("patch_size", "resample_to_spacing", "image_size", "intensity_mean", "intensity_deviation")
SHARED = (NETWORK, *_INPUT)


def shared_overrides(overrides: Mapping[str, Any], keys: Sequence[str] = SHARED) -> dict[str, Any]:
    """Return those of a run's overrides that decide what its network is and sees."""
    return {item_id: value for item_id, value in overrides.items() if _top(item_id) in keys}


def hand_on(out: Path, overrides: Mapping[str, Any], keys: Sequence[str] = SHARED) -> None:
    """Write a run's overrides of network and input into its train.json and inference.json.

    Otherwise inference and evaluation would build another network than the one that was trained, or show it other
    voxels, and a training that starts from a pre-trained encoder would not find its network.

    Args:
        out: Run folder, itself a bundle.
        overrides: Configuration ids and their values.
        keys: First part of the ids that are handed on.
    """
    wanted = shared_overrides(overrides, keys)
    for path in (out / "configs" / f"{name}.json" for name in ("train", "inference")):
        if wanted and path.is_file():
            content = read_json(path)
            for item_id, value in wanted.items():
                _set(content, item_id, value)
            if content != read_json(path):
                write_json(path, content)


def _set(content: dict[str, Any], item_id: str, value: Any) -> None:
    if item_id == NETWORK and isinstance(value, Mapping) and isinstance(content.get(NETWORK), Mapping):
        # Channels are those of the data, which every configuration gives in its own way
        kept = {key: content[NETWORK][key] for key in ("in_channels", "out_channels") if key in content[NETWORK]}
        content[NETWORK] = {**value, **kept}
        return
    try:
        get_item(content, item_id.replace("::", "#").rpartition("#")[0] or item_id)
    except KeyError:
        return
    set_item(content, item_id, value)


def _top(item_id: str) -> str:
    return item_id.replace("::", "#").split("#")[0]
