"""Pre-train a bundle: its stages one after another in one folder, each resumable, ending with models/encoder.pt."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from medssl.bundle.config import BundleConfig, config_path, handlers_of, has_item, merge_config, nearest_id, read_json
from medssl.bundle.inherit import NETWORK, inherited, write_inherited
from medssl.bundle.resolve import evaluated, load_config, own_errors, workflow_of
from medssl.bundle.run import (
    copy_once,
    deciding_settings,
    prepare_run,
    require_channels,
    run_initialized,
    run_paths,
    settings_of,
)
from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.files import sha256_file, sha256_json, sole_writer, write_json
from medssl.core.provenance import provenance
from medssl.data.manifest import Manifest, load_manifest
from medssl.training.distributed import is_launched, is_main_process
from medssl.training.encoder_weights import read_encoder_json

_logger = logging.getLogger("medssl.bundle")

_ENCODER = "models/encoder.pt"


def pretrain(
    bundle: Path,
    *,
    manifest: Path,
    out: Path,
    data_root: Path | None = None,
    stages: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Run configs/pretrain*.json of a bundle in the order of their names, or continue where they were stopped.

    A finished stage is not run again. Stage NAME keeps its log in results/NAME and its resume file in
    checkpoints/NAME.pt; each writes models/encoder.pt, from which the next one starts. Under torchrun,
    `multi_gpu_NAME.json` is merged last into stage NAME.

    Args:
        bundle: Bundle folder; its configuration is copied to `out` at the first start.
        manifest: Manifest file; no label is read but by a probe of the features, which changes nothing.
        out: Run folder, itself a bundle.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        stages: Names of the stages to run instead, in this order.
        overrides: Configuration ids and their values; each goes to every stage that has the id.
        trust: Run code that bundles do not need.

    Returns:
        The record of the last stage, as results/NAME/run.json has it.

    Raises:
        ConfigError: If there is no such stage or id, settings or cases changed, or a stage would replace weights that
            other stages of the folder made or started from.
        CheckpointError: If models/encoder.pt is not what the last stage made.
    """
    source = out if (out / "configs").is_dir() else bundle
    names = tuple(stages) or stage_names(source)
    own = _overrides_of(source, names, overrides or {})
    # Every stage is read and checked before the first one runs for hours
    configs = [
        load_config(source, _files(name), {**own[name], **run_paths(out, manifest, data_root)}, trust=trust)
        for name in names
    ]
    dataset = load_manifest(manifest)
    for config in configs:
        require_channels(config, dataset)
    run = _Run(bundle, out, dataset, dict(overrides or {}))
    run.refuse_to_replace(dict(zip(names, configs, strict=True)))
    records = [
        run.stage(name, config, is_last=number == len(names))
        for number, (name, config) in enumerate(zip(names, configs, strict=True), 1)
    ]
    if "encoder_sha256" in records[-1]:  # not in a process that writes no files
        run.require_own_encoder()
    return records[-1]


def _files(stage: str) -> tuple[str, ...]:
    return (stage, f"multi_gpu_{stage}") if is_launched() else (stage,)


def stage_names(bundle: Path) -> tuple[str, ...]:
    """Return the names of a bundle's pre-training stages, in the order they run.

    Raises:
        ConfigError: If it has none.
    """
    names = tuple(sorted(path.stem for path in (bundle / "configs").glob("pretrain*.json")))
    if not names:
        message = (
            f"{bundle}: expected configs/pretrain*.json, found none. This bundle has no pre-training; use medssl train."
        )
        raise ConfigError(message)
    return names


def _overrides_of(bundle: Path, names: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each override to the stages that have its id; one of other stages of the bundle is no mistake."""
    others = [path.stem for path in (bundle / "configs").glob("pretrain*.json")]
    contents = {
        name: merge_config(bundle, (config_path(bundle, name).stem,)).content
        for name in dict.fromkeys((*names, *others))
    }
    for item_id in overrides:
        if not any(has_item(content, item_id) for content in contents.values()):
            hint = nearest_id(contents[names[0]], item_id)
            message = f"--set {item_id}: no stage of {', '.join(names)} has this id.{hint} Correct the id."
            raise ConfigError(message)
    return {
        name: {item_id: value for item_id, value in overrides.items() if has_item(contents[name], item_id)}
        for name in names
    }


class _Run:
    """The stages of one run folder."""

    def __init__(self, bundle: Path, out: Path, manifest: Manifest, overrides: dict[str, Any]) -> None:
        self.bundle = bundle
        self.out = out
        self.manifest = manifest
        self.overrides = overrides

    def is_finished(self, name: str, config: BundleConfig) -> bool:
        """Tell whether a stage has ended with these settings and as many epochs."""
        return self._record(name).get("settings_sha256") == self._hash(config)

    def refuse_to_replace(self, configs: Mapping[str, BundleConfig]) -> None:
        """Stop where one of the stages that are to run would write over what others made or have started from."""
        made = self._stages_of_encoder()
        begun = {path.stem for path in (self.out / "checkpoints").glob("*.pt")}
        held = {each for each in begun if (self.out / "configs" / f"{each}.json").is_file()} | set(made)
        for name, config in configs.items():
            if self.is_finished(name, config):
                continue
            before = made[: made.index(name)] if name in made else made
            kept = before if self._starts_here(config) else []
            if lost := held - {name, *kept}:
                message = (
                    f"{self.out}: {name} would write over the encoder that {', '.join(sorted(lost))} made or started "
                    "from. Pre-train in another --out folder, or put the settings and epochs back."
                )
                raise ConfigError(message)
            made, held = [*kept, name], held | {name}

    def _stages_of_encoder(self) -> list[str]:
        """Return the stages that made the encoder of this folder, in their order."""
        encoder = self.out / _ENCODER
        content = read_encoder_json(encoder) if encoder.is_file() else None
        return [] if content is None else [str(each.get("stage")) for each in content["stages"]]

    def _starts_here(self, config: BundleConfig) -> bool:
        """Tell whether a stage starts from the encoder of this folder."""
        for item_id, handler in handlers_of(config.content, "EncoderWeights"):
            if handler.get("start_from") is not None:
                start = evaluated(config, f"{item_id}#start_from")
                return start is not None and Path(start).resolve() == (self.out / _ENCODER).resolve()
        return False

    def require_own_encoder(self) -> None:
        """Stop where models/encoder.pt is not what the stages of this folder made, such as a file copied over it."""
        stages = self._stages_of_encoder()
        made = self._record(stages[-1]).get("encoder_sha256") if stages else None
        if made != sha256_file(self.out / _ENCODER):
            message = (
                f"{self.out / _ENCODER}: expected the weights that the stages of this folder made, found others. Put "
                "them back, or pre-train in another --out folder."
            )
            raise CheckpointError(message)

    def stage(self, name: str, config: BundleConfig, *, is_last: bool) -> dict[str, Any]:
        """Run one stage, unless it is finished, and return its record."""
        if self.is_finished(name, config):
            _logger.info("%s: finished before", name)
            return self._record(name)
        _logger.info("%s", name)
        if not is_last and "finalize" in config.content:
            config.content["finalize"] = []  # processes stay joined for the next stage
        flow = workflow_of(config, "train")
        with own_errors():
            flow.initialize()
        is_main = is_main_process()
        record = provenance("pretrain", manifest=self.manifest.sha256(), overrides=self.overrides)
        if is_main:
            settings, resume = settings_of(config, self.manifest), f"checkpoints/{name}.pt"
            copy_once(self.bundle, self.out)
        with sole_writer(self.out) if is_main else nullcontext():
            if is_main:
                prepare_run(self.out, settings, results=f"results/{name}", resume=resume)
            record |= {"stage": name, "settings_sha256": self._hash(config)} | run_initialized(flow)
        if is_main:
            self._hand_on(name, config)
            record["encoder_sha256"] = self._encoder_sha256(name)
            write_json(self._record_file(name), record)
        return record

    def _hand_on(self, name: str, config: BundleConfig) -> None:
        """Let the training build the network that was pre-trained, where it is the training's own network.

        The network of a stage may also be a part of it, such as one view of several.
        """
        own, training = (read_json(self.out / "configs" / f"{each}.json").get(NETWORK) for each in (name, "train"))
        if own and training and own.get("_target_") == training.get("_target_"):
            write_inherited(self.out, config, self.overrides, (NETWORK,))
        elif changed := list(inherited(self.overrides, (NETWORK,))):
            _logger.warning(
                "%s: train.json has another network than this stage; tell it %s too", name, ", ".join(changed)
            )

    def _encoder_sha256(self, name: str) -> str:
        encoder = self.out / _ENCODER
        if not encoder.is_file():
            message = (
                f"configs/{name}.json: expected the stage to write {_ENCODER}, found no such file. Add "
                "medssl.training.EncoderWeights to train#handlers."
            )
            raise CheckpointError(message)
        return sha256_file(encoder)

    def _record_file(self, name: str) -> Path:
        return self.out / "results" / name / "run.json"

    def _record(self, name: str) -> dict[str, Any]:
        file = self._record_file(name)
        return read_json(file) if file.is_file() else {}

    def _hash(self, config: BundleConfig) -> str:
        settings = settings_of(config, self.manifest)
        return sha256_json({**deciding_settings(settings), "finalize": None, "epochs": settings.get("epochs")})
