"""Paired differences of any two arms of a study, from its study.json.

    python tools/studies/contrasts.py docs/results/acdc_pretraining.json gd-gr gd_lr-gd

Not corrected for multiplicity; the table of the study itself is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medssl.studies.summary import Estimate, contrast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("pairs", nargs="+", help="ARM-ARM")
    options = parser.parse_args()
    file = options.study / "study.json" if options.study.is_dir() else options.study
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    arms = {run["arm"] for run in runs}
    counts = sorted({run["labelled"] for run in runs})
    print("| difference |" + "".join(f" {count} labelled |" for count in counts))
    print("|---" * (len(counts) + 1) + "|")
    for pair in options.pairs:
        arm, _, against = pair.partition("-")
        if unknown := {arm, against} - arms:
            raise SystemExit(f"{pair}: no arm {', '.join(sorted(unknown))}; there are {', '.join(sorted(arms))}.")
        cells = [_shown(contrast(runs, arm, against, count)) for count in counts]
        print(f"| {arm} - {against} | " + " | ".join(cells) + " |")


def _shown(found: Estimate | None) -> str:
    if found is None:
        return ""
    bounds = "" if found.low is None or found.high is None else f" [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.mean:+.3f}{bounds}"


if __name__ == "__main__":
    main()
