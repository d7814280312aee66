"""metadata.json against medssl's own schema, offline, with every problem named at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medssl.bundle.config import read_json
from medssl.core.findings import Finding

SCHEMA_FILE = Path(__file__).with_name("bundle_metadata.schema.json")
_CODE = "B03"


def metadata_findings(metadata: dict[str, Any], *, extra_schema: Path | None = None) -> list[Finding]:
    """Return what metadata.json says wrongly or not at all.

    Args:
        metadata: Content of metadata.json.
        extra_schema: A second JSON schema to hold it against, such as a copy of MONAI's own.

    Raises:
        ConfigError: If `extra_schema` cannot be read.
    """
    schemas = [SCHEMA_FILE] if extra_schema is None else [SCHEMA_FILE, extra_schema]
    found = [_finding(where, text) for schema in schemas for where, text in _problems(metadata, schema)]
    version, changelog = metadata.get("version"), metadata.get("changelog")
    if isinstance(changelog, dict) and version not in changelog:
        found.append(_finding("changelog", f"there is no line for the current version {version!r}"))
    for name in ("eval_metrics", "memory"):
        if not metadata.get(name):
            found.append(
                Finding(
                    code=_CODE,
                    severity="warning",
                    where=f"metadata.json, {name}",
                    text=f"{name} is not stated",
                    fix="Measure it with the shipped weights and write it down.",
                )
            )
    return found


def _problems(metadata: dict[str, Any], schema: Path) -> Iterator[tuple[str, str]]:
    from jsonschema.validators import validator_for

    content = read_json(schema)
    for error in validator_for(content)(content).iter_errors(metadata):
        yield "#".join(str(step) for step in error.absolute_path) or "metadata", error.message


def _finding(where: str, text: str) -> Finding:
    fix = "Correct metadata.json."
    return Finding(code=_CODE, severity="error", where=f"metadata.json, {where}", text=text, fix=fix)
