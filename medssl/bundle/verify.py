"""Verify a bundle: every check runs, every finding is reported, nothing stops at the first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.bundle.checks import configuration, description, files, hosts
from medssl.bundle.checks.subject import Subject
from medssl.core.findings import Finding, finding_from, has_errors

_logger = logging.getLogger("medssl.bundle")

Check = Callable[[Subject], Iterable[Finding]]

# A check joins by being listed here; those that run the network come behind these.
QUICK: tuple[tuple[str, str, Check], ...] = (
    ("B01", "required files", files.required_files),
    ("B02", "folder name", files.folder_name),
    ("B03", "metadata", description.metadata),
    ("B04", "channels", description.channels),
    ("B05", "trust", configuration.guard),
    ("B05", "references, components, arguments", configuration.references),
    ("B06", "MONAI's property ids", configuration.properties),
    ("B07", "handlers", hosts.handlers),
    ("B08", "inference.json", hosts.inference),
    ("B09", "unlabelled data", hosts.unlabeled),
    ("B10", "expressions", configuration.expressions),
    ("B11", "paths and hosts", files.places),
    ("B12", "sizes and models/", files.sizes),
    ("B13", "versions", description.versions),
)
# What `medssl bundle verify` runs by default.
STANDARD = QUICK


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What verifying a bundle found.

    Attributes:
        bundle: Name of the bundle.
        checks: (code, title) of every check that ran.
        findings: What they found, in their order.
    """

    bundle: str
    checks: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return not has_errors(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the verification as plain JSON values."""
        return {
            "bundle": self.bundle,
            "passed": self.passed,
            "checks": [{"code": code, "title": title} for code, title in self.checks],
            "findings": [finding.to_json() for finding in self.findings],
        }


def verify_bundle(
    bundle: Path, *, extra_schema: Path | None = None, checks: tuple[tuple[str, str, Check], ...] = QUICK
) -> Verification:
    """Run checks on a bundle; nothing of it is executed by the quick ones, and nothing is fetched.

    Args:
        bundle: Folder of the bundle.
        extra_schema: A second schema for metadata.json, such as a copy of MONAI's own.
        checks: (code, title, function) of the checks to run.
    """
    subject = Subject(Path(bundle), extra_schema)
    found: list[Finding] = []
    for code, title, check in checks:
        try:
            found += check(subject)
        except Exception as error:  # a bundle that breaks one check must not hide what the others find
            _logger.debug("check %s failed", code, exc_info=error)
            found.append(finding_from(error, where=f"{code} {title}"))
    return Verification(
        bundle=subject.folder.name, checks=tuple((code, title) for code, title, _ in checks), findings=tuple(found)
    )
