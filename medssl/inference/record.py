"""run.json: what was done with each case, written so that a kill at any moment loses nothing.

Finished cases are appended to a journal at once; run.json is rewritten whole, at most every second and at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.core.files import sha256_file, write_json

_REWRITE_SECONDS = 1.0


class RunRecord:
    """The record of one output folder.

    Args:
        folder: Output folder; an earlier record there is read, so that its cases can be recognised.
        header: Everything of run.json but the cases. Cases of an earlier run count only if its `bundle` and
            `settings` are the same.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self._folder = folder
        self._header = dict(header)
        self._earlier = _earlier_cases(folder, header)
        self._cases: dict[str, dict[str, Any]] = {}
        self._written = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        # The journal belongs to this header from here on; what was in it is in `_earlier`, and goes back into run.json.
        write_json(self._path, self._content(with_earlier=True))
        self._journal = (folder / _JOURNAL).open("w", encoding="utf-8")

    @property
    def _path(self) -> Path:
        return self._folder / "run.json"

    @property
    def cases(self) -> list[dict[str, Any]]:
        """The cases of this run so far."""
        return list(self._cases.values())

    def finished_case(self, case_id: str, input_sha256: str) -> dict[str, Any] | None:
        """Return the earlier record of a case whose input and outputs are unchanged on disk, or None."""
        earlier = self._earlier.get(case_id)
        if earlier is None or earlier["state"] == "failed" or earlier["input_sha256"] != input_sha256:
            return None
        outputs = {earlier["output"]: earlier["output_sha256"]} | dict(earlier.get("more_outputs", {}))
        for name, expected in outputs.items():
            path = self._folder / name
            if not path.is_file() or sha256_file(path) != expected:
                return None
        return earlier

    def add(self, case: dict[str, Any]) -> None:
        """Record one case; it survives a kill from here on."""
        self._cases[case["id"]] = case
        self._journal.write(json.dumps(case) + "\n")
        self._journal.flush()
        if time.monotonic() - self._written > _REWRITE_SECONDS:
            self.save()

    def save(self, **changes: Any) -> None:
        """Rewrite run.json; `changes` go into its top level."""
        self._header.update(changes)
        write_json(self._path, self._content(with_earlier=True))
        self._written = time.monotonic()

    def close(self, **changes: Any) -> None:
        """Write run.json a last time and drop the journal.

        Args:
            changes: Last values of the top level.
        """
        self.save(**changes)
        self._journal.close()
        (self._folder / _JOURNAL).unlink(missing_ok=True)

    def _content(self, *, with_earlier: bool) -> dict[str, Any]:
        cases = (self._earlier if with_earlier else {}) | self._cases
        return self._header | {"cases": list(cases.values())}


_JOURNAL = "run.cases.jsonl"


def _earlier_cases(folder: Path, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if any(content[key] != header[key] for key in ("bundle", "settings")):
            return {}
        cases = list(content["cases"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}  # no record, or none of ours: everything is done again
    cases += _journal_cases(folder / _JOURNAL)
    return {case["id"]: case for case in cases if _is_case(case)}


def _journal_cases(path: Path) -> list[Any]:
    cases = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            cases.append(json.loads(line))
        except ValueError:
            break  # torn by a kill; nothing follows it
    return cases


def _is_case(case: Any) -> bool:
    """Tell whether an entry is one of ours, and names files of this folder only."""
    if not isinstance(case, dict) or not {"id", "state", "input_sha256", "output", "output_sha256"} <= case.keys():
        return False
    more = case.get("more_outputs", {})
    return isinstance(more, dict) and all(_is_file_name(name) for name in (case["id"], case["output"] or "-", *more))


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name not in {"", ".", ".."} and not {"/", "\\"} & set(name)
