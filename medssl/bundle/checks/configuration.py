"""The guard, B05, B06, B10: configurations that can be trusted, resolved and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import BundleConfig, walk
from medssl.bundle.expressions import LONGEST_EXPRESSION, has_control_flow, is_expression
from medssl.bundle.resolve import config_findings, missing_properties
from medssl.bundle.trust import refused_items, refused_logging, refused_modules
from medssl.core.errors import ConfigError
from medssl.core.findings import Finding


def guard(subject: Subject) -> Iterator[Finding]:
    """B05: nothing that bundles do not need may run."""
    yield from _once(subject, refused_items)
    yield from refused_modules(subject.folder)
    logging_file = subject.folder / "configs" / "logging.conf"
    if logging_file.is_file():
        yield from refused_logging(logging_file)


def references(subject: Subject) -> Iterator[Finding]:
    """B05: files merge, ids resolve, components import, arguments exist."""
    for files, config in subject.merged.items():
        if isinstance(config, ConfigError):
            where = " + ".join(f"{name}.json" for name in files)
            yield finding("B05", where, str(config), "Correct the id or the value.")
    yield from _once(subject, config_findings)


def properties(subject: Subject) -> Iterator[Finding]:
    """B06: MONAI's own check of property ids, for every merge that is run."""
    for workflow_type, config in subject.workflows():
        where = " + ".join(config.files)
        if Path(config.files[0]).stem in subject.stages:
            continue  # MONAI knows no properties of pre-training
        try:
            missing = missing_properties(config, workflow_type)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            text = f"MONAI's check of the {workflow_type} workflow fails: {type(error).__name__}: {error}"
            yield finding("B06", where, text, "Use the ids and literal lists that MONAI expects.")
            continue
        for name in missing:
            text = f"MONAI's check of the {workflow_type} workflow misses, or finds under another id: {name}"
            yield finding("B06", where, text, "Use MONAI's id and refer to it by a plain @id.")


def expressions(subject: Subject) -> Iterator[Finding]:
    """B10: short expressions without control flow."""
    for name, content in subject.configs.items():
        for item_id, value in walk(content):
            if not is_expression(value):
                continue
            where = f"{name}.json, {item_id}"
            fix = "Move the logic into a tested function and name it as _target_."
            if len(value) - 1 > LONGEST_EXPRESSION:
                text = f"{len(value) - 1} characters, at most {LONGEST_EXPRESSION} are expected"
                yield finding("B10", where, text, fix, severity="warning")
            if has_control_flow(value):
                yield finding("B10", where, f"control flow in {value!r}", fix, severity="warning")


def _once(subject: Subject, look: Callable[[BundleConfig], list[Finding]]) -> Iterator[Finding]:
    """Yield each finding once, although a file takes part in several merges."""
    seen = set()
    for _, config in subject.workflows():
        for found in look(config):
            key = json.dumps(found.to_json(), sort_keys=True)
            if key not in seen:
                seen.add(key)
                yield found
