"""The guard: a bundle is read as data first, and what it could run beyond the needs of bundles is refused.

MONAI evaluates `$` strings and calls whatever `_target_` names. `require_trust` looks at every such item of the
merged configuration, and at logging.conf, before anything of them runs; nothing here evaluates or instantiates.
"""

from __future__ import annotations

import ast
import configparser
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medssl.bundle.config import COMPONENT_KEYS, BundleConfig, walk
from medssl.bundle.expressions import is_expression, refusal
from medssl.bundle.targets import find_target, target_refusal
from medssl.core.errors import TrustError
from medssl.core.findings import Finding

_SHOWN = 120  # characters of a refused value that are shown
_MODES = ("default", "callable")  # "debug" opens an interactive debugger

# Handlers that write to files would let a bundle choose both the place and the text; others open connections.
_LOGGING = frozenset({"StreamHandler", "NullHandler", "Formatter"})
# MONAI puts the bundle's folder on the module path, where such a file could stand in for a package imported later.
_MODULES = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib"})
_READERS = frozenset({"NibabelReader", "ITKReader", "NrrdReader", "PydicomReader", "NumpyReader"})
_WRITERS = frozenset({"NibabelWriter", "ITKWriter"})


def _one_of(names: frozenset[str]) -> Callable[[Any], bool]:
    return lambda value: value is None or (isinstance(value, str) and value in names)


def _off(value: Any) -> bool:
    return value is None or value is False


# Arguments by which a component that is on the list would import code, fetch files or unpickle.
_ARGUMENTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "reader": (_one_of(_READERS), f"one of {', '.join(sorted(_READERS))}"),
    "writer": (_one_of(_WRITERS), f"one of {', '.join(sorted(_WRITERS))}"),
    "merger_cls": (_one_of(frozenset({"AvgMerger"})), "AvgMerger"),
    "pretrained": (_off, "false"),
    "pretrained_url": (_off, "null"),
    "pretrained_path": (_off, "null"),
    "allow_pickle": (_off, "false"),
    "pickle_module": (_off, "null"),
    "weights_only": (lambda value: value is True, "true"),
    "_debug_": (_off, "false"),
}


def refused_items(config: BundleConfig | Mapping[str, Any]) -> list[Finding]:
    """Return everything in a merged configuration that bundles do not need and that could run code.

    Args:
        config: What `merge_config` returns, or a plain configuration of one file.

    Returns:
        One error for each refused item, with file and id in `where` and the value in `text`.
    """
    if not isinstance(config, BundleConfig):
        config = BundleConfig(bundle=Path(), content=dict(config), sources={})
    found = []
    for item_id, value in walk(config.content):
        for code, reason, culprit in _refusals(value):
            found.append(_finding(code, config.locate(item_id), reason, culprit))
    return found


def refused_logging(path: Path) -> list[Finding]:
    """Return what a logging.conf would run beyond logging to the console."""
    reader = configparser.RawConfigParser()
    try:
        reader.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        return [_finding("trust-logging", path.name, f"it cannot be read ({error})", path.name)]
    found = []
    for section in (*reader.sections(), reader.default_section):
        for field, rule in (("class", _logging_class), ("args", _plain_arguments), ("kwargs", _plain_arguments)):
            value = reader[section].get(field, "").strip()
            if value and not rule(value):
                reason = f"only {', '.join(sorted(_LOGGING))} with literal arguments are allowed, found another {field}"
                found.append(_finding("trust-logging", f"{path.name}, [{section}]", reason, value))
    return found


def refused_modules(bundle: Path) -> list[Finding]:
    """Return the Python modules and libraries in a bundle's folder; bundles hold none."""
    reason = "bundles hold no code; Python could import it in place of a package"
    return [
        _finding("trust-module", path.relative_to(bundle).as_posix(), reason, path.name)
        for path in sorted(bundle.rglob("*"))
        if path.suffix.lower() in _MODULES
    ]


def require_trust(config: BundleConfig, *, trust: bool = False) -> list[Finding]:
    """Stop unless everything that a bundle would run is on the list, or the user trusts it.

    Call it before anything of the configuration is evaluated, instantiated or applied.

    Args:
        config: What `load_config` or `merge_config` returned.
        trust: The user has read the bundle and takes its code as his own.

    Returns:
        The refused items, to be shown; empty unless `trust` is given.

    Raises:
        TrustError: If items are refused and `trust` is not given; every item is listed.
    """
    found = refused_items(config) + refused_modules(config.bundle)
    logging_file = config.bundle / "configs" / "logging.conf"
    if logging_file.is_file():
        found += refused_logging(logging_file)
    if found and not trust:
        lines = "\n".join(f"  {finding.where}: {finding.text}" for finding in found)
        message = (
            f"bundle {config.bundle.name}: {len(found)} items ask for code that bundles do not need. "
            f"Nothing of it was run.\n{lines}\nRead these lines; only if you trust the author, run again with --trust."
        )
        raise TrustError(message)
    return found


def _refusals(value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, str):
        if is_expression(value) and (reason := refusal(value)):
            yield "trust-expression", reason, value
        elif value.startswith("%"):
            yield "trust-macro", "a macro that was not resolved inside the bundle's configs", value
    elif isinstance(value, Mapping) and "_target_" in value:
        yield from _component_refusals(value)


def _component_refusals(component: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    target = component["_target_"]
    if reason := target_refusal(target):
        yield "trust-target", reason, target
        return
    if component.get("_mode_", "default") not in _MODES:
        yield "trust-mode", f"_mode_ must be one of {', '.join(_MODES)}", component["_mode_"]
    for name, value in component.items():
        if name in _ARGUMENTS and not _ARGUMENTS[name][0](value):
            yield "trust-argument", f"{name} of {target} must be written out as {_ARGUMENTS[name][1]}", value
        elif name.startswith("_") and name not in COMPONENT_KEYS and name not in _ARGUMENTS:
            yield "trust-argument", f"{name} is not a key of components", value
    if "pretrained" not in component and _fetches_by_default(target):
        yield "trust-argument", f"{target} downloads weights unless pretrained is false", target


def _fetches_by_default(target: str) -> bool:
    try:
        parameter = inspect.signature(find_target(target)).parameters.get("pretrained")
    except (TypeError, ValueError):
        return False  # misspelt, or built in
    return parameter is not None and parameter.default is True


def _logging_class(value: str) -> bool:
    return value.removeprefix("logging.") in _LOGGING


def _plain_arguments(value: str) -> bool:
    try:
        ast.literal_eval(value.replace("sys.stdout", "None").replace("sys.stderr", "None"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _finding(code: str, where: str, reason: str, culprit: Any) -> Finding:
    shown = str(culprit)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return Finding(
        code=code,
        severity="error",
        where=where,
        text=f"{shown!r} is refused: {reason}",
        fix="Remove it from the bundle, or trust the bundle explicitly with --trust.",
    )
