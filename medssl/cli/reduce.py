"""`medssl reduce`: keep what is different of unlabelled slices, images or volumes; find leaks between parts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.cli.reduce_steps import list_leaks, reduce_and_write, undo_and_write

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest
    from medssl.reduction.audit import Audit
    from medssl.reduction.reduce import Encoder

_Out = Annotated[Path | None, typer.Option(help="Manifest to write, with the audit beside it.")]
_Method = Annotated[str, typer.Option(help="dhash, ssim, nmi, embedding, every_n or all.")]
_Threshold = Annotated[float | None, typer.Option(help="Bits of a near duplicate (dhash: 6), or a similarity.")]
_Every = Annotated[int | None, typer.Option(help="Keep every n-th slice (every_n).")]
_Budget = Annotated[int | None, typer.Option(help="Keep this many of each scope: the most different, or evenly.")]
_Like = Annotated[Path | None, typer.Option(help="Keep as many of each volume as this reduced manifest does.")]
_Scope = Annotated[str | None, typer.Option(help="volume (default), patient or dataset (default of 2D images).")]
_Unit = Annotated[str, typer.Option(help="slice, or volume for near-duplicate scans.")]
_Window = Annotated[str, typer.Option(help="LOW,HIGH in HU, slice, range, none or auto (-1000,400 for CT).")]
_Part = Annotated[list[str] | None, typer.Option(help="Part to reduce, by default unlabeled; may be repeated.")]
_Protect = Annotated[list[str] | None, typer.Option(help="Case that is never dropped; may be repeated.")]
_EncoderFile = Annotated[str | None, typer.Option(help="resnet50=WEIGHTS.pt, also resnet18 and resnet34 (embedding).")]
_Labelled = Annotated[bool, typer.Option("--allow-labelled", help="Also reduce labelled cases.")]
_Undo = Annotated[Path | None, typer.Option(help="JSON lines of items to bring back into the reduced SRC.")]
_Restore = Annotated[bool, typer.Option("--restore", help="Write SRC as it was before any reduction.")]
_Leaks = Annotated[bool, typer.Option("--leaks", help="List near duplicates between parts; --out takes them out.")]
_Json = Annotated[Path | None, typer.Option("--json", help="With --leaks: write all pairs to this file.")]
_Root = Annotated[Path | None, typer.Option(help="Folder that the paths start from. By default SRC's.")]
_Modality = Annotated[str, typer.Option(help="Of a folder of images.")]
_Workers = Annotated[int | None, typer.Option(min=0, help="Processes; 0 uses none beside this one.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace an existing manifest.")]


def reduce(
    src: Annotated[Path, typer.Argument(help="Manifest, or folder of 2D images.", show_default=False)],
    *,
    out: _Out = None,
    method: _Method = "dhash",
    threshold: _Threshold = None,
    every: _Every = None,
    budget: _Budget = None,
    budget_like: _Like = None,
    scope: _Scope = None,
    unit: _Unit = "slice",
    window: _Window = "auto",
    part: _Part = None,
    protect: _Protect = None,
    encoder: _EncoderFile = None,
    allow_labelled: _Labelled = False,
    undo: _Undo = None,
    restore: _Restore = False,
    leaks: _Leaks = False,
    json_file: _Json = None,
    data_root: _Root = None,
    modality: _Modality = "unknown",
    workers: _Workers = None,
    force: _Force = False,
) -> int:
    """Drop near-duplicate slices, images or volumes; nothing is deleted, and every decision can be undone."""
    from medssl.core.errors import ConfigError

    manifest, root, previous = _open(src, data_root, modality)
    _require_out(out, needed=not leaks, force=force)
    if leaks:
        options: dict[str, Any] = {"threshold": 6 if threshold is None else threshold, "workers": workers}
        return list_leaks(manifest, root, out=out, json_file=json_file, window=_limits(window), **options)
    target = Path() if out is None else out
    original = _original(manifest, previous)
    if restore or undo is not None:
        return undo_and_write(target, original, previous, entries=undo, src=src)
    settings = {
        "method": method,
        "threshold": threshold,
        "every": every,
        "budget": budget if budget_like is None else "given",
        "scope": scope or _usual_scope(original, unit),
        "unit": unit,
        "window": _limits(window),
        "parts": tuple(dict.fromkeys(part or ["unlabeled"])),
        "protect": tuple(protect or []),
        "allow_labelled": allow_labelled,
    }
    if budget is not None and budget_like is not None:
        raise ConfigError("expected --budget or --budget-like, found both. Leave one out.")
    like = None if budget_like is None else _budgets(budget_like, original)
    inputs: dict[str, Any] = {"previous": previous, "budgets": like, "encoder": _encoder(encoder), "workers": workers}
    return reduce_and_write(target, original, root, settings=settings, src=src, **inputs)


def _open(src: Path, data_root: Path | None, modality: str) -> tuple[Manifest, Path, Audit | None]:
    from medssl.core.errors import ConfigError
    from medssl.data.manifest import load_manifest
    from medssl.reduction.audit import read_audit
    from medssl.reduction.folders import manifest_of_images

    if src.is_dir():
        return manifest_of_images(src, modality=modality), src, None
    manifest = load_manifest(src)
    root = src.parent if data_root is None else data_root
    if not root.is_dir():
        raise ConfigError(f"--data-root {root}: expected a folder, found none. Name where the image paths start.")
    return manifest, root, None if manifest.reduction is None else read_audit(manifest, src.parent)


def _require_out(out: Path | None, *, needed: bool, force: bool) -> None:
    from medssl.core.errors import ConfigError

    if out is None and needed:
        raise ConfigError("expected --out M, the manifest to write; found none.")
    if out is not None and out.exists() and not force:
        message = f"--out {out}: expected a new file, found an existing one. Choose another name, or add --force."
        raise ConfigError(message)


def _original(manifest: Manifest, previous: Audit | None) -> Manifest:
    from medssl.reduction.audit import restore

    return manifest if previous is None else restore(manifest, previous)


def _usual_scope(manifest: Manifest, unit: str) -> str:
    from medssl.data.images import IMAGE_SUFFIXES

    flat = all(case.image[0].lower().endswith(IMAGE_SUFFIXES) for _, case in manifest.cases())
    return "dataset" if flat or unit == "volume" else "volume"


def _limits(window: str) -> Any:
    from medssl.core.errors import ConfigError

    if window in ("auto", "slice", "range", "none"):
        return window
    try:
        low, high = (float(number) for number in window.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"--window {window}: expected LOW,HIGH such as -1000,400, or slice, range, none or auto.")
    return low, high


def _budgets(path: Path, original: Manifest) -> dict[str, int]:
    from medssl.core.errors import ConfigError
    from medssl.data.manifest import load_manifest
    from medssl.reduction.audit import kept_slices, read_audit

    audit = read_audit(load_manifest(path), path.parent)
    if audit.settings["unit"] != "slice" or audit.input_sha256 != original.sha256():
        message = f"--budget-like {path}: expected slices of the same manifest to be reduced there, found others."
        raise ConfigError(message, fix="Reduce this manifest by slices first, and name the result.")
    return {case: len(kept) for case, kept in kept_slices(audit).items()}


def _encoder(text: str | None) -> Encoder | None:
    if text is None:
        return None
    from medssl.reduction.encoder import load_encoder  # torch only where it is used

    architecture, _, file = text.partition("=")
    return load_encoder(Path(file), architecture=architecture)
