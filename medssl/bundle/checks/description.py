"""B03, B04, B13: what metadata.json says, and whether it agrees with the network and the installation."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata as installed_packages
from pathlib import Path
from typing import Any

from medssl.bundle.catalog import pinned_packages
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import BundleConfig, get_item, read_json
from medssl.core.findings import Finding

SCHEMA_FILE = Path(__file__).parents[1] / "bundle_metadata.schema.json"
_MONAI_FLOOR = "1.6.1"
# What networks call their numbers of channels
_INPUT_NAMES = ("in_channels", "in_chans", "channels_in")
_OUTPUT_NAMES = ("out_channels", "num_classes", "classes", "channels_out")


def metadata(subject: Subject) -> Iterator[Finding]:
    """B03: metadata.json against the schema that medssl carries and, if it is given, a second one; all offline."""
    content = subject.metadata
    if not content:
        return
    for schema in (SCHEMA_FILE, subject.extra_schema):
        if schema is not None:
            yield from _schema_findings(content, schema)
    version, changelog = content.get("version"), content.get("changelog")
    if isinstance(changelog, dict) and version not in changelog:
        text = f"there is no line for the current version {version!r}"
        yield finding("B03", "metadata.json, changelog", text, "Correct metadata.json.")
    for name in ("eval_metrics", "memory"):
        if name == "eval_metrics" and content.get("weights") == "not shipped":
            continue  # there is nothing that they would be of
        if not content.get(name):
            fix = "Measure it with the shipped weights and write it down."
            yield finding("B03", f"metadata.json, {name}", f"{name} is not stated", fix, severity="warning")


def channels(subject: Subject) -> Iterator[Finding]:
    """B04: exactly `image` and `pred`, channels without gaps, and numbers that agree with the network."""
    layout = subject.metadata.get("network_data_format", {})
    for side, name, network_names in (("inputs", "image", _INPUT_NAMES), ("outputs", "pred", _OUTPUT_NAMES)):
        where = f"metadata.json, network_data_format#{side}"
        names = list(layout.get(side, {}))
        if names != [name]:
            text = f"expected exactly {name!r}, found {names}"
            yield finding("B04", where, text, f"Name the one tensor {name}; several images are channels of one.")
            continue
        described = layout[side][name]
        count = described.get("num_channels")
        if sorted(described.get("channel_def", {})) != sorted(str(index) for index in range(count or 0)):
            text = f"channel_def has the keys {list(described.get('channel_def', {}))} for num_channels {count}"
            yield finding("B04", f"{where}#{name}", text, "Number the channels from 0 without gaps.")
        for config, built in _network_channels(subject, network_names):
            if built != count:
                text = f"num_channels is {count}, the network has {built}"
                yield finding("B04", f"{config.files[-1]}, network_def", text, "Make metadata and network agree.")


def versions(subject: Subject) -> Iterator[Finding]:
    """B13: installed packages against those that the weights were checked with."""
    for package, pinned in pinned_packages(subject.metadata).items():
        installed = _installed(package)
        if installed is None:
            text = f"{package} {pinned} is pinned and not installed"
            yield finding("B13", "metadata.json", text, f"Run: pip install {package}=={pinned}", severity="warning")
        elif installed.split("+")[0] != pinned:
            text = f"{package} {installed} is installed, {pinned} is pinned"
            fix = "Expect small differences, or install the pinned version."
            yield finding("B13", "metadata.json", text, fix, severity="warning")
    for where, found in (("metadata.json, monai_version", subject.metadata.get("monai_version")), ("installed", None)):
        monai = found or _installed("monai") or "0"
        if _numbers(monai) < _numbers(_MONAI_FLOOR):
            text = f"monai {monai} is below {_MONAI_FLOOR}, which fixes security advisories"
            yield finding("B13", where, text, f"Use monai {_MONAI_FLOOR} or later.", severity="warning")


def _schema_findings(content: dict[str, Any], schema: Path) -> Iterator[Finding]:
    from jsonschema.validators import validator_for

    rules = read_json(schema)
    for error in validator_for(rules)(rules).iter_errors(content):
        where = "#".join(str(step) for step in error.absolute_path) or "metadata"
        yield finding("B03", f"metadata.json, {where}", error.message, "Correct metadata.json.")


def _network_channels(subject: Subject, names: tuple[str, ...]) -> Iterator[tuple[BundleConfig, int]]:
    seen = set()
    for _, config in subject.workflows():
        if config.files[-1] in seen or "network_def" not in config.content:
            continue
        seen.add(config.files[-1])
        network = config.content["network_def"]
        for name in names:
            value = _followed(config, network.get(name)) if isinstance(network, dict) else None
            if isinstance(value, int) and not isinstance(value, bool):
                yield config, value


def _followed(config: BundleConfig, value: Any) -> Any:
    """Follow plain references to the value they end at."""
    for _ in range(8):
        if not (isinstance(value, str) and value.startswith("@")):
            return value
        try:
            value = get_item(config.content, value[1:])
        except KeyError:
            return None
    return None


def _installed(package: str) -> str | None:
    try:
        return installed_packages.version(package)
    except installed_packages.PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit())
