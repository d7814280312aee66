"""One detection case: what is read, what is refused, and that a difference to picai_eval is never scored."""

import numpy as np
import pytest
from evaluation.small_detections import AFFINE, LEFT, RIGHT, Detections, volume

from medssl.core import optional
from medssl.core.errors import DependencyError
from medssl.evaluation import detection_case
from medssl.evaluation.detection_case import DetectionJob, picai_eval, score_detection


def _score(study, **options):
    case = study.cases[-1]
    job = {"id": case["id"], "group": "g001", "fold": None, "minimum_overlap": 0.1} | options
    job.setdefault("reference_values", frozenset({0, 1}))
    reference = study.root / case["label"] if "label" in case else None
    prediction = study.predictions / f"{case['id']}_detection_map.nii.gz"
    return score_detection(DetectionJob(reference=reference, prediction=prediction, **job))


@pytest.fixture
def study(tmp_path):
    return Detections(tmp_path)


def test_a_case_is_matched_and_hashed(study):
    study.add("a", volume((LEFT, 1)), volume((LEFT, 0.8), (RIGHT, 0.4)))
    found = _score(study)
    assert (found.match.found, found.match.lesions, len(found.match.candidates)) == (1, 1, 2)
    content = found.to_json()
    assert content["positive"] is True
    assert content["confidence"] == pytest.approx(0.8)
    assert [candidate["outcome"] for candidate in content["candidates"]] == ["hit", "false"]
    assert len(content["reference_sha256"]) == len(content["prediction_sha256"]) == 64


def test_a_case_known_to_be_negative_needs_no_label(study):
    study.add("a", None, volume((LEFT, 0.8)))
    assert (_score(study).match.lesions, _score(study).to_json()["positive"]) == (0, False)


@pytest.mark.parametrize(
    ("candidates", "code"),
    [
        (None, "prediction-missing"),
        (np.linspace(0, 1, 16 * 16 * 6).reshape(16, 16, 6), "prediction-map"),  # a probability map
        (volume((LEFT, 1.5)), "prediction-map"),
        (volume((LEFT, -0.5)), "prediction-map"),
        (volume((LEFT, np.nan)), "prediction-unreadable"),
        (np.zeros((16, 16, 5)), "prediction-shape"),
    ],
)
def test_what_is_no_detection_map_of_the_case_is_one_finding(study, candidates, code):
    study.add("a", volume((LEFT, 1)), candidates)
    result = _score(study)
    assert result.match is None
    assert [finding.code for finding in result.findings] == [code]
    assert result.to_json() == {"id": "a", "group": "g001", "fold": None}


def test_another_place_is_refused(study):
    study.add("a", volume((LEFT, 1)), volume((LEFT, 0.8)), affine=AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 5)
    assert [finding.code for finding in _score(study).findings] == ["prediction-affine"]


def test_unknown_label_values_are_refused(study):
    study.add("a", volume((LEFT, 3)), volume((LEFT, 0.8)))
    assert [finding.code for finding in _score(study).findings] == ["reference-labels"]


def test_an_edited_map_is_noticed(study):
    study.add("a", volume((LEFT, 1)), volume((LEFT, 0.8)))
    assert [finding.code for finding in _score(study, stated_sha256="0" * 64).findings] == ["prediction-altered"]


def test_a_class_that_the_label_map_contradicts_is_named(study):
    study.add("a", volume((LEFT, 1)), volume((LEFT, 0.8)))
    assert [finding.code for finding in _score(study, stated_positive=False).findings] == ["class-label"]
    assert _score(study, stated_positive=True).findings == _score(study).findings == ()
    study.add("b", None, volume((LEFT, 0.8)))
    (finding,) = _score(study, stated_positive=True).findings
    assert "class 1 in the manifest, but no label map, so that the exam was scored as negative" in finding.text


def test_a_difference_to_picai_eval_is_not_scored(study, monkeypatch):
    study.add("a", volume((LEFT, 1)), volume((LEFT, 0.8)))
    monkeypatch.setattr(
        detection_case,
        "match_lesions",
        lambda *_, **__: detection_case.LesionMatch(candidates=(), lesions=1, confidence=0.8),
    )
    assert [finding.code for finding in _score(study).findings] == ["matching"]


def test_without_picai_eval_the_extra_is_named(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(DependencyError, match=r'pip install "medssl\[detection\]"'):
        picai_eval()


def test_importing_picai_eval_prints_nothing(capsys):
    picai_eval()
    assert capsys.readouterr().out == ""
