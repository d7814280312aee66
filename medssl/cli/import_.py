"""`medssl import`: make a manifest from a folder or a table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.data.import_cases import Imported, ImportOptions


def import_(
    source: Annotated[Path, typer.Argument(help="Folder or table to import.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write.", show_default=False)],
    layout: Annotated[
        str,
        typer.Option("--format", help="auto, msd (Medical Segmentation Decathlon, nnU-Net), csv or bpmri (prostate)."),
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
    crop: Annotated[
        str | None, typer.Option(help="bpmri: voxels of 0.5 x 0.5 x 3 mm to keep. Default: 256,256,20.")
    ] = None,
    adc_scaling: Annotated[
        str, typer.Option(help="bpmri: zscore, or fixed (0 to 3000e-6 mm2/s become 0 to 1).")
    ] = "zscore",
    label_values: Annotated[
        str, typer.Option(help="bpmri: isup (grades 0 to 5, significant from 2) or binary (1 is significant).")
    ] = "isup",
    force: Annotated[bool, typer.Option("--force", help="Replace a manifest, and exams of another import.")] = False,
) -> int:
    """Write the manifest of a data set; exit code 3 when cases had to be left out.

    Prostate exams (bpmri) are brought on one grid, normalised and written as new images below the data root, in
    exams/; the files of SRC stay as they are. Names of their folders and files become case ids, which every output
    carries: they must be pseudonyms.
    """
    from medssl.cli.findings import show_findings
    from medssl.core.files import keep_source
    from medssl.core.findings import has_errors
    from medssl.data.import_cases import ImportOptions
    from medssl.data.importers import exam_options, parse_labels
    from medssl.data.manifest import PARTS, save_manifest

    if not force:
        _require_new(out)
    keep_source(out, [source])
    options = ImportOptions(
        root=out.parent if data_root is None else data_root,
        name=name,
        modality=modality,
        labels=None if labels is None else parse_labels(labels),
        test_as_unlabeled=use_test_as_unlabeled,
        exams=exam_options(crop=crop, adc_scaling=adc_scaling, label_values=label_values),
        replace=force,
    )
    imported = _import(source, options, layout)
    save_manifest(out, imported.manifest)
    show_findings(imported.findings)
    counts = ", ".join(f"{len(imported.manifest.part(part))} {part}" for part in PARTS)
    typer.echo(f"{out}: {counts}. Next: {_check_command(out, data_root)}")
    return exit_codes.SOME_FAILED if has_errors(imported.findings) else exit_codes.OK


def _check_command(manifest: Path, data_root: Path | None) -> str:
    root = [] if data_root is None else ["--data-root", str(data_root)]
    return shlex.join(["medssl", "check", str(manifest), *root])


def _require_new(out: Path) -> None:
    from medssl.core.errors import ConfigError

    if out.exists():
        message = f"--out {out}: expected a new file, found an existing one. Choose another name, or add --force."
        raise ConfigError(message)


def _import(source: Path, options: ImportOptions, layout: str) -> Imported:
    """Import; where nothing is left, show the findings that say why before the error does."""
    from medssl.cli.findings import show_findings
    from medssl.data.import_cases import NothingImportedError
    from medssl.data.importers import import_data

    try:
        return import_data(source, options, layout=layout)
    except NothingImportedError as error:
        show_findings(error.findings)
        raise
