"""Findings: what is wrong with one case, file or configuration id, as a value rather than an exception."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from medssl.core.errors import MedsslError

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One observation about data or configuration.

    Attributes:
        code: Stable short name, such as "label-affine" or "B05".
        severity: "error" (unusable as it is), "warning" (usable, look at it) or "info".
        case: Case id, or None when the finding concerns no single case.
        text: What was expected and what was found.
        fix: What the user can do about it.
        where: File, or configuration id, that the finding is about.
    """

    code: str
    severity: Severity
    text: str
    fix: str
    case: str | None = None
    where: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values, without empty fields."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def has_errors(findings: Iterable[Finding]) -> bool:
    """Tell whether any finding has severity "error"."""
    return any(finding.severity == "error" for finding in findings)


def finding_from(
    error: BaseException, *, case: str | None = None, where: str | None = None, severity: Severity = "error"
) -> Finding:
    """Turn an exception into a finding, so that one bad case does not stop the others.

    Args:
        error: A `MedsslError`, whose code, text and fix are taken over, or any other exception (code "unexpected").
        case: Case id.
        where: File, or configuration id, that the finding is about.
        severity: How bad it is.
    """
    if isinstance(error, MedsslError):
        code, text, fix = error.code, error.text, error.fix or "Correct what the text names."
    elif isinstance(error, MemoryError):
        code, text = "memory", f"expected enough memory for this case, found too little ({error})."
        fix = "Use a machine with more memory, or fewer processes beside it."
    else:
        code, text = "unexpected", f"expected no other failure, found {type(error).__name__}: {error}"
        fix = "Look at the file; if it is sound, report this as a defect of medssl."
    return Finding(code=code, severity=severity, text=text, fix=fix, case=case, where=where)
