"""The supervised baseline: labelled data only, the yardstick for every other method."""

from medssl.methods.supervised.step import SupervisedStep

__all__ = ["SupervisedStep"]
