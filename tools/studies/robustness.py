"""Two trials of `medssl infer` on real volumes: killed half-way and started again; twelve broken files among good ones.

python tools/studies/robustness.py hippocampus_mri_supervised DATA/hippocampus/imagesTr docs/results
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medssl.cli.main import run
from medssl.core.files import sha256_file, write_json, write_text
from medssl.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from faults.broken_files import make_broken_files

_NOBODY = 65534
_GOOD = 20


def command(bundle: str, *inputs: Path, out: Path) -> list[str]:
    medssl = str(Path(sys.executable).with_name("medssl"))
    return [medssl, "infer", bundle, *map(str, inputs), "--out", str(out)]


def outputs(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*.nii.gz")) if not path.name.startswith(".")}


def states(folder: Path) -> dict[str, int]:
    cases = json.loads((folder / "run.json").read_text())["cases"]
    return {state: sum(case["state"] == state for case in cases) for state in ("done", "skipped", "failed")}


def killed_half_way(bundle: str, images: Path, scratch: Path) -> dict[str, Any]:
    """Kill a run when half of its outputs are there, start it again, compare with an undisturbed run."""
    undisturbed, disturbed = scratch / "undisturbed", scratch / "disturbed"
    subprocess.run(command(bundle, images, out=undisturbed), check=True, capture_output=True)
    expected = outputs(undisturbed)
    process = subprocess.Popen(
        command(bundle, images, out=disturbed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(outputs(disturbed)) < len(expected) // 2:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    after_kill = outputs(disturbed)
    leftovers = len(list(disturbed.glob(".tmp-*")))
    second = subprocess.run(command(bundle, images, out=disturbed), capture_output=True, text=True)
    return {
        "cases": len(expected),
        "final_files_after_the_kill": len(after_kill),
        "of_these_different_from_undisturbed": sum(expected[name] != digest for name, digest in after_kill.items()),
        "leftovers_after_the_kill": leftovers,
        "second_run": states(disturbed),
        "second_run_exit_code": second.returncode,
        "leftovers_at_the_end": len(list(disturbed.glob(".tmp-*"))),
        "equal_to_undisturbed": outputs(disturbed) == expected,
    }


@contextmanager
def without_root() -> Iterator[None]:
    """Give up root's rights for a while: root reads files of mode 000."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def broken_among_good(bundle: str, images: Path, scratch: Path) -> dict[str, Any]:
    """Run twelve broken files and twenty real volumes in one batch, as a user without rights on one of them."""
    mixed, out = scratch / "mixed", scratch / "mixed_out"
    make_broken_files(mixed)
    for path in sorted(images.glob("*.nii.gz"))[:_GOOD]:
        (mixed / path.name).write_bytes(path.read_bytes())
    for folder in (scratch, mixed):
        folder.chmod(0o777)
    # Once as the user who starts this, so that everything is imported: the other may not read the installation
    run(command(bundle, sorted(images.glob("*.nii.gz"))[0], out=scratch / "first")[1:])
    with without_root():
        exit_code = run(command(bundle, mixed, out=out)[1:])
    record = json.loads((out / "run.json").read_text())
    findings = {case["id"]: case["finding"] for case in record["cases"] if case["finding"]}
    return {
        "good": _GOOD,
        "broken": 12,
        "results": len(outputs(out)),
        "exit_code": exit_code,
        "peak_memory_mib": round(record["peak_memory_bytes"] / 2**20),
        "findings": {name: {"code": each["code"], "text": each["text"]} for name, each in sorted(findings.items())},
    }


def page(kill: dict[str, Any], broken: dict[str, Any], arguments: list[str]) -> str:
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in kill.items())
    faults = "\n".join(f"| {name} | {each['code']} | {each['text']} |" for name, each in broken["findings"].items())
    return f"""# Robustness of batch inference

    python tools/studies/robustness.py {" ".join(arguments)}

## Killed with SIGKILL half-way, then started again

| | |
|---|---|
{rows}

## Twelve broken files among {broken["good"]} real volumes, as a user who may not read one of them

{broken["results"]} results, {len(broken["findings"])} findings, exit code {broken["exit_code"]},
peak memory {broken["peak_memory_mib"]} MiB (most of it libraries).

| file | code | finding |
|---|---|---|
{faults}
"""


def main() -> None:
    bundle, images, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory() as folder:
        kill = killed_half_way(bundle, images, Path(folder))
        broken = broken_among_good(bundle, images, Path(folder))
    shown = [bundle, "DATA/hippocampus/imagesTr", "docs/results"]
    record = provenance("robustness", bundle=bundle)
    write_json(out / "robustness.json", {"medssl": record, "killed_half_way": kill, "broken_among_good": broken})
    write_text(out / "robustness.md", page(kill, broken, shown))


if __name__ == "__main__":
    main()
