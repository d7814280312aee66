"""The dataset section counts cases and shows no patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from medssl.data.manifest import Case, Manifest, load_manifest
from medssl.reports import dataset
from medssl.reports.dataset import summarise_dataset
from medssl.reports.sources import ManifestFile


def _source(study, **changes):
    manifest = load_manifest(study["manifest"]).model_copy(update=changes)
    return ManifestFile(file=study["manifest"], manifest=manifest, root=study["manifest"].parent)


def test_cases_are_counted_by_part_and_labels_named(study):
    summary = summarise_dataset(_source(study))
    assert [(row.name, row.cases, row.labelled) for row in summary.parts] == [
        ("Training", 6, 6),
        ("Unlabelled", 4, 0),
        ("Test", 6, 6),
    ]
    assert summary.labels == (("0", "other"), ("1", "grey matter"), ("2", "white matter"))


def test_spread_comes_from_the_headers(study):
    rows = {row.name: row for row in summarise_dataset(_source(study)).spread}
    assert (rows["Size, second axis (voxels)"].low, rows["Size, second axis (voxels)"].high) == ("44", "44")
    assert rows["Spacing, third axis (mm)"].median == "1.00"


def test_patients_are_counted_and_never_named(study):
    cases = tuple(
        case.model_copy(update={"patient": f"Jane Doe {number // 2}", "site": "here"})
        for number, case in enumerate(load_manifest(study["manifest"]).test)
    )
    summary = summarise_dataset(_source(study, test=cases))
    assert (summary.parts[-1].patients, summary.parts[-1].sites) == (3, 1)
    assert "Jane" not in repr(summary)


def test_patients_of_some_cases_only_are_not_counted(study):
    cases = load_manifest(study["manifest"]).test
    cases = (cases[0].model_copy(update={"patient": "p"}), *cases[1:])
    assert summarise_dataset(_source(study, test=cases)).parts[-1].patients is None


def test_unreadable_images_become_findings():
    manifest = Manifest(name="m", modality="MR", labels={"0": "other"}, test=(Case(image=("no.nii.gz",), id="a"),))
    summary = summarise_dataset(ManifestFile(file=Path("m.json"), manifest=manifest, root=Path("nowhere")))
    assert (summary.headers_read, summary.spread) == (0, ())
    assert summary.findings[0].case == "a"


def test_large_sets_are_sampled_evenly(study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset, "MOST_HEADERS", 3)
    summary = summarise_dataset(_source(study))
    assert (summary.headers_read, summary.cases) == (3, 16)
