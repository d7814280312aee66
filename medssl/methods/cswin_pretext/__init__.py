"""CSwin UNet's pre-training: rotation, inpainting and contrast on one encoder pass (Li et al., Med Phys 2025)."""

from medssl.methods.cswin_pretext.heads import PretextNet
from medssl.methods.cswin_pretext.monitor import RotationShortcut
from medssl.methods.cswin_pretext.step import PretextStep, TaskWeights

__all__ = ["PretextNet", "PretextStep", "RotationShortcut", "TaskWeights"]
