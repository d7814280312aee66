"""The viewer page of one case: its volumes with NiiVue in one file, to scroll through without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medssl.core.files import write_text
from medssl.reports.case_volumes import CaseVolumes
from medssl.reports.embedded import embed
from medssl.reports.overlays import choose_planes, class_colour, grey_window
from medssl.reports.pages import page_file, render

_LONGEST_NAME = 80


@dataclass(kw_only=True)
class ViewerFolder:
    """Where the viewer pages of a report lie.

    Attributes:
        report: The report's HTML file; the pages lie beside it, in a folder of its name with "_viewer".
        title: Heading of the report.
        cases: Ids of the cases that get a page; None: every case that is drawn.
    """

    report: Path
    title: str
    cases: Collection[str] | None = None
    _taken: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """The folder of the pages."""
        return self.report.with_name(f"{self.report.stem}_viewer")

    def wants(self, case_id: str) -> bool:
        """Tell whether this case gets a page."""
        return self.cases is None or case_id in self.cases

    def write(self, case: CaseVolumes, *, role: str, text: str) -> str:
        """Write the page of a case and return its address, relative to the report.

        Args:
            case: The volumes.
            role: Why the case is shown.
            text: Its scores in words.

        Raises:
            ResourceError: If the case is too large for a page.
            DependencyError: If jinja2 is not installed.
        """
        content = _content(case) | {"role": role, "text": text, "title": self.title}
        content["back"] = f"../{quote(self.report.name)}"
        name = self._free_name(case.id)
        write_text(self.folder / name, render("viewer.html", content))
        return f"{quote(self.folder.name)}/{quote(name)}"

    def _free_name(self, case_id: str) -> str:
        # Two evaluations may show one case, and some file systems do not tell a.html from A.html
        names = [f"{plain_name(case_id)}.html", *(f"{plain_name(case_id)}-{n}.html" for n in range(2, 1000))]
        name = next(name for name in names if name.lower() not in self._taken)
        self._taken.add(name.lower())
        return name


def plain_name(case_id: str) -> str:
    """Return a file name for a case that every system takes; a changed one carries a hash, so that it stays unique."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", case_id)[:_LONGEST_NAME]
    return plain if plain == case_id else f"{plain}-{hashlib.sha256(case_id.encode()).hexdigest()[:8]}"


def _content(case: CaseVolumes) -> dict[str, Any]:
    values = case.values()
    embedded = embed(case, values)
    black, white = grey_window(case.image, case.modality)
    # The planes of the picture in the report: where prediction and reference differ most
    planes = choose_planes(case.reference, case.prediction)
    structures = [_structure(case, order, value) for order, value in enumerate(values)]
    scripts = {"niivue": page_file("niivue.min.js"), "script": page_file("viewer.js")}
    return {
        **scripts,
        "script_hashes": [_script_hash(script) for script in scripts.values()],
        "case": case.id,
        "embedded": embedded,
        "structures": structures,
        "settings": {
            "black": black,
            "white": white,
            "shape": list(embedded.shape),
            "start": [index - first for index, first in zip(planes, embedded.first, strict=True)],
            "spacing_mm": list(case.image.spacing_mm),
            "structures": [{"name": each["name"], "colour": each["colour"]} for each in structures],
        },
    }


def _structure(case: CaseVolumes, order: int, value: int) -> dict[str, Any]:
    maps = {"predicted": case.prediction, "reference": case.reference}
    volumes = {
        f"{key}_ml": None if each is None else f"{case.volume_ml(each, value):.2f}" for key, each in maps.items()
    }
    return {"value": value, "name": case.name(value), "colour": class_colour(order), **volumes}


def _script_hash(script: str) -> str:
    """Return the hash by which the page's policy lets this script run, and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"
