"""A bundle that may be broken: a copy of the shipped one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Edit = Callable[[str, dict[str, Any]], None]


@pytest.fixture
def bundle(bundles: Path, tmp_path: Path) -> Path:
    """A copy of the shipped bundle, without its weights."""
    source = bundles / "hippocampus_mri_supervised"
    return Path(shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("*.pt", "*.ts")))


@pytest.fixture
def edit(bundle: Path) -> Edit:
    """Set items of one configuration file of the copy: edit("train", {"epochs": 3}); None removes."""

    def change(name: str, items: dict[str, Any]) -> None:
        path = bundle / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        for item_id, value in items.items():
            *parents, last = item_id.split("#")
            place = content
            for step in parents:
                place = place[int(step) if isinstance(place, list) else step]
            if value is None:
                del place[int(last) if isinstance(place, list) else last]
            else:
                place[int(last) if isinstance(place, list) else last] = value
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")

    return change
