"""Reduce the items of a manifest: read, describe, group, select, and say what was noticed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding, finding_from
from medssl.core.provenance import package_versions
from medssl.data.manifest import Case, Manifest, Part
from medssl.reduction.audit import Audit, Reason, Row
from medssl.reduction.hashing import Grey, dhash, hash_text
from medssl.reduction.items import VOLUME_SLICES, CaseItems, ItemTask, read_all
from medssl.reduction.selection import NOBODY, Selection, calibrated, chosen, evenly, greedy, most_different
from medssl.reduction.settings import HASH_6, Settings
from medssl.reduction.similarity import CosineMeasure, HammingMeasure, Measure, NmiMeasure, SsimMeasure

Encoder = Callable[[Grey], npt.NDArray[np.floating[Any]]]

_HASHED = ("all", "every_n", "dhash")
_VERSIONS = ("medssl", "numpy")

_logger = logging.getLogger(__name__)


class _Item(NamedTuple):
    """Where an item stands: in the list of cases, and in the arrays of its case."""

    case: int
    slice: int


class Reduced(NamedTuple):
    """What was decided, and what was noticed."""

    audit: Audit
    findings: list[Finding]


def reduce_manifest(
    manifest: Manifest,
    root: Path,
    settings: Settings,
    *,
    previous: Audit | None = None,
    budgets: Mapping[str, int] | None = None,
    encoder: Encoder | None = None,
    workers: int | None = None,
) -> Reduced:
    """Decide which items of a manifest stay. The result depends on manifest order, not on the number of workers.

    Args:
        manifest: Before any reduction.
        root: Folder that its paths start from.
        settings: How.
        previous: Audit of an earlier reduction of this manifest: only what it kept is looked at. With the same
            settings the result is the same audit.
        budgets: Items to keep of each case, where `settings.budget` is "given".
        encoder: For the method embedding: 8-bit images (N, size, size) to vectors (N, D).
        workers: Processes that read; None chooses by the size of the files, 0 uses this process.

    Raises:
        ConfigError: If there is nothing to reduce, or a part is labelled that was not meant.
    """
    if (settings.method == "embedding") != (encoder is not None):
        raise ConfigError("the method embedding needs an encoder (--encoder FILE), and no other method takes one.")
    if (budgets is not None) != (settings.budget == "given"):
        raise ConfigError('budgets of each case: expected them with the budget "given", and only then.')
    cases = [(part, case) for part in settings.parts for case in manifest.part(part)]
    if not cases:
        message = f"manifest {manifest.name!r}: expected cases in {', '.join(settings.parts)}, found none."
        raise ConfigError(message, fix="Name the parts to reduce with --part.")
    labelled = next((case for _, case in cases if case.label is not None or case.class_ is not None), None)
    if labelled is not None and not settings.allow_labelled:
        message = f"case {labelled.id}: expected unlabelled cases, found a label. Reduction is for pre-training data."
        raise ConfigError(message, fix="Leave the part out, or add --allow-labelled.")
    unknown = sorted(set(settings.protect) - {case.id for _, case in cases})
    if unknown:
        raise ConfigError(f"--protect: expected ids of cases that are reduced, found {unknown[0]!r}.")
    run = _Run(manifest, root, settings, cases, previous=previous)
    run.read(workers)
    run.select(encoder, budgets)
    return Reduced(run.audit(), [*run.findings, *run.noticed()])


class _Run:
    """One reduction, step by step."""

    def __init__(
        self,
        manifest: Manifest,
        root: Path,
        settings: Settings,
        cases: list[tuple[Part, Case]],
        *,
        previous: Audit | None,
    ) -> None:
        self.manifest, self.root, self.settings, self.cases = manifest, root, settings, cases
        self.previous = previous
        self.earlier = {row.place: row for row in previous.rows} if previous else {}
        self.findings: list[Finding] = []
        self.items: list[CaseItems | None] = []
        self.rows: dict[_Item, Row] = {}
        self.threshold = settings.threshold
        self.distance: float | None = None  # calibrated; as 1 - similarity it would be rounded twice

    def read(self, workers: int | None) -> None:
        """Read and describe every case; what cannot be read is a finding."""
        settings = self.settings
        size = None if settings.method in _HASHED else settings.size
        tasks = [
            ItemTask(
                root=self.root,
                case=case,
                modality=self.manifest.modality,
                unit=settings.unit,
                window=settings.window,
                size=size,
            )
            for _, case in self.cases
        ]
        for task, outcome in zip(tasks, read_all(tasks, workers=workers), strict=True):
            if isinstance(outcome, CaseItems):
                self.items.append(outcome)
                self.findings += outcome.findings
            else:
                self.items.append(None)
                self.findings.append(finding_from(outcome, case=task.case.id, where=task.case.image[0]))

    def select(self, encoder: Encoder | None, budgets: Mapping[str, int] | None) -> None:
        """Decide group by group."""
        groups = list(self._groups())
        measures = [self._measure(group, encoder) for group in groups]
        if self.settings.method not in _HASHED and self.settings.budget is None:
            self._calibrate(groups, measures)
        for group, measure in zip(groups, measures, strict=True):
            wanted = self.settings.budget
            given = 0 if budgets is None else budgets.get(self.cases[group[0].case][1].id, 0)
            budget = given if wanted == "given" else wanted
            self._record(group, self._decide(group, measure, budget), measure)

    def _groups(self) -> Iterator[list[_Item]]:
        groups: dict[Any, list[_Item]] = {}
        for index, (part, case) in enumerate(self.cases):
            content = self.items[index]
            if content is None:
                self.rows[_Item(index, 0)] = Row(case=case.id, part=part, slice=0, kept=False, reason="unreadable")
                continue
            key = {"volume": index, "patient": case.group, "dataset": None}[self.settings.scope]
            for number in range(len(content.empty)):
                item = _Item(index, number)
                earlier = self._earlier(case, number, content.sha256)
                if earlier is not None and (not earlier.kept or earlier.reason == "restored"):
                    self.rows[item] = earlier
                elif content.empty[number] and case.id not in self.settings.protect:
                    self.rows[item] = self._row(item, kept=False, reason="empty_slice")
                else:
                    groups.setdefault(key, []).append(item)
        yield from groups.values()

    def _earlier(self, case: Case, number: int, sha256: str) -> Row | None:
        """Return what an earlier reduction decided, if it saw this file and nothing speaks against it now."""
        row = self.earlier.get((case.id, number))
        if row is None or row.reason == "unreadable" or (case.id in self.settings.protect and not row.kept):
            return None
        if row.source_sha256 not in (None, sha256):
            if number == 0:
                text = "expected the file that was reduced, found another: all of it was looked at anew."
                fix = "Nothing, if the file was meant to change."
                finding = Finding(code="changed", severity="warning", text=text, fix=fix, case=case.id)
                self.findings.append(finding)
            return None
        return row

    def _measure(self, group: list[_Item], encoder: Encoder | None) -> Measure:
        by_case: dict[int, list[int]] = {}
        for item in group:
            by_case.setdefault(item.case, []).append(item.slice)
        content = np.concatenate([self._content(case).descriptors[slices] for case, slices in by_case.items()])
        if self.settings.method == "ssim":
            return SsimMeasure(content)
        if self.settings.method == "nmi":
            return NmiMeasure(content, bins=self.settings.bins)
        return HammingMeasure(content) if encoder is None else CosineMeasure(encoder(content))

    def _calibrate(self, groups: list[list[_Item]], measures: list[Measure]) -> None:
        """Without a threshold, keep as many as HASH-6 does; thumbnails are hashed in place of the slices."""
        if self.previous is not None and self._settings_as_before():
            self.threshold = self.previous.settings["threshold_used"]
        if self.threshold is not None:
            return
        target = 0
        for group in groups:
            hashes = [dhash(self._content(item.case).descriptors[item.slice][None]) for item in group]
            target += int(greedy(HammingMeasure(np.concatenate(hashes)), threshold=HASH_6).kept.sum())
        self.distance = calibrated(measures, target=target)
        self.threshold = 1.0 - self.distance
        _logger.info("threshold %.4f keeps closest to the %d items of HASH-6", self.threshold, target)

    def _decide(self, group: list[_Item], measure: Measure, budget: int | None) -> Selection:
        method = self.settings.method
        protected = np.flatnonzero([self.cases[item.case][1].id in self.settings.protect for item in group])
        if method == "all":
            return chosen(measure, np.arange(len(group)))
        if method == "every_n":
            if budget is not None:
                kept = evenly(len(group), budget) if budget else np.array([], dtype=np.intp)
            else:  # counted in the whole volume, so that every n-th of every n-th is every n-th
                kept = np.flatnonzero([self._count(item) % (self.settings.every or 1) == 0 for item in group])
            return chosen(measure, np.union1d(kept, protected).astype(np.intp))
        if budget is not None:
            return most_different(measure, budget=budget, protected=protected)
        threshold = HASH_6 if self.threshold is None else self.threshold
        if not measure.inclusive:
            threshold = 1.0 - threshold if self.distance is None else self.distance
        return greedy(measure, threshold=threshold, protected=protected)

    def _count(self, item: _Item) -> int:
        """Return the place of a slice in its volume, or of an image or whole volume among the cases."""
        return item.slice if len(self._content(item.case).empty) > 1 else item.case

    def _record(self, group: list[_Item], selection: Selection, measure: Measure) -> None:
        budgeted: Reason = "not_in_stride" if self.settings.method == "every_n" else "over_budget"
        for position, item in enumerate(group):
            kept, by = bool(selection.kept[position]), int(selection.removed_by[position])
            near = int(selection.nearest[position])
            if kept:
                protected = self.cases[item.case][1].id in self.settings.protect
                reason: Reason = "protected" if protected else "exemplar"
            else:
                reason = budgeted if by == NOBODY else "near_duplicate"
            self.rows[item] = self._row(
                item,
                kept=kept,
                reason=reason,
                removed_by=None if by == NOBODY else self._place(group[by]),
                removed_distance=None if by == NOBODY else _number(selection.removed_distance[position]),
                nearest=None if near == NOBODY else self._place(group[near]),
                nearest_distance=None if near == NOBODY else _number(selection.nearest_distance[position]),
            )

    def _row(self, item: _Item, **fields: Any) -> Row:
        part, case = self.cases[item.case]
        content = self._content(item.case)
        descriptor, height = content.descriptors[item.slice], content.positions_mm[item.slice]
        text = hash_text(descriptor) if descriptor.ndim == 0 else None
        if descriptor.shape == (VOLUME_SLICES,):
            text = "".join(hash_text(value) for value in descriptor)
        return Row(
            case=case.id,
            part=part,
            slice=item.slice,
            z_mm=None if np.isnan(height) else round(float(height), 3),
            hash=text,
            source_sha256=content.sha256,
            **fields,
        )

    def _place(self, item: _Item) -> tuple[str, int]:
        return self.cases[item.case][1].id, item.slice

    def _content(self, case: int) -> CaseItems:
        content = self.items[case]
        if content is None:  # only readable cases are grouped
            raise KeyError(case)
        return content

    def audit(self) -> Audit:
        """Put the rows into manifest order; reducing again with the same settings gives the same audit."""
        settings = {**self.settings.to_json(), "threshold_used": self._used_threshold()}
        history: tuple[dict[str, Any], ...] = ()
        if self.previous is not None and self._settings_as_before():
            settings, history = self.previous.settings, self.previous.history
        elif self.previous is not None:
            history = (*self.previous.history, self.previous.settings)
        installed = package_versions()
        return Audit(
            settings=settings,
            input_sha256=self.manifest.sha256(),
            rows=tuple(self.rows[item] for item in sorted(self.rows)),
            history=history,
            versions={name: installed[name] for name in _VERSIONS if name in installed},
        )

    def _settings_as_before(self) -> bool:
        before = {} if self.previous is None else self.previous.settings
        return {**before, "threshold_used": None} == {**self.settings.to_json(), "threshold_used": None}

    def _used_threshold(self) -> float | None:
        if self.settings.method in ("all", "every_n") or self.settings.budget is not None:
            return None
        return HASH_6 if self.threshold is None else self.threshold

    def noticed(self) -> Iterator[Finding]:
        """Look at all cases together: mixed kinds and sizes, empty slices, a threshold that decides nothing."""
        read = [(case, content) for (_, case), content in zip(self.cases, self.items, strict=True) if content]
        kinds = Counter(content.kind for _, content in read)
        usual = max(kinds, key=lambda kind: kinds[kind], default=None)
        for case, content in read:
            if content.kind != usual:
                text = (
                    f"expected {usual} values as in {kinds[usual]} cases, found {content.kind} ones: mixed modalities?"  # type: ignore[index]
                )
                fix = "Reduce each modality by itself, in a manifest of its own."
                yield Finding(code="modality-mixed", severity="warning", text=text, fix=fix, case=case.id)
            if content.empty.all():
                text = "all its items are empty or constant; nothing of it is kept."
                yield Finding(code="all-empty", severity="warning", text=text, fix="Look at the file.", case=case.id)
        shapes = Counter(content.shape for _, content in read)
        if len(shapes) > 1:
            listed = ", ".join(f"{rows} x {columns} ({count})" for (rows, columns), count in shapes.most_common(3))
            text = f"slices have {len(shapes)} different sizes: {listed}{', ...' if len(shapes) > 3 else ''}."
            fix = "Nothing: all are compared at one size. Crops of different organs should not be mixed."
            yield Finding(code="size-mixed", severity="info", text=text, fix=fix)
        yield from self._decided_nothing()

    def _decided_nothing(self) -> Iterator[Finding]:
        decided = [row for item, row in self.rows.items() if row.reason in ("exemplar", "near_duplicate")]
        kept = sum(row.kept for row in decided)
        patients = {case.id: case.group for _, case in self.cases}
        groups = len({row.case if self.settings.scope == "volume" else patients[row.case] for row in decided})
        groups = 1 if self.settings.scope == "dataset" else groups
        if len(decided) > groups and self._used_threshold() is not None and not self.previous:
            fix = "Choose another --threshold or --scope."
            if kept == len(decided):
                text = f"the threshold keeps all {kept} items: nothing is redundant at {self._used_threshold():g}."
                yield Finding(code="keeps-everything", severity="warning", text=text, fix=fix)
            elif kept <= groups:
                text = f"the threshold keeps {kept} of {len(decided)} items: one of each {self.settings.scope}."
                yield Finding(code="keeps-nothing", severity="warning", text=text, fix=fix)
        if len(decided) == groups and groups > 1:
            text = f"each {self.settings.scope} has one item, so that there is nothing to compare."
            yield Finding(code="scope-alone", severity="warning", text=text, fix="Use --scope dataset.")


def _number(value: float) -> float:
    return int(value) if value == int(value) else round(float(value), 6)
