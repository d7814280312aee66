"""Export every shipped bundle to every form and write docs/results/export.md and .json.

.venv/bin/python tools/studies/export_differences.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.export import FORMS, TOLERANCE, ExportError, export_bundle
from medssl.core.errors import CheckpointError
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HEAD = f"""# Exported forms against eager

Made by `.venv/bin/python tools/studies/export_differences.py`: every shipped bundle through `medssl export`, compared
with the network on random images (seed 0): a batch of two patches, and with an open shape also one image of twice the
size. A form is written only if the largest difference stays below {TOLERANCE:g} of the largest logit.

| bundle | form | by | shape | largest difference | largest logit | size in MB |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    rows, lines = [], []
    for name, folder in shipped_bundles().items():
        for form in FORMS:
            for open_shape in (False, True):
                row = exported(folder, form, open_shape=open_shape)
                rows.append({"bundle": name, **row})
                lines.append(line(name, form, open_shape, row))
                print(lines[-1])
    write_json(RESULTS / "export.json", {**provenance("export"), "exports": rows})
    write_text(RESULTS / "export.md", HEAD + "\n".join(lines) + "\n")


def exported(folder: Path, form: str, *, open_shape: bool) -> dict:
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "model"
        try:
            record = export_bundle(folder, to=form, out=out, open_shape=open_shape).to_json()
        except (ExportError, CheckpointError) as error:
            return {"form": form, "open_shape": open_shape, "refused": str(error)}
        return {**record, "bytes": out.stat().st_size}


def line(name: str, form: str, open_shape: bool, row: dict) -> str:
    shape = "open" if open_shape else "fixed"
    if "refused" in row:
        return f"| {name} | {form} | | {shape} | {row['refused']} | | |"
    figures = f"{row['difference']:.2g} | {row['largest_logit']:.3g} | {row['bytes'] / 1e6:.1f}"
    return f"| {name} | {form} | {row['method']} | {shape} | {figures} |"


if __name__ == "__main__":
    main()
