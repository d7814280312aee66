"""The audit: written and read alike, exact way back, single items brought back, damage noticed."""

import json

import pytest
from small_scans import ct, scan, write

from medssl.core.errors import ManifestError
from medssl.data.manifest import load_manifest, save_manifest
from medssl.reduction import audit
from medssl.reduction.audit import kept_slices, read_audit, read_undo, restore, save_reduced, undo
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings


@pytest.fixture
def reduced(tmp_path):
    """A manifest of which one case is dropped as a whole, its original and its audit."""
    cases = [write(tmp_path, name, scan(seed)) for name, seed in (("a", 1), ("copy", 1), ("b", 2))]
    original = ct(unlabeled=cases, test=[write(tmp_path, "t", scan(3))])
    decided = reduce_manifest(original, tmp_path, Settings(scope="dataset"), workers=0)
    save_reduced(tmp_path / "r.json", original, decided.audit)
    return original, load_manifest(tmp_path / "r.json"), tmp_path


def test_what_is_written_is_read(reduced):
    original, manifest, folder = reduced
    audit = read_audit(manifest, folder)
    assert len(audit.rows) == 36
    assert audit.settings["threshold_used"] == 6
    assert audit.input_sha256 == original.sha256()
    assert [case.id for case in manifest.unlabeled] == ["a", "b"]


def test_the_header_counts_what_the_lines_say(reduced):
    _, manifest, folder = reduced
    header, *lines = [json.loads(line) for line in (folder / manifest.reduction.file).read_text().splitlines()]
    assert header["counts"]["items"] == len(lines) == 36
    assert header["counts"]["kept"] == sum(line["kept"] for line in lines)
    assert header["counts"]["cases"]["copy"] == {"items": 12, "kept": 0}
    assert all("patient" not in line for line in lines)


def test_kept_slices_are_those_of_the_lines(reduced):
    _, manifest, folder = reduced
    rows = read_audit(manifest, folder).rows
    assert kept_slices(read_audit(manifest, folder)) == {
        case: [row.slice for row in rows if row.case == case and row.kept] for case in ("a", "copy", "b")
    }
    assert kept_slices(read_audit(manifest, folder))["copy"] == []


def test_restoring_gives_back_the_very_manifest(reduced):
    original, manifest, folder = reduced
    assert restore(manifest, read_audit(manifest, folder)) == original


def test_a_manifest_changed_since_is_not_restored(reduced):
    _, manifest, folder = reduced
    with pytest.raises(ManifestError, match="changed since"):
        restore(manifest.model_copy(update={"test": ()}), read_audit(manifest, folder))


def test_the_same_reduction_writes_the_same_bytes(reduced):
    original, manifest, folder = reduced
    decided = reduce_manifest(original, folder, Settings(scope="dataset"), workers=0)
    save_reduced(folder / "again.json", original, decided.audit)
    assert (folder / "again.reduction.jsonl").read_bytes() == (folder / manifest.reduction.file).read_bytes()


def test_a_changed_or_missing_audit_is_refused(reduced):
    _, manifest, folder = reduced
    file = folder / manifest.reduction.file
    file.write_text(file.read_text().replace('"kept": false', '"kept": true', 1))
    with pytest.raises(ManifestError, match="hash differs"):
        read_audit(manifest, folder)
    file.unlink()
    with pytest.raises(ManifestError, match="none"):
        read_audit(manifest, folder)
    save_manifest(folder / "plain.json", manifest.model_copy(update={"reduction": None}))
    with pytest.raises(ManifestError, match="no reduction"):
        read_audit(load_manifest(folder / "plain.json"), folder)


def test_a_slice_brought_back_stays_and_removes_nothing(reduced):
    original, manifest, folder = reduced
    audit = read_audit(manifest, folder)
    undone = undo(audit, [{"case": "copy", "slice": 5, "reason": "a lesion", "author": "reader 1"}])
    changed = [row for row, before in zip(undone.rows, audit.rows, strict=True) if row != before]
    assert [(row.place, row.reason, row.note) for row in changed] == [(("copy", 5), "restored", "a lesion; reader 1")]
    again = reduce_manifest(original, folder, Settings(scope="dataset"), previous=undone, workers=0).audit
    assert again.rows == undone.rows
    save_reduced(folder / "u.json", original, undone)
    assert kept_slices(read_audit(load_manifest(folder / "u.json"), folder))["copy"] == [5]


def test_bringing_everything_back_keeps_every_slice(reduced):
    original, manifest, folder = reduced
    audit = read_audit(manifest, folder)
    everything = [{"case": case, "reason": "all"} for case in ("a", "b", "copy")]
    back = save_reduced(folder / "u.json", original, undo(audit, everything))
    assert back.unlabeled == original.unlabeled
    assert kept_slices(read_audit(back, folder)) == {case: list(range(12)) for case in ("a", "b", "copy")}


@pytest.mark.parametrize(
    "entry", [{"case": "x", "reason": "r"}, {"case": "a", "slice": 99, "reason": "r"}, {"case": "a"}]
)
def test_an_undo_that_names_nothing_is_refused(reduced, entry):
    _, manifest, folder = reduced
    with pytest.raises(ManifestError, match="undo list"):
        undo(read_audit(manifest, folder), [entry])


def test_undo_lists_are_json_lines(tmp_path):
    (tmp_path / "undo.jsonl").write_text('{"case": "a", "reason": "r"}\n\n')
    assert read_undo(tmp_path / "undo.jsonl") == [{"case": "a", "reason": "r"}]
    (tmp_path / "undo.jsonl").write_text("[1]\n")
    with pytest.raises(ManifestError, match="one JSON object"):
        read_undo(tmp_path / "undo.jsonl")
    with pytest.raises(ManifestError, match="unreadable"):
        read_undo(tmp_path / "none.jsonl")


def test_an_audit_whose_writing_was_killed_is_still_the_one_of_its_manifest(reduced, monkeypatch):
    """Killed before the manifest is written, the old state holds; killed after it, the new one does."""
    original, _, folder = reduced
    decided = reduce_manifest(original, folder, Settings(scope="dataset", threshold=12), workers=0)

    def killed_before(path, manifest):
        raise KeyboardInterrupt

    def killed_after(path, manifest):
        save_manifest(path, manifest)
        raise KeyboardInterrupt

    for killed, threshold in ((killed_before, 6), (killed_after, 12)):
        monkeypatch.setattr(audit, "save_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            save_reduced(folder / "r.json", original, decided.audit)
        found = load_manifest(folder / "r.json")
        assert restore(found, read_audit(found, folder)) == original
        assert read_audit(found, folder).settings["threshold_used"] == threshold


def test_line_separators_inside_of_texts_break_no_line(reduced, tmp_path):
    original, manifest, folder = reduced
    (tmp_path / "undo.jsonl").write_text(
        '{"case": "copy", "slice": 5, "reason": "a\u2028lesion\u0085"}\n', encoding="utf-8"
    )
    undone = undo(read_audit(manifest, folder), read_undo(tmp_path / "undo.jsonl"))
    save_reduced(folder / "u.json", original, undone)
    back = load_manifest(folder / "u.json")
    assert kept_slices(read_audit(back, folder))["copy"] == [5]
    assert restore(back, read_audit(back, folder)) == original


def test_an_undo_entry_of_another_kind_is_refused(reduced):
    _, manifest, folder = reduced
    with pytest.raises(ManifestError, match="undo list"):
        undo(read_audit(manifest, folder), [{"case": ["a"], "slice": 0, "reason": "x"}])
