"""Several processes assign the samples of all of them together and take one step."""

from __future__ import annotations

import torch
from methods.slice_contrast.process_slices import swav_iteration
from processes import in_processes

from medssl.losses import sinkhorn_assignments


def test_two_processes_share_assignments_queue_loss_and_weights() -> None:
    first, second = in_processes(swav_iteration)
    together = sinkhorn_assignments(torch.tensor([*first["scores"], *second["scores"]]))
    assert torch.allclose(torch.tensor([*first["assigned"], *second["assigned"]]), together, atol=1e-6)
    assert first["queue"] == second["queue"]
    assert len(first["queue"]) == 6
    assert first["loss"] == second["loss"]
    assert first["weights"] == second["weights"]
