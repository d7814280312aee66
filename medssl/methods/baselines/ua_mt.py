"""UA-MT: a mean teacher whose uncertain voxels teach nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses.consistency import certain_mean_square, certain_voxels
from medssl.methods.baselines.mean_teacher import MeanTeacherStep
from medssl.methods.baselines.teaching import noisy, teacher_generator
from medssl.networks.channel_dropout import channel_dropouts, draw_masks, fixed_masks
from medssl.training.ema import EmaTeacher
from medssl.training.optimization import Optimization


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
        if passes < 1 or not channel_dropouts(teacher.network):
            message = (
                f"UaMtStep: expected at least 1 pass of a network with ChannelDropout, got {passes} passes of "
                f"{type(teacher.network).__name__}. Use ViewNet or SplitSegResNet."
            )
            raise ConfigError(message)
        self.threshold = threshold
        self.passes = passes

    def _consistency(self, student: Tensor, unlabeled: Tensor, iteration: int) -> Tensor:
        generator = teacher_generator(self.seed, iteration)
        certain = certain_voxels(self._mean_of_passes(unlabeled, generator), progress=self.threshold(iteration))
        return certain_mean_square(student, self._taught(unlabeled, generator), certain)

    @torch.no_grad()
    def _mean_of_passes(self, unlabeled: Tensor, generator: torch.Generator) -> Tensor:
        network, total = self.teacher.network, 0.0
        for _ in range(self.passes):
            masks = draw_masks(network, len(unlabeled), generator=generator)
            with fixed_masks(network, masks), self.optimization.autocast():
                logits = network(noisy(unlabeled, generator, spread=self.noise))
            total = total + logits.float().softmax(1)
        return torch.as_tensor(total) / self.passes
