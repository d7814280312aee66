"""Sources are recognised by content, and broken ones are named."""

from __future__ import annotations

import json
import shutil

import pytest

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file
from medssl.reports.sources import Evaluation, read_log, read_sources


def test_every_kind_is_recognised_by_content(study, tmp_path):
    check = tmp_path / "check.json"
    check.write_text(json.dumps({"manifest": {}, "cases": 3, "findings": []}))
    found = read_sources([*study.values(), check])
    assert [len(kind) for kind in (found.runs, found.inferences, found.evaluations, found.checks)] == [1, 1, 1, 1]
    assert [source.manifest.name for source in found.manifests] == ["mni-template-blocks", "mni-template"]


def test_every_file_is_named_with_its_hash_and_without_its_path(study):
    found = read_sources([study["metrics"]])
    assert found.hashes == {"metrics/metrics.json": sha256_file(study["metrics"] / "metrics.json")}


def test_runs_of_folds_are_found_below_their_folder(study, tmp_path):
    for fold in (0, 1):
        shutil.copytree(study["predictions"], tmp_path / "cross_validation" / f"fold_{fold}")
    found = read_sources([tmp_path / "cross_validation"])
    assert [inference.name for inference in found.inferences] == ["fold_0", "fold_1"]


def test_scores_are_named_by_folder_and_by_what_was_scored(study, tmp_path):
    metrics = json.loads((study["metrics"] / "metrics.json").read_text())
    metrics["medssl"]["inputs"] = {"manifest": {"name": "prostate"}, "part": "test", "run": {"sha256": "ab"}}
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "metrics.json").write_text(json.dumps(metrics))
    plain, stated = read_sources([study["metrics"], tmp_path / "scores"]).evaluations
    assert (plain.title, plain.run_sha256) == ("metrics", None)
    assert (stated.title, stated.run_sha256) == ("scores (prostate, test)", "ab")


@pytest.mark.parametrize(
    ("block", "title"),
    [
        ({"command": "finetune", "inputs": {"manifest": "ab" * 32}}, "run (by medssl finetune)"),
        ({"command": "evaluate", "inputs": {"manifest": "ab" * 32, "run": None}}, "run"),
        ({"command": 3, "inputs": []}, "run"),
        ("words", "run"),
    ],
)
def test_scores_of_other_commands_are_named_too(block, title):
    scores = Evaluation(name="run", content={"medssl": block})
    assert (scores.title, scores.run_sha256) == (title, None)


def test_folders_of_one_name_are_told_apart(study, tmp_path):
    folders = [tmp_path / place / "scores" for place in ("a", "b", "c/b")]
    for folder in folders:
        folder.mkdir(parents=True)
        shutil.copy(study["metrics"] / "metrics.json", folder)
    found = read_sources(folders)
    assert [evaluation.name for evaluation in found.evaluations] == ["scores", "b/scores", "scores (2)"]
    assert len(found.hashes) == 3


def test_manifest_paths_start_from_its_folder_unless_told_otherwise(study, tmp_path):
    assert read_sources([study["manifest"]]).manifests[0].root == study["manifest"].parent
    assert read_sources([study["manifest"]], data_root=tmp_path).manifests[0].root == tmp_path


def test_metrics_in_results_belong_to_the_run(study, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics.json").write_text((study["metrics"] / "metrics.json").read_text())
    found = read_sources([tmp_path])
    assert [each.name for each in (*found.evaluations, *found.runs)] == [tmp_path.name] * 2


def test_torn_last_line_is_counted(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"kind":"start"}\n{"kind":"tr\xc3')
    assert read_log(log) == (({"kind": "start"},), 1)


def test_a_line_torn_by_a_kill_before_a_resumed_run_is_counted(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"kind":"start"}\n{"kind\n{"kind":"end"}\n')
    events, torn = read_log(log)
    assert [event["kind"] for event in events] == ["start", "end"]
    assert torn == 1


def test_a_line_that_is_no_object_is_refused_with_its_number(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"kind":"start"}\n[1]\n')
    with pytest.raises(ConfigError, match=r"log\.jsonl, line 2"):
        read_log(log)


def test_missing_source_and_empty_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_sources([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match=r"no run\.json"):
        read_sources([tmp_path])


def test_stages_of_a_pretraining_are_runs_of_their_own(tmp_path):
    folder = tmp_path / "heart"
    for stage in ("pretrain_global", "pretrain_local"):
        (folder / "results" / stage).mkdir(parents=True)
        (folder / "results" / stage / "train_log.jsonl").write_text('{"kind": "start"}\n')
    (folder / "results" / "pretrain_local" / "weights.json").write_text('{"loaded": ["a"]}')
    runs = read_sources([folder]).runs
    assert [run.name for run in runs] == ["heart, pretrain_global", "heart, pretrain_local"]
    assert [run.weights for run in runs] == [None, {"loaded": ["a"]}]
    assert len(runs[0].log) == 1
