"""`medssl pretrain`: pre-train a bundle on images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or the name of a shipped bundle.")],
    *,
    manifest: Annotated[Path, typer.Option(help="Manifest of the data set; labels only score the features.")],
    out: Annotated[Path, typer.Option(help="Run folder; becomes a bundle with models/encoder.pt.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths start from.")] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Run this configuration instead of configs/pretrain*.json; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a configuration id of every stage that has it.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Pre-train BUNDLE on the images of a manifest, stage by stage, and write models/encoder.pt.

    The same command continues where the run stopped. Then: medssl train OUT or medssl finetune OUT, which start from
    the encoder. On several GPUs: torchrun --standalone --nproc_per_node=gpu --no-python medssl pretrain BUNDLE ...
    """
    from medssl.bundle.catalog import find_bundle

    folder = find_bundle(bundle)  # a misspelt name is told before anything slow is imported
    from torch.distributed import get_node_local_rank

    from medssl.bundle.config import parse_overrides
    from medssl.bundle.pretrain import pretrain as run_pretraining
    from medssl.cli.check import refuse_broken_data
    from medssl.core import exit_codes

    if get_node_local_rank(fallback_rank=0) == 0:  # under torchrun one process of each machine is enough
        refuse_broken_data(manifest, data_root or manifest.parent)
    record = run_pretraining(
        folder,
        manifest=manifest,
        out=out,
        data_root=data_root,
        stages=stage or (),
        overrides=parse_overrides(set_ or []),
        trust=trust,
    )
    if "encoder_sha256" in record:  # the main process
        typer.echo(f"pre-trained: {out / 'models' / 'encoder.pt'}")
    return exit_codes.OK
