"""Verify a bundle: every check runs, every finding is reported, nothing stops at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medssl.bundle.checks import (
    configuration,
    consumers,
    description,
    exports,
    files,
    hosts,
    learning,
    processes,
    running,
)
from medssl.bundle.checks.subject import Subject, finding
from medssl.core.findings import Finding, finding_from, has_errors
from medssl.core.quiet import quiet

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
# These build the network and run it.
RUNNING: tuple[tuple[str, str, Check], ...] = (
    ("B14", "weights", running.weights),
    ("B15", "forward pass", running.forward),
    ("B16", "MONAI Label", consumers.label),
    ("B17", "MONAI Deploy", consumers.deploy),
    ("B18", "geometry", running.geometry),
)
# These train and export, which takes a minute or more.
TRAINING: tuple[tuple[str, str, Check], ...] = (
    ("B19", "training", learning.training),
    ("B20", "interruption", learning.interruption),
    ("B21", "evaluation", learning.evaluation),
    ("B22", "exports", exports.exports),
    ("B23", "processes", processes.processes),
)
STANDARD = QUICK + RUNNING
"""What `medssl bundle verify` runs by default."""
FULL = STANDARD + TRAINING
"""What `medssl bundle verify --full` runs."""

# With errors from these nothing of a bundle may be run, or can be
_PRECONDITIONS = frozenset({"B01", "B03", "B04", "B05"})
_QUICK_CODES = frozenset(code for code, _, _ in QUICK)


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

    The others run only if the quick ones found the bundle readable, trusted and consistent.

    Args:
        bundle: Folder of the bundle.
        extra_schema: A second schema for metadata.json, such as a copy of MONAI's own.
        checks: (code, title, function) of the checks to run.
    """
    subject = Subject(Path(bundle), extra_schema)
    found: list[Finding] = []
    sound = True
    ran = []
    for code, title, check in checks:
        if code not in _QUICK_CODES and not sound:
            continue
        ran.append((code, title))
        before = len(found)
        found += _findings_of(subject, code, title, check)
        sound = sound and not (code in _PRECONDITIONS and has_errors(found[before:]))
    if len(ran) < len(checks):
        text = f"{', '.join(code for code, _, _ in checks[len(ran) :])} did not run"
        fix = "Correct the errors above first; nothing of this bundle was run."
        found.append(finding(checks[len(ran)][0], subject.folder.name, text, fix, severity="warning"))
    return Verification(bundle=subject.folder.name, checks=tuple(ran), findings=tuple(found))


def _findings_of(subject: Subject, code: str, title: str, check: Check) -> list[Finding]:
    found: list[Finding] = []
    try:
        # What MONAI and a run say of their progress is not what was asked for here; findings are
        with quiet():
            # one by one, so that what was found before a failure is kept
            for each in check(subject):
                found.append(each)
    except Exception as error:  # a bundle that breaks one check must not hide what the others find
        found.append(replace(finding_from(error, where=title), code=code))
    return found
