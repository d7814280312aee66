"""Mean teacher: the student agrees, on unlabelled crops, with the running mean of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medssl.losses.consistency import mean_square
from medssl.methods.baselines.teaching import noisy, step_output, student_logits
from medssl.training.ema import EmaTeacher
from medssl.training.optimization import Optimization
from medssl.training.streams import case_ids, read_streams


class MeanTeacherStep:
    """Train on labels plus `weight` times the mean squared difference between student and teacher.

    The teacher is updated at the start of an optimiser step, sees noisy crops in evaluation mode, and gets no gradient.

    Args:
        loss: Function of logits (B, K, X, Y, Z), float32, and labels (B, 1, X, Y, Z).
        optimization: The run's `Optimization`.
        teacher: The student's `EmaTeacher`.
        weight: Weight as a function of the iteration; published is a `Ramp` to 0.1.
        noise: Standard deviation of the teacher's noise, in units of the normalised image.
        seed: Seed of the run; noise and the student's dropout depend on it, the iteration and a sample's place only.

    Note:
        Source: Tarvainen and Valpola, NeurIPS 2017. Public code for volumes keeps the teacher in training mode; here
        it is in evaluation mode.
    """

    def __init__(
        self,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        teacher: EmaTeacher,
        weight: Callable[[int], float],
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.loss = loss
        self.optimization = optimization
        self.teacher = teacher
        self.weight = weight
        self.noise = noise
        self.seed = seed

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        iteration = engine.state.iteration - 1
        streams = read_streams(engine, batch)
        if self.optimization.at_boundary:
            self.teacher.update()
        engine.network.train()
        key = (self.seed, "student", iteration)
        logits = student_logits(engine, engine.network, streams, key=key, autocast=self.optimization.autocast)
        supervised = self.loss(logits[: len(streams.labels)], streams.labels)
        consistency = supervised.new_zeros(())
        if streams.unlabeled is not None:
            student = logits[len(streams.labels) :].softmax(1)
            consistency = self._consistency(student, streams.unlabeled, iteration)
        loss = supervised + self.weight(iteration) * consistency
        output = step_output(streams, logits, loss, supervised_loss=supervised, consistency_loss=consistency)
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=case_ids(batch))
        return output

    def _consistency(self, student: Tensor, unlabeled: Tensor, iteration: int) -> Tensor:
        return mean_square(student, self._taught(unlabeled, iteration))

    @torch.no_grad()
    def _taught(self, unlabeled: Tensor, iteration: int) -> Tensor:
        """Return the teacher's probabilities of noisy crops, float32."""
        with self.optimization.autocast():
            logits = self.teacher.network(noisy(unlabeled, self.seed, "teacher", iteration, spread=self.noise))
        return logits.float().softmax(1)
