"""UA-MT: a mean teacher whose uncertain voxels teach nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses.consistency import certain_mean_square, certain_voxels
from medssl.methods.baselines.mean_teacher import MeanTeacherStep
from medssl.methods.baselines.teaching import noisy
from medssl.networks.channel_dropout import channel_dropouts, fixed_masks
from medssl.training.distributed import mean_over_processes
from medssl.training.ema import EmaTeacher
from medssl.training.optimization import Optimization
from medssl.training.own_samples import keyed_generator, own_masks


class UaMtStep(MeanTeacherStep):
    """Train as `MeanTeacherStep`, but only where the teacher's entropy over stochastic passes is low.

    Args:
        loss: Function of logits (B, K, X, Y, Z), float32, and labels (B, 1, X, Y, Z).
        optimization: The run's `Optimization`.
        teacher: The student's `EmaTeacher`; its network needs a `ChannelDropout`.
        weight: Weight as a function of the iteration; published is a `Ramp` to 0.1.
        threshold: Progress from 0 to 1, such as `Ramp(final=1, length=iterations of the run)`: raises the bound on
            the entropy from 0.75 ln C to ln C.
        passes: Passes of the teacher with dropout and noise.
        noise: Standard deviation of the teacher's noise.
        seed: Seed of the run.

    Raises:
        ConfigError: If the teacher has no dropout to be uncertain with, or there are no passes.

    Note:
        Source: Yu et al., MICCAI 2019, equations 3 to 5. The paper's ln 2 and two classes are ln C and C here.
    """

    def __init__(
        self,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        teacher: EmaTeacher,
        weight: Callable[[int], float],
        threshold: Callable[[int], float],
        passes: int = 8,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(loss=loss, optimization=optimization, teacher=teacher, weight=weight, noise=noise, seed=seed)
        if passes < 1 or all(dropout.rate == 0.0 for dropout in channel_dropouts(teacher.network)):
            message = (
                f"UaMtStep: expected at least 1 pass of a network with ChannelDropout of a rate above 0, got {passes} "
                f"passes of {type(teacher.network).__name__}. Take ViewNet or SplitSegResNet, or raise dropout_rate."
            )
            raise ConfigError(message)
        self.threshold = threshold
        self.passes = passes

    def _consistency(self, student: Tensor, unlabeled: Tensor, iteration: int) -> Tensor:
        certain = certain_voxels(self._mean_of_passes(unlabeled, iteration), progress=self.threshold(iteration))
        # As one process with all crops would divide: by the certain voxels of all
        voxels = mean_over_processes(certain.float().sum())
        return certain_mean_square(student, self._taught(unlabeled, iteration), certain, voxels=voxels)

    @torch.no_grad()
    def _mean_of_passes(self, unlabeled: Tensor, iteration: int) -> Tensor:
        network, count = self.teacher.network, len(unlabeled)
        generator = keyed_generator(self.seed, "teacher masks", iteration)
        masks = own_masks(network, count, generator=generator, passes=self.passes)
        total = torch.zeros((), device=unlabeled.device)
        for number in range(self.passes):
            of_pass = [mask[number * count : (number + 1) * count] for mask in masks]
            crops = noisy(unlabeled, self.seed, "teacher pass", iteration, number, spread=self.noise)
            with fixed_masks(network, of_pass), self.optimization.autocast():
                logits = network(crops)
            total = total + logits.float().softmax(1)
        return total / self.passes
