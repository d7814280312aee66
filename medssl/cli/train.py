"""`medssl train`: train a bundle on a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or the name of a shipped bundle.")],
    *,
    manifest: Annotated[Path, typer.Option(help="Manifest of the data set.")],
    out: Annotated[Path, typer.Option(help="Run folder; becomes a bundle with the trained weights.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths start from.")] = None,
    config: Annotated[
        list[str] | None, typer.Option(help="Configuration to merge, in this order; default: train. May be repeated.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a configuration id: id=value. May be repeated.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Train BUNDLE on the labelled cases of a manifest, from its pre-trained encoder if it has one.

    The run folder holds everything to continue: the same command resumes where the run stopped. On several GPUs:
    torchrun --standalone --nproc_per_node=gpu --no-python medssl train BUNDLE ...
    """
    from medssl.bundle.catalog import find_bundle

    folder = find_bundle(bundle)  # a misspelt name is told before anything slow is imported
    from torch.distributed import get_node_local_rank

    from medssl.bundle.config import parse_overrides
    from medssl.bundle.run import train as run_training
    from medssl.cli.check import refuse_broken_data
    from medssl.core import exit_codes

    if get_node_local_rank(fallback_rank=0) == 0:  # under torchrun one process of each machine is enough
        refuse_broken_data(manifest, data_root or manifest.parent)
    record = run_training(
        folder,
        manifest=manifest,
        out=out,
        data_root=data_root,
        config_files=tuple(config or ["train"]),
        overrides=parse_overrides(set_ or []),
        trust=trust,
    )
    if "weights_sha256" in record:  # the main process
        typer.echo(f"trained in {record['seconds']:.0f} s: {out / 'models' / 'model.pt'}")
    return exit_codes.OK
