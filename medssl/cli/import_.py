"""`medssl import`: make a manifest from a folder or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medssl.core import exit_codes


def import_(
    source: Annotated[Path, typer.Argument(help="Folder or table to import.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write.", show_default=False)],
    layout: Annotated[
        str, typer.Option("--format", help="auto, msd (Medical Segmentation Decathlon, nnU-Net) or csv.")
    ] = "auto",
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that the paths start from. By default the manifest's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
    modality: Annotated[str | None, typer.Option(help="Modality, such as MR or CT.")] = None,
    labels: Annotated[str | None, typer.Option(help="Names of the labels: 0=background,1=liver")] = None,
    use_test_as_unlabeled: Annotated[
        bool, typer.Option("--use-test-as-unlabeled", help="Put test images without labels into unlabeled.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing manifest.")] = False,
) -> int:
    """Write the manifest of a data set; exit code 3 when cases had to be left out."""
    from medssl.cli.findings import show_findings
    from medssl.core.errors import ConfigError
    from medssl.core.files import keep_source
    from medssl.core.findings import has_errors
    from medssl.data.import_cases import ImportOptions
    from medssl.data.importers import import_data, parse_labels
    from medssl.data.manifest import PARTS, save_manifest

    if out.exists() and not force:
        message = f"--out {out}: expected a new file, found an existing one. Choose another name, or add --force."
        raise ConfigError(message)
    keep_source(out, [source])
    options = ImportOptions(
        root=out.parent if data_root is None else data_root,
        name=name,
        modality=modality,
        labels=None if labels is None else parse_labels(labels),
        test_as_unlabeled=use_test_as_unlabeled,
    )
    imported = import_data(source, options, layout=layout)
    save_manifest(out, imported.manifest)
    show_findings(imported.findings)
    counts = ", ".join(f"{len(imported.manifest.part(part))} {part}" for part in PARTS)
    typer.echo(f"{out}: {counts}. Next: medssl check {out}{'' if data_root is None else f' --data-root {data_root}'}")
    return exit_codes.SOME_FAILED if has_errors(imported.findings) else exit_codes.OK
