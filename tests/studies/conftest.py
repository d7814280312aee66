"""The rows of a small study."""

import pytest
from studies.small_study import Recorder, manifest, plan

from medssl.studies.run import run_study
from medssl.studies.summary import Row, summarise


@pytest.fixture
def rows(tmp_path) -> list[Row]:
    return summarise(plan(), run_study(plan(), manifest(), tmp_path, Recorder().hands))
