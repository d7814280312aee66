import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from medssl.bundle.catalog import describe_bundle, find_bundle, shipped_bundles


def test_bundle_is_found_by_name_and_by_folder(bundle: Path) -> None:
    assert find_bundle("hippocampus_mri_supervised") == shipped_bundles()["hippocampus_mri_supervised"]
    assert find_bundle(bundle) == bundle.resolve()


def test_description_tells_whether_weights_are_there(bundle: Path) -> None:
    assert describe_bundle(bundle)["weights"]["present"]
    (bundle / "models" / "model.pt").unlink()
    assert not describe_bundle(bundle)["weights"]["present"]


def test_wheel_carries_whole_bundles_and_nothing_else(bundles: Path, tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    root = bundles.parent
    source = tmp_path / "source"
    shutil.copytree(root / "medssl" / "core", source / "medssl" / "core")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"):
        shutil.copy2(root / name, source / name)
    (source / "README.md").write_text("medssl", encoding="utf-8")
    shutil.copytree(bundles, source / "bundles")
    folder = source / "bundles" / "hippocampus_mri_supervised"
    for name in ("models/model.pt", "checkpoints/last.pt", "configs/monailabel_train.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    inside = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    names = {name.removeprefix("medssl/bundles/hippocampus_mri_supervised/") for name in inside}
    assert {"LICENSE", "configs/inference.json", "configs/logging.conf", "models/model.pt", "docs/README.md"} <= names
    assert not names & {"checkpoints/last.pt", "configs/monailabel_train.json"}
