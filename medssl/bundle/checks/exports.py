"""B22: TorchScript and ONNX forms against eager, and the model.ts that the bundle ships against a fresh one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from medssl.bundle.checks.running import network_with_weights, runnable_copy
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.export import TOLERANCE, ExportError, Form, export_bundle
from medssl.core.errors import DependencyError
from medssl.core.findings import Finding

_FORMS: tuple[Form, ...] = ("torchscript", "onnx")


def exports(subject: Subject) -> Iterator[Finding]:
    """B22: both portable forms can be made and compute what the network computes; a shipped model.ts is current."""
    with runnable_copy(subject) as bundle:
        for form in _FORMS:
            try:
                export_bundle(bundle, to=form, out=bundle / "exported" / form)
            except (ExportError, DependencyError) as error:
                fix = error.fix or "Say in docs/README.md which forms the network has."
                yield finding("B22", f"inference.json, network_def to {form}", error.text, fix, severity="warning")
    shipped = subject.folder / "models" / "model.ts"
    if shipped.is_file():
        yield from _shipped_findings(subject, shipped)


def _shipped_findings(subject: Subject, path: Path) -> Iterator[Finding]:
    fix = "Make it again: medssl export BUNDLE --to torchscript."
    image = torch.randn(1, subject.channels, *subject.patch, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network_with_weights(subject.folder)(image)
        try:
            found = torch.jit.load(str(path))(image)
        except Exception as error:  # torch raises whatever the file provokes
            yield finding(
                "B22", "models/model.ts", f"it does not load ({type(error).__name__})", fix, severity="warning"
            )
            return
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        text = f"it differs from the network with model.pt by {difference:.3g}"
        yield finding("B22", "models/model.ts", text, fix, severity="warning")
