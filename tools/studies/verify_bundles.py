"""Run every check on every shipped bundle and write docs/results/bundle_checks.md and .json.

.venv/bin/python tools/studies/verify_bundles.py
"""

from __future__ import annotations

import time
from pathlib import Path

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.verify import FULL, Verification, verify_bundle
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
HEAD = """# Checks of the shipped bundles

Made by `.venv/bin/python tools/studies/verify_bundles.py`, which runs the checks of `medssl bundle verify --full` one
by one. They need no data: training, interruption and evaluation run on phantoms made by code (synthetic). Seconds are
those of one run on two cores and tell the order of size only.

"""


def main() -> None:
    results = {name: verified(folder) for name, folder in shipped_bundles().items()}
    write_json(RESULTS / "bundle_checks.json", {**provenance("bundle verify --full"), "bundles": results})
    names = list(results)
    lines = [f"| check | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for number, (code, title, _) in enumerate(FULL):
        cells = [results[name][number] for name in names]
        shown = [f"{cell['outcome']} ({cell['seconds']:.1f} s)" for cell in cells]
        lines.append(f"| {code} {title} | {' | '.join(shown)} |")
    write_text(RESULTS / "bundle_checks.md", HEAD + "\n".join(lines) + "\n")
    print("\n".join(lines))


def verified(folder: Path) -> list[dict]:
    rows = []
    for check in FULL:
        begin = time.monotonic()
        result = verify_bundle(folder, checks=(check,))
        row = {"code": check[0], "title": check[1], "outcome": outcome(result)}
        row |= {"seconds": round(time.monotonic() - begin, 1)}
        rows.append({**row, "findings": [each.to_json() for each in result.findings]})
    return rows


def outcome(result: Verification) -> str:
    if not result.passed:
        return "failed"
    return f"passed, {len(result.findings)} warnings" if result.findings else "passed"


if __name__ == "__main__":
    main()
