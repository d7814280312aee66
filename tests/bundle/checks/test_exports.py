from pathlib import Path
from typing import Any

import torch

from medssl.bundle.checks.exports import exports
from medssl.bundle.checks.subject import Subject
from medssl.bundle.export import export_bundle


def found(bundle: Path) -> list[str]:
    return [each.text for each in exports(Subject(bundle))]


def test_sound_bundle_exports(runnable: Path) -> None:
    export_bundle(runnable, to="torchscript")
    assert found(runnable) == []


def test_model_ts_of_other_weights_is_seen(runnable: Path) -> None:
    export_bundle(runnable, to="torchscript")
    path = runnable / "models" / "model.pt"
    torch.save({name: 2 * value for name, value in torch.load(path).items()}, path)
    assert any("differs from the network" in text for text in found(runnable))


def test_model_ts_that_is_no_torchscript_is_seen(runnable: Path) -> None:
    (runnable / "models" / "model.ts").write_bytes(b"nothing")
    assert any("does not load" in text for text in found(runnable))


def test_network_that_no_form_takes_is_a_warning(runnable: Path, edit: Any) -> None:
    network = {"_target_": "torch.nn.Identity"}
    edit("inference", {"network_def": network})
    (runnable / "models" / "model.pt").unlink()
    findings = list(exports(Subject(runnable)))
    assert {each.severity for each in findings} <= {"warning"}
