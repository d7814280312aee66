"""Functions that fail in a worker process; spawned processes can import them from here."""

import os
import time
from collections.abc import Callable
from typing import Any

from medssl.core.errors import ImageError
from medssl.data import case_checks
from medssl.data.case_checks import CaseReport, CaseTask
from medssl.evaluation.case import CaseJob, CaseResult, score_case


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


def sleep_on_two(number: int) -> int:
    if number == 2:
        time.sleep(600)
    return number


def examine_or_sleep(task: CaseTask) -> CaseReport:
    if task.case.id == "v1":
        time.sleep(600)
    return case_checks.examine_case(task)


def score_or_die(job: CaseJob) -> CaseResult:
    if job.id == "v2":
        os._exit(9)
    return score_case(job)
