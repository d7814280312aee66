"""Learning rates fall towards the stem of the encoder, no parameter is forgotten, and schedules keep the ratios."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import CSwinUNet
from medssl.training import Schedule, layer_decay_groups


def _network() -> CSwinUNet:
    return CSwinUNet(in_channels=3, size="tiny", family="slabs")


def _rates(network: nn.Module, groups: list[dict]) -> dict[str, float]:
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    return {name: rates[id(each)] for name, each in network.named_parameters()}


def test_rates_are_powers_of_the_decay_by_depth() -> None:
    network = _network()
    rates = _rates(network, layer_decay_groups(network, learning_rate=1.0, decay=0.5))
    blocks = [(level, number) for level, stage in enumerate(network.stages) for number in range(len(stage))]
    wanted = {f"stages.{level}.{number}.": 0.5 ** (len(blocks) - i) for i, (level, number) in enumerate(blocks)}
    wanted |= {"stem.": 0.5 ** (len(blocks) + 1)}
    wanted |= {f"down.{level}.": wanted[f"stages.{level + 1}.0."] for level in range(3)}
    wanted |= {f"norms.{level}.": wanted[f"stages.{level}.{len(network.stages[level]) - 1}."] for level in range(4)}
    for name, rate in rates.items():
        assert rate == next((value for start, value in wanted.items() if name.startswith(start)), 1.0), name
    assert len(set(rates.values())) == len(blocks) + 2


def test_every_parameter_is_in_one_group_and_the_log_shows_the_whole_rate() -> None:
    network = _network()
    groups = layer_decay_groups(network, learning_rate=0.1, decay=0.8)
    listed = [id(each) for group in groups for each in group["params"]]
    assert sorted(listed) == sorted(id(each) for each in network.parameters())
    assert groups[0]["lr"] == 0.1
    torch.optim.AdamW(groups, lr=0.1)  # refuses a parameter in two groups


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": 0.8, "enabled": False}])
def test_without_decay_there_is_one_group_in_the_order_of_the_network(options: dict) -> None:
    network = nn.Linear(2, 2)
    (group,) = layer_decay_groups(network, learning_rate=0.1, **options)
    assert [id(each) for each in group["params"]] == [id(each) for each in network.parameters()]


def test_a_schedule_keeps_the_ratios_also_when_it_is_resumed() -> None:
    def scheduled() -> tuple[torch.optim.Optimizer, Schedule]:
        optimizer = torch.optim.AdamW(layer_decay_groups(_network(), learning_rate=0.1, decay=0.8), lr=0.1)
        return optimizer, Schedule(optimizer=optimizer, total_steps=40, kind="warmup_cosine")

    optimizer, schedule = scheduled()
    for _ in range(17):
        schedule.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([rates[0] * 0.8**index for index in range(len(rates))])
    later, resumed = scheduled()
    later.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert [group["lr"] for group in later.param_groups] == rates


def test_a_decay_out_of_range_and_a_network_without_stages_are_refused() -> None:
    for wrong in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="layer_decay: expected a ratio"):
            layer_decay_groups(_network(), learning_rate=0.1, decay=wrong)
    with pytest.raises(ConfigError, match="Set layer_decay to 1"):
        layer_decay_groups(nn.Linear(2, 2), learning_rate=0.1, decay=0.8)
