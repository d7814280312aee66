"""The step of the pre-training: two views of each patch, three tasks, one update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from medssl.core.errors import ConfigError
from medssl.losses.contrastive import ContrastiveLoss, PairMasks, collapse_value
from medssl.methods.cswin_pretext.heads import Answers
from medssl.methods.cswin_pretext.views import corrupt, draw_turns, turn_in_plane
from medssl.training.distributed import gather_rows, process_rank
from medssl.training.health import Embedded
from medssl.training.optimization import Optimization
from medssl.training.own_samples import keyed_generator

_UNEQUAL = 0.01  # share by which the sides of a voxel may differ in the plane


class TaskWeights(NamedTuple):
    """How much each task weighs in the loss; a task whose head is off must weigh 0."""

    rotation: float = 1.0
    contrast: float = 1.0
    inpainting: float = 1.0


class Views(NamedTuple):
    """Two views of each patch of a batch.

    Attributes:
        clean: Turned patches (2B, C, X, Y, Z), the target of inpainting.
        corrupted: What the network sees.
        changed: Where they differ, (2B, 1, X, Y, Z), or (2B, C, X, Y, Z) where channels lose blocks of their own.
        turns: Quarter turns of each, (2B).
        sources: Patch of each, (2B).
    """

    clean: Tensor
    corrupted: Tensor
    changed: Tensor
    turns: Tensor
    sources: Tensor


class PretextStep:
    """Tell by how many quarters a patch was turned, restore what was replaced, and tell patches apart.

    The trainer's network is a `PretextNet`. Only turns about the slice axis are used, so patches must be square in the
    plane, with equal spacing there. All draws are keyed by seed, process and iteration.

    Args:
        optimization: The run's `Optimization`.
        contrast: `ContrastiveLoss`; negatives are views of other patches, of all processes.
        weights: Weights of the tasks, as `TaskWeights`, in the order rotation, contrast, inpainting.
        masked_only: Compare restored voxels only where they were replaced, instead of everywhere.
        shared_blocks: The channels of a patch lose the same blocks; False lets each lose its own.
        spacing_mm: Voxel size of the patches along X, Y, Z, which must be the same along X and Y; None does not check.
        seed: Seed of the run.

    Raises:
        ConfigError: If weights are negative or all 0, or voxels are longer one way of the plane than the other; in the
            first iteration, if a task weighs whose head the network lacks.

    Note:
        Source: Li et al., Med Phys 2025 (tasks) after Tang et al., CVPR 2022 (recipe, weights 1, 1, 1, L1 everywhere).
    """

    def __init__(
        self,
        *,
        optimization: Optimization,
        contrast: ContrastiveLoss | None = None,
        weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        masked_only: bool = False,
        shared_blocks: bool = True,
        spacing_mm: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.weights = TaskWeights(*weights)
        if min(self.weights) < 0 or not any(self.weights):
            message = f"PretextStep: expected weights of at least 0, not all 0, got {tuple(self.weights)}."
            raise ConfigError(message)
        if spacing_mm is not None:
            _check_square_voxels(spacing_mm)
        self.optimization = optimization
        self.contrast = contrast or ContrastiveLoss(temperature=0.5, decoupled=True)
        self.masked_only = masked_only
        self.shared_blocks = shared_blocks
        self.seed = seed

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        images = batch["image"].as_subclass(Tensor).to(engine.state.device, non_blocking=engine.non_blocking)
        views = self.views(images, engine.state.iteration)
        engine.network.train()
        with self.optimization.autocast():
            answers = engine.network(views.corrupted)
        losses, log, embedded = self.losses(answers, views)
        loss = torch.stack([getattr(self.weights, task) * value for task, value in losses.items()]).sum()
        output: dict[str, Any] = {
            CommonKeys.IMAGE: images,
            CommonKeys.LOSS: loss.detach(),
            "log": {**{f"loss_{task}": value.detach() for task, value in losses.items()}, **log},
            "embedded": embedded,
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output

    def views(self, images: Tensor, iteration: int) -> Views:
        """Make two turned and corrupted views of each of (B, C, X, Y, Z).

        Raises:
            ConfigError: If patches are not square in the plane.
        """
        if images.shape[2] != images.shape[3]:
            message = (
                f"PretextStep: expected patches as wide as high, got {tuple(images.shape[2:])}. Change patch_size."
            )
            raise ConfigError(message)
        generator = keyed_generator(self.seed, "pretext", process_rank(), iteration)
        sources = torch.arange(len(images)).repeat(2)
        turns = draw_turns(2 * len(images), generator)
        clean = turn_in_plane(images.repeat(2, 1, 1, 1, 1), turns)
        corrupted, changed = corrupt(clean, sources, generator, shared_blocks=self.shared_blocks)
        device = images.device
        return Views(clean, corrupted, changed, turns.to(device), sources.to(device))

    def losses(self, answers: Answers, views: Views) -> tuple[dict[str, Tensor], dict[str, Any], Embedded]:
        """Return the loss of each task that is on and weighs, what is logged of them, and what the monitors see."""
        losses: dict[str, Tensor] = {}
        log: dict[str, Any] = {}
        # The features that a training goes on with; the trainer's loss is a sum of tasks, so no collapse value of it
        pooled, sources = answers.pooled.float(), views.sources + process_rank() * len(views.sources)
        embedded = Embedded(normalize(gather_rows(pooled), dim=1), gather_rows(sources))
        if answers.turns is not None and self.weights.rotation:
            logits = answers.turns.float()
            losses["rotation"] = cross_entropy(logits, views.turns)
            log["rotation_accuracy"] = (logits.detach().argmax(1) == views.turns).float().mean()
        if answers.embeddings is not None and self.weights.contrast:
            embeddings = gather_rows(answers.embeddings.float())
            masks = same_source_masks(embedded.sources)
            losses["contrast"] = self.contrast(embeddings, masks)
            log["negatives"] = float(masks.negatives.sum(1).float().mean())
            collapse = collapse_value(masks, decoupled=self.contrast.decoupled)
            if collapse:
                log["contrast_to_collapse"] = losses["contrast"].detach() / collapse
        if answers.images is not None and self.weights.inpainting:
            losses["inpainting"] = self._restored(answers.images.float(), views)
        off = [task for task in TaskWeights._fields if getattr(self.weights, task) and task not in losses]
        if off:
            message = (
                f"PretextStep: expected a head in the network for every task that weighs, found none for "
                f"{' and '.join(off)}. Set its weight to 0 too, or leave its head on."
            )
            raise ConfigError(message)
        return losses, log, embedded

    def _restored(self, images: Tensor, views: Views) -> Tensor:
        difference = (images - views.clean.float()).abs()
        if not self.masked_only:
            return difference.mean()
        where = views.changed.expand_as(difference)
        return (difference * where).sum() / where.sum().clamp(min=1)


def _check_square_voxels(spacing_mm: Sequence[float]) -> None:
    x, y = float(spacing_mm[0]), float(spacing_mm[1])
    # Below 0 the images keep spacings of their own, which nothing promises to be equal
    if min(x, y) <= 0 or abs(x - y) > _UNEQUAL * max(x, y):
        message = (
            f"PretextStep: expected voxels as wide as high, because quarter turns exchange X and Y, got {x:g} x {y:g} "
            "mm. Change resample_to_spacing; the slice axis comes last."
        )
        raise ConfigError(message)


def same_source_masks(sources: Tensor) -> PairMasks:
    """Return who is compared among (V) views: views of one source are positives, those of all others negatives."""
    same = sources[:, None] == sources[None]
    itself = torch.eye(len(sources), dtype=torch.bool, device=sources.device)
    return PairMasks(same & ~itself, ~same)
