"""The masked autoencoder: which blocks are cut out, what the loss counts, what is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from medssl.core.errors import ConfigError
from medssl.methods.baselines import MaskedAutoencoderStep, Reconstructor
from medssl.methods.baselines.masked_autoencoder import draw_block_masks, masked_error
from medssl.networks import SliceUNet
from medssl.networks.pretrained import pretrained_tensors
from medssl.training import Optimization


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_asked_share_of_whole_blocks_is_cut_out_of_each_image() -> None:
    masks = draw_block_masks((5, 2, 16, 16, 3), (4, 4, 1), 0.6, _generator())
    blocks = masks.unfold(2, 4, 4).unfold(3, 4, 4).flatten(5)
    assert masks.shape == (5, 1, 16, 16, 3)
    assert (blocks.all(-1) == blocks.any(-1)).all()
    assert blocks.all(-1).flatten(1).sum(1).tolist() == [round(0.6 * 48)] * 5
    assert not torch.equal(masks[0], masks[1])


def test_blocks_at_the_end_may_be_shorter_and_one_always_stays() -> None:
    masks = draw_block_masks((3, 1, 6, 4, 1), (4, 4, 1), 0.99, _generator())
    assert masks.shape == (3, 1, 6, 4, 1)
    assert ((masks.flatten(1).any(1)) & ~(masks.flatten(1).all(1))).all()


def test_the_error_counts_what_was_cut_out_alone() -> None:
    images, filled = torch.rand(2, 3, 4, 4, 1), torch.rand(2, 3, 4, 4, 1)
    masks = torch.rand(2, 1, 4, 4, 1, generator=_generator()) < 0.5
    chosen = masks.expand_as(images)
    assert torch.allclose(masked_error(filled, images, masks), (filled - images)[chosen].square().mean())
    assert masked_error(filled, images, torch.zeros_like(masks)) == 0.0


def test_encoder_and_all_blocks_are_trained_and_monitored() -> None:
    network = SliceUNet(channels=(4, 8))
    embedder = Reconstructor(network=network, image_size=(16, 16, 1))
    optimizer = torch.optim.SGD(embedder.parameters(), lr=0.1)
    optimization = Optimization(network=embedder, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    engine: Any = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network, engine.non_blocking = embedder, False
    engine.state.device, engine.state.iteration = torch.device("cpu"), 1
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    output = MaskedAutoencoderStep(optimization=optimization, block=(4, 4, 1))(
        engine, {"image": torch.rand(3, 2, 1, 16, 16, 1), "case_id": ["a", "b", "c"]}
    )
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(pretrained_tensors(network, network.decoder_depth))
    assert output["embedded"].embeddings.shape == (6, 8)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_ratio_that_leaves_nothing_to_do_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        MaskedAutoencoderStep(optimization=None, ratio=ratio)


def test_a_block_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="smaller than the image"):
        draw_block_masks((1, 1, 8, 8, 1), (8, 8, 1), 0.5, _generator())
