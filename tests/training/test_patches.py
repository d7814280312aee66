"""The count of patches: every network, no pass without a graph, and across the parts of a resumed run."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn
from training.small_run import small_run

from medssl.networks import TwinNet
from medssl.training.patches import PatchCount


def test_each_network_counts_and_passes_without_a_graph_do_not() -> None:
    network, image = TwinNet(first=nn.Conv3d(1, 2, 1), second=nn.Conv3d(1, 2, 1)), torch.zeros(4, 1, 2, 2, 2)
    count = PatchCount(network.independent_parts())
    network(image)
    network.first(image[:3])
    with torch.no_grad():
        network(image)
    assert count.total == 4 + 4 + 3


def test_a_copy_of_the_network_counts_for_itself() -> None:
    network = nn.Conv3d(1, 1, 1)
    count = PatchCount([network])
    deepcopy(network)(torch.zeros(2, 1, 2, 2, 2))
    assert count.total == 0


def test_several_outputs_of_one_pass_are_one_pass() -> None:
    class Deep(nn.Conv3d):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:  # type: ignore[override]
            return [super().forward(image)] * 3

    network = Deep(1, 1, 1)
    count = PatchCount([network])
    network(torch.zeros(2, 1, 2, 2, 2))
    assert count.total == 2


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_training_and_its_continuation_are_counted_together(tmp_path: Path, batch_size: int) -> None:
    def stop(iteration: int) -> None:
        if iteration == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path, on_batch=stop, save_minutes=0, batch_size=batch_size).trainer.run()
    resumed = small_run(tmp_path, batch_size=batch_size)
    resumed.trainer.run()
    assert resumed.optimization.patches.total == 3 * 4 * batch_size


def test_a_run_begun_without_a_count_has_none(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    state = run.optimization.state_dict()
    del state["patches"]
    run.optimization.load_state_dict(state)
    run.trainer.run()
    assert run.optimization.patches.total is None
