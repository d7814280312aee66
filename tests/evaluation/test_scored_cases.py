"""Which cases of a manifest can be scored, and what is said where there are none."""

import pytest

from medssl.core.errors import ConfigError
from medssl.data.manifest import Case, Manifest
from medssl.evaluation.scored_cases import labelled_cases


def manifest(**parts: list[Case]) -> Manifest:
    return Manifest(
        name="m", modality="CT", labels={"0": "no", "1": "yes"}, **{key: tuple(v) for key, v in parts.items()}
    )


def test_the_parts_that_have_labels_are_offered():
    labelled = Case(id="a", image=("a.nii.gz",), label="l.nii.gz")
    with pytest.raises(ConfigError, match=r"training \(1\)") as raised:
        labelled_cases(manifest(training=[labelled]), "test")
    assert "--part" in str(raised.value.fix)


def test_cases_with_a_class_are_pointed_to_their_task():
    classified = Case(id="a", image=("a.png",), **{"class": 1})
    with pytest.raises(ConfigError) as raised:
        labelled_cases(manifest(test=[classified]), "test")
    assert "--task classification" in str(raised.value.fix)
