"""A real study of two arms on phantoms: three networks of a few weights, two iterations each."""

import json
import shutil
from pathlib import Path

import pytest
from phantoms import write_phantoms

from medssl.cli.main import run
from medssl.data.manifest import load_manifest

PATCH = [16, 16, 16]


def tiny_bundle(bundles: Path, folder: Path) -> Path:
    """Copy the co-trained bundle with views of a few weights."""
    ignore = shutil.ignore_patterns("*.pt")
    copy = Path(shutil.copytree(bundles / "hippocampus_mri_umct", folder / "phantoms_mr_umct", ignore=ignore))
    for name in ("train", "inference"):
        path = copy / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["network_def"]["network"] |= {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
        content |= {"patch_size": PATCH}
        path.write_text(json.dumps(content), encoding="utf-8")
    return copy


@pytest.fixture
def study(bundles: Path, tmp_path: Path) -> list[str]:
    manifest = write_phantoms(tmp_path / "data", training=4, validation=1)
    ids = [case.id for case in load_manifest(manifest).training]
    tiny_bundle(bundles, tmp_path)
    fast = {"num_workers": 0, "stochastic_passes": 2, "cotraining_start": 0.0, "cotraining_rise": 0.0}
    arm = {"bundle": "phantoms_mr_umct", "patches_per_iteration": 6, "set": fast}
    plan = {
        "name": "phantoms",
        "part": "validation",
        "draws": {"1": [[ids[0]]]},
        "budget": 12,
        "baseline": "views",
        "arms": [
            {"name": "views", **arm, "set": {**fast, "cotraining_weight": 0.0}},
            {"name": "umct", **arm},
            {"name": "umct_two", "members": "umct", "size": 2, "group": "ensemble"},
            {"name": "umct_single", "single_views_of": "umct"},
        ],
    }
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    return ["study", str(path), "--manifest", str(manifest), "--out", str(tmp_path / "out")]


def _runs_are_compared_unless_the_data_differs(out: Path, other: Path, capsys) -> None:
    folders = [out / "runs" / arm / "labelled1_draw0_seed0" for arm in ("views", "umct")]
    assert run(["compare", *map(str, folders)]) == 0
    content = json.loads((folders[1] / "metrics.json").read_text())
    assert content["medssl"]["inputs"]["bundle"] is not None
    content["medssl"]["inputs"]["manifest"]["sha256"] = "0" * 64
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    assert run(["compare", str(folders[0]), str(other)]) == 1
    assert "do not score the same thing (manifest: phantoms" in capsys.readouterr().err


def test_study_trains_scores_and_draws_every_arm_and_goes_on(study: list[str], tmp_path: Path, capsys) -> None:
    assert run(study) == 0
    out = tmp_path / "out"
    runs = json.loads((out / "study.json").read_text())["runs"]
    assert [each["arm"] for each in runs] == ["views", "umct", "umct_two", "umct_single"]
    assert [each["iterations"] for each in runs] == [2, 2, 1, 2]
    # 2 iterations of 3 views with 2 labelled crops, and 2 unlabelled ones where the weight is not 0
    assert [each["patches"] for each in runs] == [12, 24, 24, 24]
    assert "umct with 1 label passed 24 patches forward and back: 100.0% more" in (out / "study.md").read_text()
    assert "All arms worked at voxels of 1 x 1 x 1 mm." in (out / "study.md").read_text()
    assert (out / "curve.png").is_file()
    assert "All arms worked at voxels of 1 x 1 x 1 mm." in (out / "curve.html").read_text()
    assert "    medssl study" in (out / "study.md").read_text()
    lines = (out / "runs/umct/labelled1_draw0_seed0/bundle/results/train_log.jsonl").read_text()
    assert "cotraining_loss" in lines
    _runs_are_compared_unless_the_data_differs(out, tmp_path / "other", capsys)
    capsys.readouterr()
    assert run([*study, "--table"]) == 0
    assert "| 1 | umct |" in capsys.readouterr().out


def test_plan_that_does_not_fit_is_an_error_of_use(study: list[str], capsys) -> None:
    Path(study[1]).write_text("{}", encoding="utf-8")
    assert run(study) == 1
    assert "baseline" in capsys.readouterr().err


def test_networks_of_the_users_own_run_once_trusted(
    study: list[str], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "from medssl.networks.multi_view_net import MultiViewNet\n\n\nclass OwnNet(MultiViewNet):\n    pass\n"
    (tmp_path / "own_network_of_a_test.py").write_text(own, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("train", "inference"):
        path = tmp_path / "phantoms_mr_umct" / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["network_def"]["_target_"] = "own_network_of_a_test.OwnNet"
        path.write_text(json.dumps(content), encoding="utf-8")
    plan = Path(study[1])
    content = json.loads(plan.read_text(encoding="utf-8"))
    content["arms"] = [each for each in content["arms"] if each["name"] != "umct"]
    content["arms"][1]["members"] = content["arms"][2]["single_views_of"] = "views"
    plan.write_text(json.dumps(content), encoding="utf-8")
    assert run(study) == 3
    assert "not on the list" in capsys.readouterr().out
    assert run([*study, "--trust"]) == 0
    assert json.loads((tmp_path / "out" / "study.json").read_text())["command"].endswith(" --trust")


def _copy_scan(manifest: Path, source: str, target: str) -> None:
    shutil.copy(manifest.parent / f"{source}_0.nii.gz", manifest.parent / f"{target}_0.nii.gz")


def test_a_scan_that_a_draw_would_both_label_and_not_label_stops_the_study(
    study: list[str], tmp_path: Path, capsys
) -> None:
    _copy_scan(Path(study[3]), "phantom_0", "phantom_2")
    assert run(study) == 2
    told = capsys.readouterr()
    assert "error duplicate [phantom_2]" in told.out
    assert "case phantom_0 (training). The draw phantom_0 labels one" in told.out
    assert "Nothing was trained" in told.err
    assert not (tmp_path / "out").exists()


def test_a_scored_scan_among_the_unlabelled_ones_stops_the_study(study: list[str], tmp_path: Path, capsys) -> None:
    _copy_scan(Path(study[3]), "phantom_3", "phantom_4")
    assert run(study) == 2
    assert "error duplicate [phantom_4]" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"), [({"set": {"stochastic_pases": 1}}, "stochastic_pases"), ({}, "phantom_9")]
)
def test_what_a_plan_cannot_do_is_told_before_anything_runs(
    study: list[str], tmp_path: Path, capsys, change, told
) -> None:
    path = Path(study[1])
    plan = json.loads(path.read_text(encoding="utf-8"))
    plan["arms"][0] |= change
    if not change:
        plan["draws"]["1"] = [["phantom_9"]]
    path.write_text(json.dumps(plan), encoding="utf-8")
    assert run(study) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_that_are_there_are_not_replaced_by_none(study: list[str], tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert run(study) == 0
    kept = (out / "study.json").read_text()
    plan = Path(study[1])
    before = plan.read_text()
    plan.write_text(json.dumps(json.loads(before) | {"budget": 24}))
    assert run([*study, "--table"]) == 1
    assert "expected runs of this plan and this data, found none" in capsys.readouterr().err
    assert (out / "study.json").read_text() == kept
    assert run([*study, "--only", "views"]) == 0
    assert "results of another plan, bundle or data: kept in" in capsys.readouterr().err
    assert (out / "study_before1.json").read_text() == kept
    assert "umct with 1 label: 0 of 1 runs." in (out / "study.md").read_text()


def test_a_study_writes_no_patient_no_folder_and_not_over_its_plan(study: list[str], tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert run([*study, "--only", "views"]) == 0
    texts = [path.read_text() for path in out.rglob("*") if path.suffix in {".json", ".md", ".html"}]
    assert not any("Doe phantom" in text for text in texts)
    published = [(out / name).read_text() for name in ("study.json", "study.md", "curve.html")]
    assert not any(str(tmp_path) in text for text in published)
    assert run(["study", str(out / "study.json"), *study[2:]]) == 1
    assert "found one that this command reads" in capsys.readouterr().err


def test_what_an_arm_has_wrong_is_told_with_its_name(study: list[str], capsys) -> None:
    plan = Path(study[1])
    content = json.loads(plan.read_text())
    content["arms"][1]["set"]["stochastic_pases"] = 2
    plan.write_text(json.dumps(content))
    assert run(study) == 1
    assert "arm umct: 1 overrides do not fit the configuration" in capsys.readouterr().err
    plan.write_text(json.dumps({**content, "basline": "views"}))
    assert run(study) == 1
    assert 'unknown key. Did you mean "baseline"' in " ".join(capsys.readouterr().err.split())
