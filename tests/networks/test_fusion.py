"""Mean and vote against plain versions, ties included."""

from __future__ import annotations

import torch

from medssl.networks.fusion import fuse_logits


def _at(*probabilities: list[float]) -> list[torch.Tensor]:
    """Return the logits of one voxel for several members."""
    return [torch.tensor(each).log().view(1, -1, 1, 1, 1) for each in probabilities]


def _random(members: int, *, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3.0 * torch.randn(2, 4, 3, 5, 2, generator=generator) for _ in range(members)]


def test_mean_is_the_log_of_the_mean_probability() -> None:
    logits = _random(3, seed=0)
    plain = torch.stack([each.double().softmax(1) for each in logits]).mean(0)
    assert torch.allclose(fuse_logits(logits).double().exp(), plain, atol=1e-6)


def test_mean_is_exact_in_the_tails() -> None:
    logits = [torch.tensor([[200.0, 0.0]]).view(1, 2, 1, 1, 1), torch.tensor([[0.0, 200.0]]).view(1, 2, 1, 1, 1)]
    assert torch.allclose(fuse_logits(logits).exp(), torch.tensor(0.5))


def test_two_hesitant_votes_beat_one_sure_one() -> None:
    logits = _at([0.51, 0.49], [0.51, 0.49], [0.01, 0.99])
    assert int(fuse_logits(logits, rule="majority").argmax(1)) == 0
    assert int(fuse_logits(logits).argmax(1)) == 1


def test_a_tie_goes_to_the_larger_mean_probability() -> None:
    assert int(fuse_logits(_at([0.6, 0.4], [0.1, 0.9]), rule="majority").argmax(1)) == 1
    assert int(fuse_logits(_at([0.9, 0.1], [0.4, 0.6]), rule="majority").argmax(1)) == 0


def test_the_vote_counts_and_is_a_distribution() -> None:
    for members in (2, 3, 6):
        logits = _random(members, seed=members)
        fused = fuse_logits(logits, rule="majority").exp()
        labels = torch.stack([each.argmax(1) for each in logits])
        counts = torch.stack([(labels == channel).sum(0) for channel in range(4)], dim=1)
        assert torch.allclose(fused.sum(1), torch.ones(()), atol=1e-5)
        assert torch.equal(counts.gather(1, fused.argmax(1, keepdim=True))[:, 0], counts.amax(1))
