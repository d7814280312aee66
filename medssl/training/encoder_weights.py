"""models/encoder.pt: the pre-trained part of a network as bare tensors, and beside it a JSON that says what made it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from medssl.core.errors import CheckpointError
from medssl.core.files import atomic_path, sha256_file, sha256_json, write_json
from medssl.core.provenance import package_versions, utc_now
from medssl.core.strict_json import parse_json
from medssl.data.manifest import Case, load_manifest
from medssl.networks.pretrained import PretrainedNetwork, check_decoder_blocks, pretrained_tensors
from medssl.training.distributed import undistributed

_FORMAT = 1


class EncoderWeights:
    """Save the pre-trained part of a network when a stage of pre-training ends; sits in `train#handlers`.

    The tensors keep their names of the bundle's `network_def`, so any training of it can start from them. The JSON
    lists every stage that the weights went through.

    Args:
        path: Weights file, usually models/encoder.pt; encoder.json is written beside it.
        network: The bundle's network, which says what its encoder and decoder blocks are.
        stage: Name of this stage; a stage of the same name is replaced in the list.
        description: What made the weights, as plain values: method, options, input axes and spacing.
        manifest: Manifest of the pre-training, whose hash is recorded.
        decoder_blocks: Decoder blocks that were trained too and are saved; of a stage that began from random weights
            only as many as are not frozen.
        start_from: Weights file that this stage started from, whose stages are listed before it; None if it began
            from random weights.
        cases: What was learnt from, as dicts with `case_id` and `image`; the JSON keeps a hash of each, by which a
            training in folds finds that the images of a scored fold were seen. None keeps the manifest's hash alone.

    Raises:
        CheckpointError: If the network does not say which part is its encoder.
    """

    def __init__(
        self,
        *,
        path: str,
        network: nn.Module,
        stage: str,
        description: Mapping[str, Any],
        manifest: str,
        decoder_blocks: int = 0,
        start_from: str | None = None,
        cases: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        inner = undistributed(network)
        if not isinstance(inner, PretrainedNetwork):
            message = (
                f"{type(inner).__name__}: expected a network with encoder_modules and decoder_modules, found none. "
                "Use a network of medssl, such as SplitSegResNet, or give yours these methods."
            )
            raise CheckpointError(message)
        self.path = Path(path)
        self.network: Any = inner
        self.stage = stage
        self.description = dict(description)
        self.manifest = Path(manifest)
        self.decoder_blocks = decoder_blocks
        self.start_from = start_from
        self.cases = cases

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        blocks = self._learnt_blocks()
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in pretrained_tensors(self.network, blocks).items()
        }
        before = [] if self.start_from is None else _stages(Path(self.start_from))
        earlier = [each for each in before if each.get("stage") != self.stage]
        made = {
            "stage": self.stage,
            **self.description,
            "decoder_blocks": blocks,
            "iterations": engine.state.iteration,
            "manifest_sha256": load_manifest(self.manifest).sha256(),
            "versions": package_versions(),
            "time": utc_now(),
        }
        if self.cases is not None:
            made["cases"] = sorted(case_hash(each["case_id"], _files(each["image"])) for each in self.cases)
        # Tensors go through memory, so that both files are written one right after the other
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
        write_json(encoder_json(self.path), self._content(state, blocks, [*earlier, made]))

    def _learnt_blocks(self) -> int:
        """Return how many decoder blocks are worth saving: random ones that were frozen would pass for pre-trained."""
        check_decoder_blocks(self.network, self.decoder_blocks)
        if self.start_from is not None:
            return self.decoder_blocks
        for blocks in range(self.decoder_blocks):
            before = {id(module) for module in self.network.decoder_modules(blocks)}
            block = [module for module in self.network.decoder_modules(blocks + 1) if id(module) not in before]
            if not any(parameter.requires_grad for module in block for parameter in module.parameters()):
                return blocks
        return self.decoder_blocks

    def _content(self, state: dict[str, torch.Tensor], blocks: int, stages: list[dict[str, Any]]) -> dict[str, Any]:
        shapes = {name: list(tensor.shape) for name, tensor in self.network.state_dict().items()}
        return {
            "format": _FORMAT,
            "file": self.path.name,
            "sha256": sha256_file(self.path),
            "architecture": type(self.network).__name__,
            "architecture_sha256": sha256_json(shapes),
            "dimensions": self.network.kernel_dimensions,
            "tensors": len(state),
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "decoder_blocks": blocks,
            "stages": stages,
        }


def encoder_json(path: Path) -> Path:
    """Return the path of the JSON beside encoder weights."""
    return Path(path).with_suffix(".json")


def read_encoder_json(path: Path) -> dict[str, Any] | None:
    """Read what made a weights file, or return None if nothing lies beside it that describes an encoder.

    Raises:
        CheckpointError: If the JSON describes other weights than the file's.
    """
    beside = encoder_json(path)
    if not beside.is_file():
        return None
    try:
        content = parse_json(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{beside}: expected the JSON of encoder weights, found something unreadable ({error})."
        raise CheckpointError(message, fix="Get both files again, or pre-train again.") from error
    if not isinstance(content, dict) or "stages" not in content:
        return None
    found = sha256_file(path)
    if content.get("sha256") != found:
        message = f"{beside}: describes weights of sha256 {content.get('sha256')}, found {found} in {path.name}."
        raise CheckpointError(message, fix="Keep the two files of one pre-training together.")
    return content


def case_hash(case_id: str, images: Iterable[str]) -> str:
    """Return 16 hexadecimal digits that stand for a case: of its id and the names of its image files, not folders."""
    return sha256_json([case_id, [Path(image).name for image in images]])[:16]


def saw_cases(encoder: Mapping[str, Any], cases: Iterable[Case], manifest_sha256: str) -> bool:
    """Tell whether a stage of pre-trained weights learnt from one of some cases.

    Args:
        encoder: What `read_encoder_json` returned.
        cases: Cases of a manifest.
        manifest_sha256: Hash of that manifest, for stages that name no cases.
    """
    hashes = {case_hash(case.id, case.image) for case in cases}
    return any(
        bool(hashes & set(stage["cases"])) if "cases" in stage else stage.get("manifest_sha256") == manifest_sha256
        for stage in encoder["stages"]
    )


def _files(image: Any) -> list[str]:
    return [image] if isinstance(image, str) else list(image)


def _stages(path: Path) -> list[dict[str, Any]]:
    content = read_encoder_json(path) if path.is_file() else None
    return [] if content is None else list(content["stages"])
