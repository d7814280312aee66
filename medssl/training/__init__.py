"""Floor 2: Step, optimisation, resumable checkpoints, loaders and handlers on MONAI's trainer."""

from medssl.training.distributed import distribute, join_processes, share_weights
from medssl.training.ema import EmaTeacher
from medssl.training.encoder_weights import EncoderWeights
from medssl.training.health import Embedded, PretrainingHealth
from medssl.training.initial_weights import InitialWeights
from medssl.training.lars import Lars
from medssl.training.layer_decay import layer_decay_groups
from medssl.training.lesion_score import LesionScore
from medssl.training.loaders import LesionSampler, StreamSampler, TwoStreamLoader
from medssl.training.log import TrainingLog
from medssl.training.mixup import Mixup
from medssl.training.optimization import Optimization, Step
from medssl.training.probe import NeighbourProbe
from medssl.training.resume import ResumeHandler
from medssl.training.schedules import Ramp, Schedule
from medssl.training.selection import BestRecord, BestWeights, LastWeights
from medssl.training.validation import CaseSampler, MeanDiceOfCases, SameBuffers

__all__ = [
    "BestRecord",
    "BestWeights",
    "CaseSampler",
    "EmaTeacher",
    "Embedded",
    "EncoderWeights",
    "InitialWeights",
    "Lars",
    "LastWeights",
    "LesionSampler",
    "LesionScore",
    "MeanDiceOfCases",
    "Mixup",
    "NeighbourProbe",
    "Optimization",
    "PretrainingHealth",
    "Ramp",
    "ResumeHandler",
    "SameBuffers",
    "Schedule",
    "Step",
    "StreamSampler",
    "TrainingLog",
    "TwoStreamLoader",
    "distribute",
    "join_processes",
    "layer_decay_groups",
    "share_weights",
]
