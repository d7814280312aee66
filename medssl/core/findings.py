"""Findings: what is wrong with one case, file or configuration id, as a value rather than an exception."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

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
