"""Bundles by name or folder, and what a bundle says of itself; imports no torch and fetches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medssl.bundle.config import read_json
from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
METADATA = Path("configs") / "metadata.json"


def shipped_folder() -> Path:
    """Return the folder of the shipped bundles: inside the installed package, or beside it in a checkout."""
    inside = _PACKAGE / "bundles"
    beside = _PACKAGE.parent / "bundles"
    return beside if not inside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file() else inside


def shipped_bundles() -> dict[str, Path]:
    """Return the shipped bundles, name to folder, sorted by name."""
    folder = shipped_folder()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path for path in found if (path / "configs").is_dir()}


def find_bundle(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle that is given as a folder or as the name of a shipped bundle.

    A folder of the given name wins over a shipped bundle.

    Raises:
        ConfigError: If it is neither.
    """
    folder = Path(name_or_path)
    if (folder / "configs").is_dir():
        return folder.resolve()
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if folder.is_dir():
        message = f"{folder}: expected a bundle, found a folder without configs/. Give the folder above configs/."
        raise ConfigError(message)
    hint = did_you_mean(str(name_or_path), shipped)
    message = (
        f"no bundle {str(name_or_path)!r}: neither a bundle's folder nor the name of a shipped bundle.{hint} "
        f"Shipped are: {', '.join(shipped) or 'none'}."
    )
    raise ConfigError(message)


def describe_bundle(bundle: Path) -> dict[str, Any]:
    """Return what a bundle is and what it needs, as plain JSON values.

    Args:
        bundle: Folder of the bundle.

    Raises:
        ConfigError: If metadata.json is missing or is no JSON object.
    """
    bundle = Path(bundle)
    metadata = read_json(bundle / METADATA)
    inference = _optional(bundle / "configs" / "inference.json")
    network_format = metadata.get("network_data_format", {})
    image = network_format.get("inputs", {}).get("image", {})
    pred = network_format.get("outputs", {}).get("pred", {})
    return {
        "name": bundle.name,
        "title": metadata.get("name"),
        "version": metadata.get("version"),
        "task": metadata.get("task"),
        "description": metadata.get("description"),
        "intended_use": metadata.get("intended_use"),
        "labels": pred.get("channel_def", {}),
        "modality": image.get("modality"),
        "channels": image.get("num_channels"),
        "spacing_mm": inference.get("resample_to_spacing"),
        "patch": inference.get("patch_size"),
        "licence": _licence(bundle),
        "data_source": metadata.get("data_source"),
        "packages": pinned_packages(metadata),
        "memory": metadata.get("memory"),
        "metrics": metadata.get("eval_metrics"),
        "weights": _weights(bundle, metadata),
        "configurations": sorted(path.stem for path in (bundle / "configs").glob("*.json") if path.stem != "metadata"),
    }


def classifies(bundle: Path) -> bool:
    """Tell whether a bundle gives class scores of an image instead of a label map on its grid."""
    network_format = read_json(Path(bundle) / METADATA).get("network_data_format", {})
    pred = network_format.get("outputs", {}).get("pred", {})
    return bool(pred.get("format") == "classification")


def pinned_packages(metadata: dict[str, Any]) -> dict[str, str]:
    """Return the package versions that a bundle's weights were checked with, from metadata.json."""
    main = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    others = metadata.get("required_packages_version") or metadata.get("optional_packages_version") or {}
    return {package: str(metadata[key]) for package, key in main.items() if key in metadata} | dict(others)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _licence(bundle: Path) -> str | None:
    path = bundle / "LICENSE"
    if not path.is_file():
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in lines if line), None)


def _weights(bundle: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    files = {
        path.name: path.stat().st_size
        for path in sorted((bundle / "models").glob("*"))
        if path.suffix in {".pt", ".ts", ".onnx"}
    }
    return {"present": "model.pt" in files, "files": files, "policy": metadata.get("weights")}
