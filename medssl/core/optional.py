"""Optional packages: imported where they are used, and named with the command that brings them."""

from __future__ import annotations

import importlib
from types import ModuleType

from medssl.core.errors import DependencyError


def require(module: str, *, feature: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: Module to import, such as "matplotlib".
        feature: What needs it, in the user's words.
        extra: The extra of medssl that brings it.

    Returns:
        The imported module.

    Raises:
        DependencyError: If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f'{feature} needs {module}, which is not installed. Run: pip install "medssl[{extra}]".'
        raise DependencyError(message) from error
