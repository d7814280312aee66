"""`medssl train`: train a bundle on a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    folds: Annotated[
        bool,
        typer.Option("--folds", help="One network for each fold of the manifest, and an ensemble."),
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a configuration id: id=value. May be repeated.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Train BUNDLE on the labelled cases of a manifest, from its pre-trained encoder if it has one.

    The run folder holds everything to continue: the same command resumes where the run stopped. With --folds, OUT has
    folds/fold_K, what each network predicts for the cases it never saw (medssl evaluate OUT/cross_validation --part
    training), and OUT/ensemble, a bundle of all networks for other cases. On several GPUs:
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
    common: dict[str, Any] = {"manifest": manifest, "out": out, "data_root": data_root, "trust": trust}
    common["config_files"] = tuple(config or ["train"])
    overrides = parse_overrides(set_ or [])
    if folds:
        return _train_folds(folder, overrides, common)
    record = run_training(folder, overrides=overrides, **common)
    if "weights_sha256" in record:  # the main process
        typer.echo(f"trained in {record['seconds']:.0f} s: {out / 'models' / 'model.pt'}")
    return exit_codes.OK


def _train_folds(bundle: Path, overrides: dict[str, Any], common: dict[str, Any]) -> int:
    from torch.distributed import is_torchelastic_launched

    from medssl.bundle.folds import ENSEMBLE, PREDICTIONS, train_folds
    from medssl.core import exit_codes
    from medssl.core.errors import ConfigError

    if is_torchelastic_launched():
        message = "--folds: expected one process. Start it without torchrun, or train fold by fold: --set fold=0."
        raise ConfigError(message)
    records = train_folds(bundle, overrides=overrides, **common)
    out: Path = common["out"]
    seconds = sum(record["seconds"] for record in records)
    typer.echo(f"trained {len(records)} networks in {seconds:.0f} s: {out / ENSEMBLE}; held-out: {out / PREDICTIONS}")
    return exit_codes.OK
