"""How the logits of several networks become one: their mean probability, or a vote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["mean", "majority"]
RULES: tuple[Rule, ...] = ("mean", "majority")

# Small beside one vote of at most six, so that it decides ties and nothing else
_TIE = 1e-3


def fuse_logits(logits: Sequence[Tensor], *, rule: Rule = "mean") -> Tensor:
    """Return the logarithm of the fused probability of several logits (B, K, X, Y, Z), float32.

    Its softmax is that probability, so whoever takes softmax or argmax of logits need not know of members.

    Args:
        logits: One for each member.
        rule: "mean" of the members' probabilities; or "majority", the share of members whose most probable class it
            is, ties going to the larger mean probability.
    """
    mean = torch.log_softmax(logits[0].float(), dim=1)
    for each in logits[1:]:
        mean = torch.logaddexp(mean, torch.log_softmax(each.float(), dim=1))
    mean = mean - math.log(len(logits))
    return mean if rule == "mean" else _vote(logits, mean)


def _vote(logits: Sequence[Tensor], mean: Tensor) -> Tensor:
    votes = mean.exp() * _TIE
    for each in logits:
        votes = votes.scatter_add(1, each.argmax(1, keepdim=True), torch.ones_like(votes[:, :1]))
    return (votes / (len(logits) + _TIE)).log()
