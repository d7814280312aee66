"""`medssl split`: held-out parts, folds and draws of labelled cases, by patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest


def split(
    manifest: Annotated[Path, typer.Argument(help="Manifest to split.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write.", show_default=False)],
    test: Annotated[str | None, typer.Option(help="Move this many training cases (20, 0.2 or 20%) to test.")] = None,
    validation: Annotated[str | None, typer.Option(help="Move this many training cases to validation.")] = None,
    labeled: Annotated[
        str | None, typer.Option(help="Keep this many labels (nested for one seed); the rest becomes unlabeled.")
    ] = None,
    labeled_cases: Annotated[str | None, typer.Option(help="Keep the labels of these case ids: a,b,c.")] = None,
    folds: Annotated[int | None, typer.Option(help="Number of folds of the remaining training cases.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing manifest.")] = False,
) -> int:
    """Split by patient, in this order: test, validation, labeled, folds."""
    from medssl.core.errors import ConfigError
    from medssl.data import splits
    from medssl.data.manifest import load_manifest, save_manifest

    if out.exists() and not force:
        message = f"--out {out}: expected a new file, found an existing one. Choose another name, or add --force."
        raise ConfigError(message)
    if labeled is not None and labeled_cases is not None:
        message = "--labeled and --labeled-cases: expected one of the two, found both. Leave one out."
        raise ConfigError(message)
    if (test, validation, labeled, labeled_cases, folds) == (None,) * 5:
        message = "expected something to split by. Give --test, --validation, --labeled, --labeled-cases or --folds."
        raise ConfigError(message)
    content = load_manifest(manifest)
    held_out: dict[splits.HeldOut, str | None] = {"test": test, "validation": validation}
    for part, text in held_out.items():
        if text is not None:
            amount = splits.parse_amount(text, option=f"--{part}")
            content = splits.hold_out(content, part=part, amount=amount, seed=seed)
    if labeled is not None:
        amount = splits.parse_amount(labeled, option="--labeled")
        content = splits.keep_labeled(content, amount=amount, seed=seed)
    if labeled_cases is not None:
        ids = [case_id.strip() for case_id in labeled_cases.split(",") if case_id.strip()]
        content = splits.keep_labeled_cases(content, ids=ids)
    if folds is not None:
        content = splits.assign_folds(content, folds=folds, seed=seed)
    save_manifest(out, content)
    _report(content, out=out, source=manifest)
    return exit_codes.OK


def _report(content: Manifest, *, out: Path, source: Path) -> None:
    from collections import Counter

    from medssl.data.manifest import PARTS

    for part in PARTS:
        cases = content.part(part)
        typer.echo(f"{part}: {len(cases)} cases of {len({case.group for case in cases})} patients")
    folds = Counter(case.fold for case in content.training if case.fold is not None)
    if folds:
        typer.echo("folds: " + ", ".join(f"{fold}: {folds[fold]}" for fold in sorted(folds)))
    if not any(case.patient for _, case in content.cases()):
        typer.echo("note: no case names its patient, so each case counts as a patient of its own.")
    if out.resolve().parent != source.resolve().parent:
        typer.echo(f"note: its paths start where those of {source} do; name that folder with --data-root.")
