"""Exceptions become findings."""

from medssl.core.errors import ImageError, ManifestError
from medssl.core.findings import finding_from


def test_code_text_and_fix_are_taken_over():
    finding = finding_from(ImageError("a.nii: bad.", fix="Export.", code="file-empty"), case="c1", where="a.nii")
    assert finding.to_json() == {
        "code": "file-empty",
        "severity": "error",
        "text": "a.nii: bad.",
        "fix": "Export.",
        "case": "c1",
        "where": "a.nii",
    }


def test_an_error_without_a_code_has_its_class_as_code():
    finding = finding_from(ManifestError("bad manifest"), severity="warning")
    assert (finding.code, finding.severity, finding.fix) == ("manifest", "warning", "Correct what the text names.")


def test_any_other_exception_is_unexpected():
    finding = finding_from(KeyError("x"))
    assert finding.code == "unexpected"
    assert "KeyError" in finding.text
