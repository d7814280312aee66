"""What a `_target_` of a bundle may name: a closed list of what bundles need, tested on the resolved object.

A name is accepted only if its written path and the place where the object was really defined both lie under one
family, and if the object is of the kind that the family stands for. So `monai.transforms.os.system` or a loader that
some module happens to import is never reached.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import inspect
import pydoc
import re
from collections.abc import Callable
from functools import cache
from typing import Any

_DOTTED = re.compile(r"[A-Za-z]\w*(\.[A-Za-z_]\w*)*")

_TORCH_DATA = frozenset(
    {
        "DataLoader", "Dataset", "TensorDataset", "ConcatDataset", "Subset", "RandomSampler", "SequentialSampler",
        "WeightedRandomSampler", "SubsetRandomSampler", "BatchSampler", "DistributedSampler",
    }
)  # fmt: skip
_MONAI_DATA = frozenset(
    {
        "Dataset", "CacheDataset", "SmartCacheDataset", "PersistentDataset", "CacheNTransDataset", "DataLoader",
        "ThreadDataLoader", "DistributedSampler", "DistributedWeightedRandomSampler", "ZipDataset", "partition_dataset",
        "partition_dataset_classes", "select_cross_validation_folds", "list_data_collate", "pad_list_data_collate",
    }
)  # fmt: skip
_MONAI_ENGINES = frozenset(
    {
        "SupervisedTrainer", "SupervisedEvaluator", "EnsembleEvaluator", "PrepareBatchDefault",
        "PrepareBatchExtraInput", "default_prepare_batch", "default_metric_cmp_fn",
    }
)  # fmt: skip
_IGNITE_HANDLERS = frozenset(
    {
        "EarlyStopping", "TerminateOnNan", "Timer", "EMAHandler", "CosineAnnealingScheduler", "LinearCyclicalScheduler",
        "PiecewiseLinear", "LRScheduler", "ConcatScheduler", "ParamGroupScheduler", "ReduceLROnPlateauScheduler",
        "ProgressBar",
    }
)  # fmt: skip
_HANDLER_FUNCTIONS = frozenset({"from_engine", "stopping_fn_from_metric", "stopping_fn_from_loss", "ignore_data"})
# Names that a family would let in, and that take code, fetch from the network or write where they are told.
_DENIED = re.compile(
    r"(Rand)?(Lambda|TorchVision|TorchIO|CuCIM).*|WriteFileMapping.*|MLFlowHandler|LogfileHandler|ClassificationSaver|ClearML.*|TrtHandler|Transchex|CellSamWrapper|"
    r"TorchVisionFCModel|PerceptualLoss|.*PerceptualSimilarity.*|MetricsLambda|LearningRateFinder|save.*|write.*|export.*"
)


def _subclass_of(module: str, name: str) -> Callable[[Any], bool]:
    def kind(found: Any) -> bool:
        return inspect.isclass(found) and issubclass(found, getattr(importlib.import_module(module), name))

    return kind


def _named(names: frozenset[str]) -> Callable[[Any], bool]:
    return lambda found: found.__name__ in names


def _any_kind(found: Any) -> bool:
    return True


def _handler(found: Any) -> bool:
    return inspect.isclass(found) or found.__name__ in _HANDLER_FUNCTIONS


# Harmless classes whose real home is a private module
_EXACT = frozenset({"torch.Generator"})

# Where the object may be defined -> what it must be. A path is tested against the longest prefix that fits.
_FAMILIES: dict[str, Callable[[Any], bool]] = {
    "monai.transforms": _subclass_of("monai.transforms", "Transform"),
    "monai.networks.nets": _subclass_of("torch.nn", "Module"),
    "monai.losses": _subclass_of("torch.nn", "Module"),
    "monai.metrics": inspect.isclass,
    "monai.inferers": _subclass_of("monai.inferers", "Inferer"),
    "monai.handlers": _handler,
    "monai.engines": _named(_MONAI_ENGINES),
    "monai.optimizers": inspect.isclass,
    "monai.data": _named(_MONAI_DATA),
    "monai.utils.misc": _named(frozenset({"set_determinism"})),
    "torch.nn": _subclass_of("torch.nn", "Module"),
    "torch.optim": _subclass_of("torch.optim", "Optimizer"),
    "torch.optim.lr_scheduler": _subclass_of("torch.optim.lr_scheduler", "LRScheduler"),
    "torch.utils.data": _named(_TORCH_DATA),
    "torch": _named(frozenset({"device"})),
    "torch.amp": _named(frozenset({"GradScaler"})),
    "ignite.metrics": _subclass_of("ignite.metrics", "Metric"),
    "ignite.handlers": _named(_IGNITE_HANDLERS),
    "medssl.data.class_cases": _any_kind,
    "medssl.data.datasets": _any_kind,
    "medssl.data.transforms": _any_kind,
    "medssl.networks": _any_kind,
    "medssl.losses": _any_kind,
    "medssl.metrics": _any_kind,
    "medssl.training": _any_kind,
    "medssl.methods": _any_kind,
    "medssl.core.seeding": _named(frozenset({"seed_everything"})),
}


def target_refusal(target: Any) -> str | None:
    """Tell why a `_target_` is not on the list of what bundles need, or None if it is.

    A name on the list that does not exist is not refused: nothing can run, and `check_config` names it.

    Args:
        target: The value of `_target_`: a short name of MONAI or a dotted path.
    """
    if not isinstance(target, str) or not _DOTTED.fullmatch(target):
        return "_target_ must be a plain name, so that it can be tested before anything runs"
    paths = _full_paths(target)
    if not paths:
        return None if _is_harmless_misspelling(target) else "MONAI has no component of this name, but Python has"
    return next((reason for reason in map(_path_refusal, paths) if reason), None)


def find_target(target: str, *, trusted: bool = False) -> Any:
    """Return the class or function that a `_target_` names, or None if there is none.

    Args:
        target: Short name of MONAI or dotted path.
        trusted: The user trusts the bundle, so modules outside the list may be imported to look it up.
    """
    paths = _full_paths(target)
    if not paths:
        return None
    if _family(paths[0]) is None and not trusted:
        return None
    # The lookup that MONAI does when it builds: it stops where a package's function hides a module of the same name
    return pydoc.locate(paths[0])


def known_names(target: str) -> list[str]:
    """Return the names among which a misspelt `_target_` may be looked for."""
    written, _, _ = target.rpartition(".")
    modules = [written] if written else [family for family in _FAMILIES if family.startswith("monai.")]
    found = [(module, dir(_module(module))) for module in modules if _family(f"{module}.x")]
    prefix = f"{written}." if written else ""
    return sorted({f"{prefix}{name}" for _, names in found for name in names if not name.startswith("_")})


def _path_refusal(path: str) -> str | None:
    if path in _EXACT:
        return None
    family = _family(path)
    if family is None:
        return f"{path} is not on the list of what bundles need"
    module, names = _split(path)
    found = _walk(module, names)
    if found is None:
        return None  # misspelt
    if len(names) != 1 or not (inspect.isclass(found) or inspect.isfunction(found)):
        return f"{path} is not a class or function of the module {module}"
    name = found.__name__
    defined = f"{found.__module__}.{name}"
    home = _family(defined)
    if home is None or home.split(".")[0] != family.split(".")[0]:
        return f"{path} is really {defined}, which is not on the list of what bundles need"
    if _DENIED.fullmatch(name) or not _FAMILIES[home](found):
        return f"{defined} is not on the list of what bundles need"
    return None


def _family(path: str) -> str | None:
    if path == "monai.utils.set_determinism":
        return "monai.utils.misc"
    module = path.rpartition(".")[0]
    if module == "torch":
        return "torch"  # stands for names of that module alone, not for what lies below
    fitting = [prefix for prefix in _FAMILIES if prefix != "torch" and f"{module}.".startswith(f"{prefix}.")]
    return max(fitting, key=len, default=None)


def _split(path: str) -> tuple[str, list[str]]:
    """Split a dotted path into its longest module and the names below it, as MONAI's own lookup does."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        if _module(module) is not None:
            return module, parts[count:]
    return "", parts


def _walk(module: str, names: list[str]) -> Any:
    found = _module(module) if module else None
    for name in names:
        found = getattr(found, name, None)
    return found


def _module(name: str) -> Any:
    # Only ever called for a family or what lies below, so importing runs code of installed packages, never a bundle's.
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _is_harmless_misspelling(target: str) -> bool:
    return not hasattr(builtins, target) and importlib.util.find_spec(target) is None


def _full_paths(target: str) -> list[str]:
    if "." in target:
        return [target]
    modules = _locator().get_component_module_name(target)
    return [f"{module}.{target}" for module in ([modules] if isinstance(modules, str) else modules or [])]


@cache
def _locator() -> Any:
    import monai.bundle

    return monai.bundle.ComponentLocator()
