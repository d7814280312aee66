"""A full disk is named, leaves what was there and no half file, and the same command goes on once there is room."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from faults import hospital
from faults.full_disk import NoSmallDiskError, fill, half_files, no_room, small_disk
from faults.hospital import Outcome, make_hospital
from training.small_run import small_run

from medssl.core import exit_codes, files
from medssl.core.errors import ResourceError
from medssl.training.selection import save_weights


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hospital(tmp_path_factory.mktemp("hospital") / "sound")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk") as folder:
            yield folder
    except NoSmallDiskError:
        pytest.skip("cannot mount a small disk here")


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("act", [hospital.evaluate, hospital.report], ids=["evaluate", "report"])
def test_the_previous_result_is_kept(act: Callable[[Path], Outcome], sound: Path, disk: Path) -> None:
    shutil.copytree(sound, disk / "hospital")
    filler = fill(disk)
    before = _contents(disk / "hospital")
    outcome = act(disk / "hospital")
    assert (outcome.exit_code, outcome.codes) == (exit_codes.USAGE, ("refused: ResourceError disk-full",))
    assert _contents(disk / "hospital") == before
    filler.unlink()
    assert act(disk / "hospital").exit_code == exit_codes.OK


@pytest.mark.timeout(60)
@pytest.mark.parametrize("leave", [0, 4096, 8192, 12288, 16384])
def test_inference_leaves_whole_files_and_goes_on(leave: int, sound: Path, disk: Path) -> None:
    shutil.copytree(sound, disk / "hospital")
    shutil.rmtree(disk / "hospital" / "predictions")
    filler = fill(disk, leave=leave)
    outcome = hospital.infer(disk / "hospital")
    assert "disk-full" in " ".join(outcome.codes), outcome.text
    assert half_files(disk / "hospital") == []
    filler.unlink()
    assert hospital.infer(disk / "hospital").exit_code == exit_codes.OK
    assert {path.name for path in (disk / "hospital" / "predictions").iterdir()} == {
        "run.json", "t4.nii.gz", "v2.nii.gz",
    }  # fmt: skip


@pytest.mark.timeout(60)
def test_training_stops_with_the_state_of_the_last_save(disk: Path) -> None:
    def fill_in_iteration_6(iteration: int) -> None:
        if iteration == 6:
            fill(disk, leave=8192)

    with pytest.raises(ResourceError, match="full disk") as error:
        small_run(disk, save_minutes=0, on_batch=fill_in_iteration_6).trainer.run()
    assert error.value.code == "disk-full"
    assert torch.load(disk / "last.pt", weights_only=True)["iteration"] == 5
    assert half_files(disk) == []


@pytest.mark.timeout(60)
def test_a_bundle_that_does_not_fit_is_not_begun(sound: Path, disk: Path) -> None:
    shutil.copytree(sound / "data", disk / "data")
    fill(disk, leave=8192)
    outcome = hospital.train(disk)
    assert (outcome.exit_code, outcome.codes) == (exit_codes.USAGE, ("refused: ResourceError disk-full",))
    assert {path.name for path in disk.iterdir()} == {"data", "filler"}


def test_weights_are_kept_when_the_new_ones_find_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(tmp_path / "model.pt", torch.nn.Linear(2, 2))
    before = (tmp_path / "model.pt").read_bytes()
    monkeypatch.setattr(files, "_sync", no_room)
    with pytest.raises(ResourceError, match=r"model\.pt: expected room"):
        save_weights(tmp_path / "model.pt", torch.nn.Linear(2, 2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"model.pt": before}


@pytest.mark.parametrize("act", [hospital.evaluate, hospital.report, hospital.infer])
def test_every_writer_names_a_full_disk(act, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sound, tmp_path / "hospital")
    monkeypatch.setattr(files.os, "fsync", no_room)
    outcome = act(tmp_path / "hospital")
    assert outcome.codes == ("refused: ResourceError disk-full",)
    assert half_files(tmp_path / "hospital") == []
