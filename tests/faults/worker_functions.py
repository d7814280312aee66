"""Functions that fail in a worker process; spawned processes can import them from here."""

import os
from collections.abc import Callable
from typing import Any

from medssl.core.errors import ImageError
from medssl.data import case_checks
from medssl.data.case_checks import CaseReport, CaseTask


def double(number: int) -> int:
    if number == 3:
        raise ImageError("three", code="file-empty")
    return 2 * number


def die_on_two(number: int) -> int:
    if number == 2:
        os._exit(9)
    return number


def lambda_from(number: int) -> Callable[[], Any]:
    return lambda: number


def examine_or_die(task: CaseTask) -> CaseReport:
    if task.case.id == "deadly":
        os._exit(9)
    return case_checks.examine_case(task)
