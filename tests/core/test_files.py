"""Files appear whole or not at all, and paths stay below their root."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.core.errors import ConfigError, ManifestError, ResourceError
from medssl.core.files import (
    atomic_folder,
    atomic_path,
    disk_full,
    inside_root,
    keep_source,
    set_aside,
    sha256_file,
    sha256_json,
    sole_writer,
    sweep_leftovers,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_all_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith("scan.nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
    assert (tmp_path / "scan.nii.gz").read_bytes() == b"x"


def test_json_with_nan_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"dice": float("nan")})
    assert not list(tmp_path.iterdir())


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("ü" * 124 + ".nii.gz"), "x")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_the_old_file_kept(tmp_path: Path, number: int) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ResourceError, match=r"a\.txt: expected room"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_other_failures_of_writing_are_not_called_a_full_disk(tmp_path: Path) -> None:
    assert disk_full(PermissionError(errno.EACCES, "no"), "a.txt") is None
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "no")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "new") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert not list((tmp_path / "new").iterdir())
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a").write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["new", "new/a"]


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-999999999-abcd-new").mkdir()
    (tmp_path / f".tmp-{os.getpid()}-abcd-new").mkdir()
    with atomic_folder(tmp_path / "new"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"new", f".tmp-{os.getpid()}-abcd-new"}


_KILLED_WRITER = """
import sys, time
from pathlib import Path
from medssl.core.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file_and_its_leftover_is_swept(tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    write_text(target, "old")
    writer = subprocess.Popen([sys.executable, "-c", _KILLED_WRITER, str(target)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert sweep_leftovers(tmp_path) == 0, "the writer still lives"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    time.sleep(0.05)
    assert target.read_text() == "old"
    assert sweep_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_sweeping_leaves_files_of_others(tmp_path: Path) -> None:
    (tmp_path / ".tmp-notes.txt").write_text("mine")
    (tmp_path / ".hidden").write_text("mine")
    assert sweep_leftovers(tmp_path) == 0


@pytest.mark.parametrize("path", ["../b.nii", "/etc/passwd", "a/../../b", "a/b/../../../c"])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ManifestError, match="leaves the data root"):
        inside_root(tmp_path / "data", path)


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "c.nii"]), min_size=1, max_size=8))
def test_an_accepted_path_is_always_below_the_root(steps: list[str]) -> None:
    root = Path("/data/set")
    try:
        joined = inside_root(root, "/".join(steps))
    except ManifestError:
        return
    assert joined == root or root in joined.parents


def test_hashes_depend_on_content_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"b": 1, "a": [1, 2]}) == sha256_json(json.loads('{ "a": [1,2], "b": 1}'))
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_a_source_is_not_written_over_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("source.json")
    for name in ("source.json", "link.json"):
        with pytest.raises(ConfigError, match=r"--out .* found one that this command reads"):
            keep_source(tmp_path / name, [tmp_path / "missing.json", tmp_path / "source.json"])
    keep_source(tmp_path / "new.json", [tmp_path / "source.json"])


def test_a_folder_is_held_against_other_processes_and_given_back(tmp_path: Path) -> None:
    imports = "import sys; from pathlib import Path; from medssl.core.files import sole_writer"
    code = f"{imports}\nwith sole_writer(Path(sys.argv[1]), patience=0.0): pass"
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with sole_writer(tmp_path / "out"):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another process is writing there" in refused.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_set_aside_keeps_its_ending_and_replaces_nothing(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "study.json").write_text(str(number))
        assert set_aside(tmp_path / "study.json") == tmp_path / f"study_before{number}.json"
        (tmp_path / "run").mkdir()
        assert set_aside(tmp_path / "run") == tmp_path / f"run_before{number}"
    assert (tmp_path / "study_before1.json").read_text() == "1"
    assert not (tmp_path / "study.json").exists()
