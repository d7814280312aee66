"""Make one bundle of several that were trained alike: its network fuses theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from medssl.bundle.config import read_json
from medssl.bundle.resolve import load_config
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import atomic_path, write_json
from medssl.networks.weights import read_weights


def assemble_ensemble(members: Sequence[Path], out: Path) -> None:
    """Write a bundle whose network is the ensemble of the members' networks; it runs like any other bundle.

    Args:
        members: Bundles with weights and one inference.json.
        out: New folder.

    Raises:
        ConfigError: If there are fewer than two members, or they differ in how they run.
        CheckpointError: If weights are missing or unreadable.
    """
    definitions = [load_config(member, ("inference",)).content["network_def"] for member in members]
    if len(members) < 2 or any(each != definitions[0] for each in definitions):
        message = f"{out}: expected two or more bundles with the same network_def, got {len(members)} that differ."
        raise ConfigError(message, fix="Train the members from one bundle with different seeds.")
    weights = [read_weights(member / "models" / "model.pt") for member in members]
    copy_bundle(members[0], out)
    path = out / "configs" / "inference.json"
    network = {"_target_": "medssl.networks.ensemble.EnsembleNet", "networks": definitions}
    write_json(path, {**read_json(path), "network_def": network})
    state = {f"networks.{number}.{name}": each[name] for number, each in enumerate(weights) for name in each}
    with atomic_path(out / "models" / "model.pt") as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)
