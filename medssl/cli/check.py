"""`medssl check`: look at every file of a manifest and list what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.core.findings import Finding
    from medssl.data.manifest import Manifest

_SEVERITIES = ("error", "warning", "info")


def check(
    manifest: Annotated[Path, typer.Argument(help="Manifest to check.", show_default=False)],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that the paths start from. By default the manifest's.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file; - is standard output.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0 uses none beside this one.")] = None,
) -> int:
    """Check images, labels and splits; exit code 3 when errors were found."""
    from medssl.cli.findings import show_findings
    from medssl.core.errors import ConfigError
    from medssl.core.files import keep_source, write_json
    from medssl.core.findings import has_errors
    from medssl.core.provenance import provenance
    from medssl.data.checks import check_manifest
    from medssl.data.manifest import load_manifest

    if json_file is not None:
        keep_source(json_file, [manifest], option="--json")
    content = load_manifest(manifest)
    root = manifest.parent if data_root is None else data_root
    if not root.is_dir():
        message = f"--data-root {root}: expected a folder, found none. Name the folder that the image paths start from."
        raise ConfigError(message)
    findings = check_manifest(content, root, workers=workers)
    cases = sum(1 for _ in content.cases())
    report = {
        "medssl": provenance("check", manifest_sha256=content.sha256()),
        "manifest": {"file": manifest.name, "sha256": content.sha256()},
        "cases": cases,
        "findings": [finding.to_json() for finding in findings],
    }
    if json_file == Path("-"):
        _print_json(report)
    else:
        if json_file is not None:
            write_json(json_file, report)
        show_findings(findings)
        typer.echo(_summary(findings, cases))
    if _nothing_was_there(findings, content):
        typer.echo(f"no image file was found below {root}; name the right folder with --data-root.", err=True)
        return exit_codes.NOTHING_DONE
    return exit_codes.SOME_FAILED if has_errors(findings) else exit_codes.OK


def refuse_broken_data(manifest: Path | Manifest, data_root: Path, *, draws: Sequence[Collection[str]] = ()) -> None:
    """Check a manifest before it is trained on; list what is wrong and stop where there are errors.

    Args:
        manifest: File, or its content.
        data_root: Folder the manifest's paths start from.
        draws: Ids of the cases that keep their labels, draw by draw; see `check_manifest`.

    Raises:
        typer.Exit: With code 2, if any case has an error.
    """
    from medssl.cli.findings import show_findings
    from medssl.core.findings import has_errors
    from medssl.data.checks import check_manifest
    from medssl.data.manifest import load_manifest

    content = load_manifest(manifest) if isinstance(manifest, Path) else manifest
    findings = [each for each in check_manifest(content, data_root, draws=draws) if each.severity != "info"]
    show_findings(findings)
    if has_errors(findings):
        typer.echo("Nothing was trained. Repair these cases, or take them out of the manifest.", err=True)
        raise typer.Exit(exit_codes.NOTHING_DONE)


def _summary(findings: Sequence[Finding], cases: int) -> str:
    counts = [sum(finding.severity == severity for finding in findings) for severity in _SEVERITIES]
    touched = len({finding.case for finding in findings if finding.severity == "error" and finding.case})
    return f"{cases} cases checked: {counts[0]} errors in {touched} cases, {counts[1]} warnings, {counts[2]} notes."


def _nothing_was_there(findings: Sequence[Finding], manifest: Manifest) -> bool:
    missing = {(finding.case, finding.where) for finding in findings if finding.code == "file-missing"}
    return all((case.id, path) in missing for _, case in manifest.cases() for path in case.image)


def _print_json(report: dict[str, object]) -> None:
    import json

    typer.echo(json.dumps(report, indent=4, ensure_ascii=False))
