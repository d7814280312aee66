"""`medssl export`: the network of a bundle as TorchScript, ONNX or a torch.export program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or the name of a shipped bundle.", metavar="BUNDLE")],
    *,
    to: Annotated[str, typer.Option(help="torchscript (MONAI Deploy), onnx (any runtime) or pt2 (torch.export).")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default models/model.ts or .onnx, exports/model.pt2.")
    ] = None,
    open_shape: Annotated[
        bool, typer.Option("--open-shape", help="Let batch and image size vary, where the form can.")
    ] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Export the network of BUNDLE; a form that computes something else than the bundle is not written."""
    from medssl.bundle.catalog import find_bundle
    from medssl.bundle.export import FORMS, export_bundle
    from medssl.core import exit_codes

    folder = find_bundle(bundle)
    target = out or folder / FORMS.get(to, "")
    record = export_bundle(folder, to=to, out=out, open_shape=open_shape, trust=trust)  # type: ignore[arg-type]  # checked there
    typer.echo(
        f"{target}: {record.form} by {record.method}, largest difference to the network {record.difference:.2g} "
        f"(largest logit {record.largest_logit:.3g})"
    )
    return exit_codes.OK
