from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch

from medssl.bundle.checks.running import bare_network, forward, geometry, runnable_copy, weights
from medssl.bundle.checks.subject import Subject
from medssl.core.quiet import quiet


def found(check: Any, bundle: Path) -> list[str]:
    with quiet():
        return [each.text for each in check(Subject(bundle))]


def test_sound_bundle_passes(runnable: Path) -> None:
    assert [found(check, runnable) for check in (weights, forward, geometry)] == [[], [], []]


def test_weights_of_another_network_are_b14(runnable: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, runnable / "models" / "model.pt")
    assert "expected the tensors of network_def" in found(weights, runnable)[0]


def test_weights_that_are_not_finite_are_b14(runnable: Path) -> None:
    state = bare_network(runnable).state_dict()
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, runnable / "models" / "model.pt")
    assert "finite" in found(weights, runnable)[0]


def test_weights_with_code_in_them_are_b14_and_do_not_run(runnable: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"x": _Hostile(marker)}, runnable / "models" / "model.pt")
    assert "not safe to load" in found(weights, runnable)[0]
    assert not marker.exists()


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_weights_not_shipped_are_a_warning_and_the_network_still_runs(runnable: Path, edit: Any) -> None:
    (runnable / "models" / "model.pt").unlink()
    edit("metadata", {"weights": "not shipped"})
    subject = Subject(runnable)
    assert [each.severity for each in weights(subject)] == ["warning"]
    assert found(geometry, runnable) == []


def test_channels_that_metadata_does_not_declare_are_b15(runnable: Path, edit: Any) -> None:
    edit("metadata", {"network_data_format#outputs#pred#num_channels": 4})
    assert any("expected logits of shape (1, 4, 16, 16, 16)" in text for text in found(forward, runnable))


def test_image_that_the_network_cannot_take_is_b15(runnable: Path, edit: Any) -> None:
    edit("metadata", {"network_data_format#inputs#image#num_channels": 2})
    assert "verify_net_in_out fails" in _until_failure(forward, runnable)[0]


def _until_failure(check: Any, bundle: Path) -> list[str]:
    texts = []
    with quiet(), pytest.raises(RuntimeError):
        for each in check(Subject(bundle)):
            texts.append(each.text)
    return texts


def test_output_that_stays_on_the_working_grid_is_b18(runnable: Path, edit: Any) -> None:
    edit("inference", {"postprocessing#transforms#1": None, "resample_to_spacing": [2.0, 2.0, 2.0]})
    texts = found(geometry, runnable)
    assert any("expected the image's shape" in text for text in texts)
    assert any("expected the image's affine" in text for text in texts)


def test_copy_leaves_the_bundle_alone_and_goes_away(runnable: Path) -> None:
    before = sorted(runnable.rglob("*"))
    with runnable_copy(Subject(runnable)) as copy:
        (copy / "models" / "model.pt").write_bytes(b"")
    assert not copy.exists()
    assert sorted(runnable.rglob("*")) == before


def test_phantom_image_is_oblique(tmp_path: Path) -> None:
    from medssl.bundle.checks.phantoms import write_phantom_image

    (path,) = write_phantom_image(tmp_path / "p.nii.gz", channels=1, shape=(5, 6, 7))
    affine = nib.load(path).affine[:3, :3]
    assert (abs(affine) > 0.1).all()
