"""What `medssl reduce` does with its options: reduce, undo, list leaks, and say what happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from medssl.cli.findings import show_findings
from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.data.manifest import Manifest
    from medssl.reduction.audit import Audit


def reduce_and_write(
    out: Path, original: Manifest, root: Path, *, settings: dict[str, Any], src: Path, **inputs: Any
) -> int:
    """Reduce, write manifest and audit, and say what was kept."""
    from medssl.core.findings import has_errors
    from medssl.reduction.audit import save_reduced
    from medssl.reduction.reduce import reduce_manifest
    from medssl.reduction.settings import Settings

    decided = reduce_manifest(original, root, Settings(**settings), **inputs)
    show_findings(decided.findings)
    if not any(row.kept for row in decided.audit.rows):
        typer.echo(f"nothing could be kept, so {out} was not written.", err=True)
        return exit_codes.NOTHING_DONE
    save_reduced(out, original, decided.audit)
    _tell(out, decided.audit, src)
    return exit_codes.SOME_FAILED if has_errors(decided.findings) else exit_codes.OK


def _tell(out: Path, audit: Audit, src: Path) -> None:
    counts = audit.counts()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts["reasons"].items())
    share = counts["kept"] / counts["items"]
    typer.echo(
        f"{counts['kept']} of {counts['items']} items kept ({share:.1%}) in {len(counts['cases'])} cases: {reasons}"
    )
    typer.echo(f"written: {out} and {out.stem}.reduction.jsonl")
    if out.resolve().parent != (src if src.is_dir() else src.parent).resolve():
        typer.echo(f"note: its paths start where those of {src} do; name that folder with --data-root.")


def undo_and_write(out: Path, original: Manifest, previous: Audit | None, *, entries: Path | None, src: Path) -> int:
    """Write what was reduced with some items back, or as it was before."""
    from medssl.core.errors import ConfigError
    from medssl.data.manifest import save_manifest
    from medssl.reduction.audit import read_undo, save_reduced, undo

    if previous is None:
        raise ConfigError(f"{src}: expected a reduced manifest to undo, found one that was never reduced.")
    if entries is None:
        save_manifest(out, original)
        typer.echo(f"restored: {out}")
    else:
        undone = undo(previous, read_undo(entries))
        save_reduced(out, original, undone)
        _tell(out, undone, src)
    return exit_codes.OK


def list_leaks(manifest: Manifest, root: Path, *, out: Path | None, json_file: Path | None, **options: Any) -> int:
    """List near duplicates between parts; with `out`, write the manifest without them."""
    from medssl.core.errors import ConfigError
    from medssl.core.files import write_json
    from medssl.core.findings import has_errors
    from medssl.data.manifest import save_manifest
    from medssl.reduction.leaks import find_leaks, is_leak, without_leaks

    if out is not None and manifest.reduction is not None:
        message = f"manifest {manifest.name!r}: expected one that was not reduced yet, found a reduced one."
        raise ConfigError(message, fix="Take leaks out first, then reduce; or list them without --out.")
    found, findings = find_leaks(manifest, root, **options)
    show_findings(findings)
    leaking = sum(is_leak(leak) for leak in found)
    typer.echo(f"{leaking} pairs of cases leak; {len(found) - leaking} others have look-alike slices.")
    if json_file is not None:
        listed = {"threshold": options["threshold"], "pairs": [leak.to_json() for leak in found]}
        write_json(json_file, {**listed, "findings": [finding.to_json() for finding in findings]})
    if out is not None:
        left = without_leaks(manifest, found)
        taken = sum(len(manifest.part(part)) - len(left.part(part)) for part in ("training", "unlabeled"))
        save_manifest(out, left)
        typer.echo(f"written: {out}, without {taken} cases of training and unlabeled")
        stay = sum(is_leak(leak) and leak.trained_part == "validation" for leak in found)
        if stay:
            typer.echo(f"{stay} leaking pairs of validation and test are still in it: choose which of the two to keep.")
    return exit_codes.SOME_FAILED if has_errors(findings) else exit_codes.OK
