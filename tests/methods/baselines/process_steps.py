"""One step of a baseline in a process of several, or alone, with noise and dropout on."""

from __future__ import annotations

import numpy as np
from methods.baselines.small_steps import bare_engine, plain_optimization, small_batch, small_network, teacher_of
from methods.umct.process_steps import share, watched_gradients

from medssl.losses import DiceCE
from medssl.methods.baselines import CpsStep, MeanTeacherStep, SelfTrainingStep, UaMtStep
from medssl.networks import TwinNet
from medssl.training import Ramp, distribute, join_processes, share_weights
from medssl.training.distributed import process_count, process_rank

Result = tuple[dict[str, np.ndarray], float]


def stepped(method: str, *, join: bool = False) -> Result:
    """Do one step on this process's share of the batch; return the gradients and the loss of unlabelled crops."""
    if join:
        join_processes(device="cpu")
    single = method != "cps"
    bare = small_network(seed=1) if single else TwinNet(first=small_network(), second=small_network(seed=1))
    network = bare
    if join:
        network = distribute(bare, device="cpu") if single else share_weights(bare, device="cpu")
    optimization = plain_optimization(network)
    options = {"loss": DiceCE(), "optimization": optimization}
    weight = Ramp(final=20.0)  # the loss in question is small
    if method == "mean_teacher":
        step = MeanTeacherStep(**options, weight=weight, teacher=teacher_of(bare), noise=0.5)
    elif method == "ua_mt":
        threshold = Ramp(final=1.0, length=100)
        step = UaMtStep(**options, weight=weight, teacher=teacher_of(bare), noise=0.5, threshold=threshold, passes=3)
    elif method == "cps":
        step = CpsStep(**options, weight=weight, network=network)
    else:
        step = SelfTrainingStep(**options)
    gradients = watched_gradients(optimization.optimizer, bare)
    batch = small_batch()
    batch["unlabeled"]["label"] = 1 - batch["label"].clamp(max=1)  # read by self-training alone
    output = step(bare_engine(network, iteration=51), share(batch, process_rank(), process_count()))
    return gradients, float(output["log"]["pseudo_loss" if method == "self_training" else "consistency_loss"])


def joined(method: str) -> Result:
    """`stepped` in one of several processes."""
    return stepped(method, join=True)
