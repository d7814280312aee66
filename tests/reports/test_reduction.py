"""The reduction in a report: strips, distances, growth, and what cannot be shown."""

from __future__ import annotations

from pathlib import Path

from methods.slice_contrast.small_slices import write_volumes

from medssl.data.manifest import load_manifest
from medssl.reduction.audit import save_reduced
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings
from medssl.reports.build import write_report
from medssl.reports.reduction import summarise_reduction
from medssl.reports.sources import ManifestFile


def _reduced(folder: Path, **settings) -> ManifestFile:
    manifest = load_manifest(write_volumes(folder, count=4, shape=(40, 40, 12)))
    audit = reduce_manifest(manifest, folder, Settings(**settings), workers=0).audit
    file = folder / "reduced.json"
    return ManifestFile(file=file, manifest=save_reduced(file, manifest, audit), root=folder)


def test_a_manifest_that_was_not_reduced_has_no_section(tmp_path: Path) -> None:
    path = write_volumes(tmp_path)
    assert summarise_reduction(ManifestFile(file=path, manifest=load_manifest(path), root=tmp_path)) is None


def test_a_few_volumes_are_shown_slice_by_slice(tmp_path: Path) -> None:
    summary = summarise_reduction(_reduced(tmp_path, threshold=30))
    assert [strip.title for strip in summary.strips] == ["ct_0", "ct_1", "ct_3"]
    assert "of 12 slices kept" in summary.strips[0].description
    assert summary.strips[0].image.startswith("data:image/png")


def test_growth_is_what_each_threshold_would_keep(tmp_path: Path) -> None:
    source = _reduced(tmp_path, threshold=20)
    summary = summarise_reduction(source)
    manifest = load_manifest(tmp_path / "manifest.json")
    growth = next(curve for curve in summary.curves if curve.title == "Growth")
    for threshold in (0, 10, 20):
        again = reduce_manifest(manifest, tmp_path, Settings(threshold=threshold), workers=0).audit
        assert f"{again.counts()['kept']} at {threshold}" in growth.description


def test_distances_of_dropped_slices_are_drawn(tmp_path: Path) -> None:
    summary = summarise_reduction(_reduced(tmp_path, threshold=40))
    assert summary.curves[0].title == "Distances"
    assert dict(summary.facts)["Threshold"] == "40"
    assert sum(number for _, number, _ in summary.reasons) == 48


def test_other_methods_say_what_is_not_shown(tmp_path: Path) -> None:
    assert "hashes of slices only" in summarise_reduction(_reduced(tmp_path / "a", method="ssim", size=16)).notes[0]
    notes = summarise_reduction(_reduced(tmp_path / "b", unit="volume", scope="dataset", threshold=6)).notes
    assert "Whole volumes were compared" in notes[0]


def test_images_that_are_gone_are_findings(tmp_path: Path) -> None:
    source = _reduced(tmp_path)
    (tmp_path / "ct_0.nii.gz").unlink()
    assert [finding.case for finding in summarise_reduction(source).findings] == ["ct_0"]


def test_the_page_has_the_section(tmp_path: Path) -> None:
    _reduced(tmp_path)
    write_report([tmp_path / "reduced.json"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<h2 id="reduction">Reduction</h2>' in page
    assert "near duplicate" in page or "exemplar" in page
