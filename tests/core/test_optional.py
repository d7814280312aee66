"""Optional packages are named with the command that brings them."""

from __future__ import annotations

import pytest

from medssl.core.errors import DependencyError
from medssl.core.optional import require


def test_a_missing_package_is_named_with_the_command_that_brings_it() -> None:
    with pytest.raises(DependencyError, match=r'The report needs no_such_thing.*pip install "medssl\[report\]"'):
        require("no_such_thing", feature="The report", extra="report")
    assert require("json", feature="x", extra="y").__name__ == "json"
