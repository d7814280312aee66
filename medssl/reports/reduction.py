"""What a reduction kept and dropped: slices of a few volumes, distances, and what other thresholds would keep."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.core.errors import MedsslError
from medssl.core.findings import Finding
from medssl.data.manifest import Case, Manifest
from medssl.reduction.audit import Audit, Row, read_audit
from medssl.reduction.hashing import thumbnails
from medssl.reduction.items import ItemTask, read_grey
from medssl.reduction.selection import greedy
from medssl.reduction.similarity import HammingMeasure
from medssl.reports.curves import Curve
from medssl.reports.figures import CLASS_COLOURS, INK, new_figure, plain_text, png_data, quiet_axes, svg_data
from medssl.reports.sources import ManifestFile

MOST_STRIPS = 3
MOST_SLICES = 40
_COLUMNS = 20
_THUMBNAIL = 72
_GAP = 10  # pixels between thumbnails
_MOST_HASHES = 20_000  # all thresholds of one whole set take seconds
_THRESHOLDS = range(0, 21, 2)
_KEPT, _DROPPED = CLASS_COLOURS[2], CLASS_COLOURS[1]
_SIZE_INCH = (5.2, 2.9)
_DECIDED = ("exemplar", "near_duplicate", "protected")


@dataclass(frozen=True, kw_only=True)
class ReductionSummary:
    """The section on one reduced manifest.

    Attributes:
        name: Of the manifest.
        facts: How it was reduced, and what was kept.
        reasons: Reason, number of items, share.
        strips: Slices of volumes with what became of each.
        curves: Distances, and growth with the threshold.
        notes: What cannot be shown, and why.
        findings: Files that could not be read.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    reasons: tuple[tuple[str, int, str], ...]
    strips: tuple[Curve, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def summarise_reduction(source: ManifestFile) -> ReductionSummary | None:
    """Show the audit that a reduced manifest names, or return None for any other manifest.

    Raises:
        ManifestError: If the audit is missing or was changed.
    """
    if source.manifest.reduction is None:
        return None
    audit = read_audit(source.manifest, source.file.parent)
    cases = _all_cases(source.manifest, audit)
    strips, findings, notes = _strips(source, audit, cases)
    growth, note = _growth(audit, cases)
    notes += [note] if note else []
    counts = audit.counts()
    settings = audit.settings
    threshold = settings.get("threshold_used")
    facts = [
        ("Method", str(settings.get("method"))),
        ("Scope", str(settings.get("scope"))),
        ("Threshold", "none" if threshold is None else f"{threshold:g}"),
        ("Kept", f"{counts['kept']} of {counts['items']} ({counts['kept'] / max(1, counts['items']):.1%})"),
        ("Cases without a kept item", str(len(audit.removed_cases))),
        ("Reduced before, by other settings", str(len(audit.history))),
    ]
    reasons = [
        (reason.replace("_", " "), number, f"{number / max(1, counts['items']):.1%}")
        for reason, number in counts["reasons"].items()
    ]
    return ReductionSummary(
        name=source.manifest.name,
        facts=tuple(facts),
        reasons=tuple(reasons),
        strips=tuple(strips),
        curves=tuple(curve for curve in (_distances(audit), growth) if curve is not None),
        notes=tuple(notes),
        findings=tuple(findings),
    )


def _all_cases(manifest: Manifest, audit: Audit) -> dict[str, Case]:
    """Return the cases of the manifest and those that the reduction took out of it."""
    found = {case.id: case for _, case in manifest.cases()}
    for removed in audit.removed_cases:
        case = Case.model_validate(removed["case"])
        found[case.id] = case
    return found


def _strips(source: ManifestFile, audit: Audit, cases: dict[str, Case]) -> tuple[list[Curve], list[Finding], list[str]]:
    if audit.settings.get("unit") == "volume":
        return [], [], ["Whole volumes were compared, so there are no slices to show."]
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in audit.rows:
        rows[row.case].append(row)
    several = [case for case, items in rows.items() if len(items) > 1 and case in cases]
    if not several:
        return [], [], ["No case has several slices, so no strip is drawn."]
    strips, findings = [], []
    for case_id in _spread(several, MOST_STRIPS):
        task = ItemTask(
            root=source.root,
            case=cases[case_id],
            modality=source.manifest.modality,
            window=_window(audit.settings.get("window", "auto")),
        )
        try:
            strips.append(_strip(case_id, read_grey(task), rows[case_id]))
        except MedsslError as error:
            fix = "Check the path and --data-root."
            text = f"its slices cannot be shown: {error}"
            findings.append(Finding(code="image-unreadable", severity="warning", case=case_id, text=text, fix=fix))
    return strips, findings, [] if strips else ["No slice can be shown: the images could not be read."]


def _window(stored: Any) -> Any:
    """Return a window as settings have it; JSON makes a list of a pair."""
    return tuple(stored) if isinstance(stored, list) else stored


def _spread(items: Sequence[str], most: int) -> list[str]:
    """Return at most so many items, from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most)]


def _strip(case_id: str, grey: npt.NDArray[np.uint8], rows: Sequence[Row]) -> Curve:
    """Draw slices from inferior to superior: kept ones framed, dropped ones pale."""
    known = [row for row in rows if row.slice < len(grey)]
    shown = [known[int(place)] for place in np.unique(np.linspace(0, len(known) - 1, MOST_SLICES).round())]
    # Volumes are stored with rows to anterior and columns to the right, and are shown with the front up
    side = _THUMBNAIL / max(grey.shape[1:])
    high, wide = (max(1, round(extent * side)) for extent in grey.shape[1:])
    small = thumbnails(np.ascontiguousarray(grey[[row.slice for row in shown]]), rows=high, columns=wide)
    lines = -(-len(shown) // _COLUMNS)
    step_x, step_y = wide + _GAP, high + 2 * _GAP
    figure = new_figure(0.0065 * step_x * _COLUMNS, 0.0065 * step_y * lines)
    axes = figure.add_subplot()
    axes.set_xlim(0, step_x * _COLUMNS)
    axes.set_ylim(step_y * lines, 0)
    axes.axis("off")
    for place, (row, picture) in enumerate(zip(shown, small[:, ::-1, ::-1], strict=True)):
        x, y = step_x * (place % _COLUMNS) + _GAP / 2, step_y * (place // _COLUMNS) + _GAP / 2
        pale = 1.0 if row.kept else 0.4
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255, alpha=pale, extent=(x, x + wide, y + high, y))
        colour, style = (_KEPT, "-") if row.kept else (_DROPPED, ":")
        frame = ([x, x + wide, x + wide, x, x], [y, y, y + high, y + high, y])
        axes.plot(*frame, color=colour, linestyle=style, linewidth=2.2 if row.kept else 0.7)
        axes.text(x + wide / 2, y + high + _GAP, str(row.slice), fontsize=6, color=INK, ha="center", va="center")
    axes.set_xlim(0, step_x * _COLUMNS)
    axes.set_ylim(step_y * lines, 0)
    kept = sum(row.kept for row in rows)
    text = f"{kept} of {len(rows)} slices kept; framed: kept, pale with a dotted frame: dropped"
    if len(shown) < len(rows):
        text += f"; {len(shown)} of {len(rows)} are shown, evenly spaced"
    return Curve(title=case_id, image=png_data(figure), description=f"{text}. Numbers count from the inferior end.")


def _distances(audit: Audit) -> Curve | None:
    """Draw how far dropped items lie from the item that removed them, and from the nearest one that was kept."""
    removed = [row.removed_distance for row in audit.rows if row.removed_distance is not None]
    nearest = [row.nearest_distance for row in audit.rows if not row.kept and row.nearest_distance is not None]
    if not nearest:
        return None
    bits = audit.settings.get("method") in ("dhash", "all", "every_n")
    largest = max([*removed, *nearest])
    edges = np.arange(-0.5, largest + 1.5) if bits else np.linspace(0.0, largest + 1e-9, 40)
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="distance (bits)" if bits else "1 - similarity", y_label="dropped items")
    for label, distances, colour in (("what removed it", removed, _DROPPED), ("the nearest kept", nearest, _KEPT)):
        if distances:
            axes.hist(distances, bins=edges, color=colour, alpha=0.6, label=f"to {label}")
    threshold = audit.settings.get("threshold_used")
    if threshold is not None:
        place = threshold + 0.5 if bits else 1.0 - threshold
        axes.axvline(place, color=INK, linestyle="--", linewidth=1.2, label="threshold")
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    text = f"Distances of {len(nearest)} dropped items; median to the nearest kept one: {np.median(nearest):.3g}."
    return Curve(title="Distances", image=svg_data(figure), description=text)


def _growth(audit: Audit, cases: dict[str, Case]) -> tuple[Curve | None, str | None]:
    """Draw what each threshold of hashes would keep of the same items."""
    rows = [row for row in audit.rows if row.reason in _DECIDED or row.reason in ("not_in_stride", "over_budget")]
    rows = [row for row in rows if row.hash is not None and len(row.hash) == 16]
    if not rows:
        return None, "What other thresholds would keep is shown for hashes of slices only."
    if len(rows) > _MOST_HASHES:
        return None, f"What other thresholds would keep is not shown for more than {_MOST_HASHES} items."
    groups: dict[str, list[Row]] = defaultdict(list)
    scope = audit.settings.get("scope")
    for row in rows:
        case = cases.get(row.case)
        patient = row.case if case is None else case.group
        groups[{"volume": row.case, "patient": patient}.get(str(scope), "")].append(row)
    kept: Counter[int] = Counter()
    for items in groups.values():
        measure = HammingMeasure(np.array([int(str(row.hash), 16) for row in items], dtype=np.uint64))
        protected = np.flatnonzero([row.reason == "protected" for row in items])
        for threshold in _THRESHOLDS:
            kept[threshold] += int(greedy(measure, threshold=threshold, protected=protected).kept.sum())
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="threshold (bits)", y_label="kept items")
    thresholds = list(_THRESHOLDS)
    axes.plot(thresholds, [kept[each] for each in thresholds], color=CLASS_COLOURS[0], marker="o", linewidth=1.4)
    axes.set_ylim(bottom=0)
    used = audit.settings.get("threshold_used") if audit.settings.get("method") == "dhash" else None
    if used is not None:
        axes.axvline(used, color=INK, linestyle="--", linewidth=1.2, label=plain_text(f"used: {used:g}"))
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    listed = ", ".join(f"{kept[each]} at {each}" for each in thresholds)
    return Curve(title="Growth", image=svg_data(figure), description=f"Kept of {len(rows)} items: {listed}."), None
