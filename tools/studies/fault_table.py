"""Plant each fault before each command that meets it and write down what came of it.

python tools/studies/fault_table.py docs/results

Everything is synthetic and small. The faults are those of tests/faults, where each of them is a test.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from medssl.core import exit_codes
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from faults import hospital
from faults.broken_files import ordinary_user
from faults.full_disk import NoSmallDiskError, fill, half_files, small_disk
from faults.trials import Trial, all_trials, markers

_COMMANDS_ON_A_FULL_DISK = {
    "infer": hospital.infer,
    "evaluate": hospital.evaluate,
    "report": hospital.report,
    "train": hospital.train,
}


def result_of(trial: Trial, sound: Path, folder: Path) -> dict[str, Any]:
    """Run one trial in a copy of the sound hospital."""
    shutil.copytree(sound, folder)
    begin = time.monotonic()
    try:
        trial.plant(folder)
        with ordinary_user(folder) if trial.needs_an_ordinary_user else nullcontext():
            outcome = trial.act(folder)
        held = outcome.exit_code in trial.allowed and (bool(outcome.codes) or trial.silent)
        held = held and "unexpected" not in outcome.codes and not list(folder.rglob(".tmp-*"))
        held = held and all((folder / name).is_file() for name in trial.survives)
        shown = str(outcome)
    except Exception as error:  # what this study looks for
        held, shown = False, f"CRASH {type(error).__name__}: {error}"
    return {
        "fault": trial.fault.replace("_", " "),
        "command": trial.command,
        "outcome": shown,
        "as_it_should_be": held,
        "foreign_code_ran": bool(markers(folder)),
        "seconds": round(time.monotonic() - begin, 2),
    }


def full_disk(sound: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Let a disk be full when a command writes: at once, and after the first 8 KiB."""
    for leave in (0, 8192):
        for command, act in _COMMANDS_ON_A_FULL_DISK.items():
            with small_disk(folder) as disk:
                shutil.copytree(sound, disk / "hospital")
                # Otherwise there is nothing for it to write
                if command == "infer":
                    shutil.rmtree(disk / "hospital" / "predictions")
                fill(disk, leave=leave)
                begin = time.monotonic()
                outcome = act(disk / "hospital")
                fitted = leave > 0 and outcome.exit_code == exit_codes.OK
                yield {
                    "fault": f"disk with room for {leave} bytes",
                    "command": command,
                    "outcome": str(outcome),
                    "as_it_should_be": ("disk-full" in str(outcome) or fitted) and half_files(disk / "hospital") == [],
                    "foreign_code_ran": False,
                    "seconds": round(time.monotonic() - begin, 2),
                }


def run_all(scratch: Path) -> tuple[list[dict[str, Any]], str]:
    """Run every trial; return the results and what could not be tried."""
    sound = hospital.make_hospital(scratch / "sound")
    results = []
    for number, trial in enumerate(all_trials()):
        results.append(result_of(trial, sound, scratch / f"{number}" / "hospital"))
        shutil.rmtree(scratch / f"{number}")
        print(f"{results[-1]['fault']} | {results[-1]['command']}: {results[-1]['outcome']}", flush=True)
    try:
        results += full_disk(sound, scratch / "disk")
    except NoSmallDiskError as error:
        return results, f"Full disks were not tried: this needs the right to mount ({error})."
    return results, "Full disks: a memory disk of 8 MiB, filled up."


def page(results: list[dict[str, Any]], note: str) -> str:
    rows = "\n".join(
        f"| {each['fault']} | {each['command']} | {each['outcome'].replace('|', '/')} |"
        f" {'yes' if each['as_it_should_be'] else 'NO'} |"
        for each in results
    )
    wrong = sum(not each["as_it_should_be"] for each in results)
    ran = sum(each["foreign_code_ran"] for each in results)
    return f"""# Faults against commands

    python tools/studies/fault_table.py docs/results

{len(results)} trials, {wrong} of them not as they should be; foreign code ran in {ran}. Slowest: \
{max(each["seconds"] for each in results):.0f} s. {note}

Each fault is planted in one case (or file) of a small synthetic data set; the other cases are sound and must come
through. Exit codes: 0 done, 1 refused, 2 nothing done, 3 done but for the cases named. "No finding, exit 0" is right
where a command does not need the damaged file: `infer` computes everything again when its record is unreadable,
`bundle info` only reads, and the loader leaves NaN to the guard of training (`train` itself refuses the case before).
"No picture" is a line of the report's findings. "Train loader", "resume" and "finetune (weights)" call the function
that the command calls; everything else is the command.

| fault | command | outcome | as it should be |
|---|---|---|---|
{rows}
"""


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results, note = run_all(Path(folder))
    write_json(out / "faults.json", {"medssl": provenance("fault_table"), "note": note, "trials": results})
    write_text(out / "faults.md", page(results, note))


if __name__ == "__main__":
    main()
