"""`medssl bundle`: list the shipped bundles, tell what one is and needs, verify one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from medssl.core import exit_codes
from medssl.core.errors import ConfigError

app = typer.Typer(help="List, describe and verify bundles.", no_args_is_help=True, rich_markup_mode=None)

_Bundle = Annotated[str, typer.Argument(help="Bundle folder, or the name of a shipped bundle.", metavar="BUNDLE")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command(name="list")
def list_bundles(as_json: _Json = False) -> int:
    """List the shipped bundles."""
    from medssl.bundle.catalog import describe_bundle, shipped_bundles

    described = [describe_bundle(path) for path in shipped_bundles().values()]
    if as_json:
        _print_json(described)
        return exit_codes.OK
    for each in described:
        state = "weights shipped" if each["weights"]["present"] else "no weights"
        typer.echo(f"{each['name']} {each['version']} ({state})\n    {each['task']}")
    return exit_codes.OK


@app.command(name="info")
def info(bundle: _Bundle, as_json: _Json = False) -> int:
    """Tell what a bundle is and needs, without running or fetching anything."""
    from medssl.bundle.catalog import describe_bundle, find_bundle

    described = describe_bundle(find_bundle(bundle))
    if as_json:
        _print_json(described)
        return exit_codes.OK
    for name, value in described.items():
        typer.echo(f"{name.replace('_', ' '):<16}{_shown(name, value)}")
    return exit_codes.OK


@app.command(name="verify")
def verify(
    bundle: _Bundle,
    quick: Annotated[bool, typer.Option("--quick", help="Only the checks that do not run the network.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Also train, interrupt, evaluate and export; minutes.")] = False,
    schema: Annotated[
        Path | None, typer.Option(help="A second JSON schema for metadata.json, such as a copy of MONAI's own.")
    ] = None,
    as_json: _Json = False,
) -> int:
    """Check a bundle against the rules that MONAI, MONAI Label, Deploy and Slicer rely on."""
    from medssl.bundle.catalog import find_bundle
    from medssl.bundle.verify import FULL, QUICK, STANDARD, verify_bundle

    if quick and full:
        message = "--quick and --full exclude each other. Give one of them, or neither."
        raise ConfigError(message)
    checks = QUICK if quick else FULL if full else STANDARD
    result = verify_bundle(find_bundle(bundle), extra_schema=schema, checks=checks)
    if as_json:
        _print_json(result.to_json())
        return exit_codes.OK if result.passed else exit_codes.USAGE
    for finding in result.findings:
        typer.echo(f"{finding.code} {finding.severity}: {finding.where}: {finding.text}\n    {finding.fix}")
    ran = ", ".join(dict.fromkeys(code for code, _ in result.checks))
    errors = sum(finding.severity == "error" for finding in result.findings)
    verdict = "passed" if result.passed else "did not pass"
    typer.echo(f"{result.bundle} {verdict}: {errors} errors, {len(result.findings) - errors} warnings. Checked: {ran}.")
    return exit_codes.OK if result.passed else exit_codes.USAGE


def _shown(name: str, value: Any) -> str:
    if value in (None, {}, []):
        return "not stated"
    if name == "weights":
        files = ", ".join(f"{file} ({size / 1e6:.1f} MB)" for file, size in value["files"].items())
        return files or value["policy"] or "missing"
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, list):
        return (" x " if name in {"spacing_mm", "patch"} else ", ").join(str(part) for part in value)
    return str(value)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=4, ensure_ascii=False))
