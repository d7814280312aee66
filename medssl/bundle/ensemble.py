"""Make one bundle of several that were trained alike, or several of one whose network has several views."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from medssl.bundle.config import read_json
from medssl.bundle.resolve import build_network, load_config
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import atomic_path, write_json
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.weights import read_weights


def assemble_ensemble(members: Sequence[Path], out: Path, *, trust: bool = False) -> None:
    """Write a bundle whose network is the ensemble of the members' networks; it runs like any other bundle.

    Args:
        members: Bundles with weights and one inference.json.
        out: New folder.
        trust: Run code that bundles do not need.

    Raises:
        TrustError: If a bundle would run code and `trust` is not given.
        ConfigError: If there are fewer than two members, or they differ in how they run.
        CheckpointError: If weights are missing or unreadable.
    """
    definitions = [load_config(member, ("inference",), trust=trust).content["network_def"] for member in members]
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


def split_views(bundle: Path, out: Path, *, trust: bool = False) -> dict[str, Path]:
    """Write a bundle for each view of a multi-view network, in which that view alone answers.

    Args:
        bundle: Bundle with weights and an inference.json.
        out: Folder of the new bundles; what an interrupted call left there is replaced.
        trust: Run code that bundles do not need.

    Returns:
        View to its bundle, in the order of the network.

    Raises:
        TrustError: If the bundle would run code and `trust` is not given.
        ConfigError: If the network has no views.
    """
    config = load_config(bundle, ("inference",), trust=trust)
    network = build_network(config)
    if not isinstance(network, MultiViewNet):
        message = f"bundle {bundle.name}: expected a MultiViewNet, found {type(network).__name__}, which has no views."
        raise ConfigError(message)
    found = {}
    for view in network.view_names:
        found[view] = out / view / "bundle"
        shutil.rmtree(found[view], ignore_errors=True)
        copy_bundle(bundle, found[view])
        path = found[view] / "configs" / "inference.json"
        content = read_json(path)
        write_json(path, {**content, "network_def": {**content["network_def"], "fusion": view}})
        shutil.copyfile(bundle / "models" / "model.pt", found[view] / "models" / "model.pt")
    return found
