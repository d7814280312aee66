"""Heads: one encoder pass, gradients in all that is pre-trained and nowhere else, any decoder."""

from __future__ import annotations

import pytest
import torch
from methods.cswin_pretext.small_pretext import SIZE, small_net, small_network

from medssl.core.errors import ConfigError
from medssl.methods.cswin_pretext import PretextNet
from medssl.networks.pretrained import pretrained_tensors


def _patches() -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{"decoder": "unet"}, {"decoder": "light", "decoder_blocks": 0}])
def test_answers_have_the_shapes_of_their_tasks(options: dict) -> None:
    net = small_net(**options)
    answers = net(_patches())
    assert answers.turns.shape == (2, 4)
    assert answers.embeddings.shape == (2, 16)
    assert answers.images.shape == (2, 3, *SIZE)


def test_the_encoder_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls = small_net(), []
    encode = net.network.encode
    monkeypatch.setattr(net.network, "encode", lambda image: calls.append(1) or encode(image))
    net(_patches())
    assert calls == [1]


def _trained(net: PretextNet) -> set[str]:
    answers = net(_patches())
    sum(answer.square().sum() for answer in answers[1:] if answer is not None).backward()
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    return {name for name, parameter in net.network.named_parameters() if parameter.grad is not None}


def test_gradients_reach_all_that_is_pretrained_and_nothing_else() -> None:
    net = small_net(decoder_blocks=4)
    assert _trained(net) == set(pretrained_tensors(net.network, 4))


def test_what_no_task_reaches_is_frozen() -> None:
    net = small_net(decoder="light", decoder_blocks=0)
    unread = set(pretrained_tensors(net.network, 0)) - _trained(net)
    assert {name.split(".")[0] for name in unread} == {"norms"}  # of the levels whose skips only the decoder reads


@pytest.mark.parametrize("task", ["rotation", "contrast", "inpainting"])
def test_a_task_that_is_off_has_no_parameters_and_no_answer(task: str) -> None:
    net = small_net(**{task: False})
    field = {"rotation": "turns", "contrast": "embeddings", "inpainting": "images"}[task]
    assert getattr(net(_patches()), field) is None
    head = {"rotation": "turns", "contrast": "projection", "inpainting": "image"}[task]
    assert not [name for name, _ in net.named_parameters() if name.split(".")[0] == head]


def test_what_makes_no_sense_is_refused() -> None:
    none = {"rotation": False, "contrast": False, "inpainting": False}
    for wrong in (none, {"decoder_blocks": 0}, {"decoder_blocks": 99}):
        with pytest.raises(ConfigError):
            small_net(**wrong)
    with pytest.raises(ConfigError, match="end in one voxel"):
        PretextNet(network=small_network(), image_size=(32, 32, 2), decoder="light")
    with pytest.raises(ConfigError, match="encoder_modules"):
        PretextNet(network=torch.nn.Conv3d(3, 2, 1), image_size=SIZE)


def test_weights_feed_a_training_of_the_same_network() -> None:
    net = small_net()
    tensors = pretrained_tensors(net.network, 2)
    missing = small_network().load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys
    assert {name.split(".")[0] for name in missing.missing_keys} == {"skip", "up", "blocks", "head"}


@pytest.mark.parametrize("sides", [(0, 32, -8), (32, 32)])
def test_patches_that_are_none_are_refused(sides: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="three sides above 0"):
        PretextNet(network=small_network(), image_size=sides)
