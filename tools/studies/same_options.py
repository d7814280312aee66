"""Refuse to go on with a study under other options: what lies in its folder was made with the first ones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medssl.core.files import write_json

_NO_MATTER = {"data", "out"}


def require_same_options(out: Path, options: argparse.Namespace, *, may_change: tuple[str, ...] = ()) -> None:
    """Remember the options of the first start in OUT/options.json; stop if later ones differ.

    Args:
        out: Folder of the study.
        options: As parsed.
        may_change: Options that only add runs.
    """
    ignored = {*_NO_MATTER, *may_change}
    now = {name: value for name, value in vars(options).items() if name not in ignored}
    file = out / "options.json"
    if not file.is_file():
        write_json(file, now)
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    changed = [f"{name}: {before.get(name)} and {value}" for name, value in now.items() if before.get(name) != value]
    if changed:
        raise SystemExit(f"{out}: expected the options it was begun with, found others ({'; '.join(changed)}).")
