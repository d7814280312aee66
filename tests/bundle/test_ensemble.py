import shutil
from pathlib import Path

import pytest
import torch

from medssl.bundle.checks.running import bare_network, network_with_weights
from medssl.bundle.ensemble import assemble_ensemble
from medssl.core.errors import CheckpointError, ConfigError


@pytest.fixture
def members(runnable: Path, tmp_path: Path) -> list[Path]:
    other = Path(shutil.copytree(runnable, tmp_path / "other"))
    state = {name: value + 0.1 for name, value in bare_network(other).state_dict().items()}
    torch.save(state, other / "models" / "model.pt")
    return [runnable, other]


def test_assembled_bundle_computes_the_mean_probability(members: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "two_mr_networks"
    assemble_ensemble(members, out)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        mean = torch.stack([network_with_weights(member)(image).softmax(1) for member in members]).mean(0)
        assert torch.allclose(network_with_weights(out)(image).softmax(1), mean, atol=1e-5)


def test_members_of_different_networks_are_refused(members: list[Path], tmp_path: Path) -> None:
    path = members[1] / "configs" / "inference.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"strides": [\n            2\n', '"strides": [\n 4\n'))
    with pytest.raises(ConfigError, match="same network_def"):
        assemble_ensemble(members, tmp_path / "two")


def test_member_without_weights_is_named(members: list[Path], tmp_path: Path) -> None:
    (members[1] / "models" / "model.pt").unlink()
    with pytest.raises(CheckpointError, match="no such weights file"):
        assemble_ensemble(members, tmp_path / "two")
