"""`medssl finetune`: make a bundle for one's own dataset from a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medssl.bundle.finetune import Outcome


def finetune(
    bundle: Annotated[str, typer.Argument(help="Trained bundle: folder, or the name of a shipped bundle.")],
    *,
    manifest: Annotated[Path, typer.Option(help="Manifest of your dataset; see medssl import.")],
    out: Annotated[Path, typer.Option(help="The new bundle.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths start from.")] = None,
    folds: Annotated[int, typer.Option(min=0, help="Cross-validate with K folds for an honest estimate.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of training; default: the bundle's.")] = None,
    patch_voxels: Annotated[int, typer.Option(min=4096, help="Most voxels of a training patch.")] = 65536,
    absolute_intensities: Annotated[
        bool, typer.Option("--absolute-intensities", help="An intensity means the same in every case, as in CT.")
    ] = False,
    norm: Annotated[
        str | None, typer.Option(help="Normalisation layers: instance or batch; default: the bundle's.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Start from random weights.")] = False,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Configuration to merge, in this order, as --config train --config train_mean_teacher."),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a configuration id: id=value.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Fine-tune BUNDLE on the labelled cases of a manifest and leave a bundle that verifies.

    Labels, channels, spacing, patch and normalisation follow your data. Without --folds, the best checkpoint is chosen
    on the validation part (or fold 0), so the score at the end is optimistic. A co-trained bundle also adapts to
    unlabelled cases alone; one that classifies takes the class of each case. The same command resumes.
    """
    from medssl.bundle.catalog import find_bundle

    folder = find_bundle(bundle)  # before anything slow is imported
    from medssl.bundle.config import parse_overrides
    from medssl.bundle.dataset_plan import Wishes
    from medssl.bundle.finetune import Request
    from medssl.bundle.finetune import finetune as run_finetune
    from medssl.cli.check import refuse_broken_data

    refuse_broken_data(manifest, root := data_root or manifest.parent)
    overrides = parse_overrides(set_ or []) | ({} if epochs is None else {"epochs": epochs})
    request = Request(
        bundle=folder,
        manifest=manifest,
        out=out,
        data_root=root,
        folds=folds,
        wishes=Wishes(patch_voxels=patch_voxels, absolute_intensities=absolute_intensities, norm=_norm(norm)),
        overrides=overrides,
        config_files=tuple(config or ["train"]),
        from_scratch=from_scratch,
        trust=trust,
    )
    return _show(run_finetune(request), out)


def _show(outcome: Outcome, out: Path) -> int:
    from medssl.bundle.verify import verify_bundle
    from medssl.cli.evaluate import show_scores
    from medssl.cli.findings import show_findings
    from medssl.core import exit_codes

    show_findings(outcome.findings)
    if outcome.evaluation is not None:
        show_scores(outcome.evaluation)
    typer.echo(f"These are scores of {outcome.meaning}." if outcome.evaluation else f"{outcome.meaning}.")
    verification = verify_bundle(out)
    show_findings(verification.findings)
    typer.echo(f"New bundle: {out}")
    return exit_codes.OK if verification.passed else exit_codes.USAGE


def _norm(name: str | None) -> str | None:
    from medssl.core.errors import ConfigError

    if name not in (None, "instance", "batch"):
        message = f"--norm: expected instance or batch, got {name!r}."
        raise ConfigError(message)
    return name
