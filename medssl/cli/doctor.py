"""`medssl doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import json
from typing import Annotated

import typer

_GIB = 2**30


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> int:
    """Tell machine, GPUs, measured mixed precision, memory, versions and extras; measures for a few seconds."""
    from medssl.core import exit_codes
    from medssl.training.machine import examine_machine, machine_findings

    machine = examine_machine()
    findings = machine_findings(machine)
    if as_json:
        content = {**machine.to_json(), "findings": [finding.to_json() for finding in findings]}
        typer.echo(json.dumps(content, indent=4))
        return exit_codes.OK
    typer.echo(f"system    {machine.system}")
    typer.echo(f"cores     {machine.cores}, torch uses {machine.threads} threads")
    typer.echo(f"memory    {machine.memory_bytes / _GIB:.1f} GiB")
    for device in machine.devices:
        typer.echo(
            f"device    {device.device} ({device.name}), {device.memory_bytes / _GIB:.1f} GiB: "
            f"trains in {device.chosen}; bfloat16 {_speed(device.bfloat16_speedup)}"
        )
    typer.echo(f"versions  {', '.join(f'{name} {version}' for name, version in machine.versions.items())}")
    complete = [name for name, missing in machine.extras.items() if not missing]
    typer.echo(f"extras    {', '.join(complete) or 'none'}")
    for finding in findings:
        typer.echo(f"{finding.severity}: {finding.text}\n    {finding.fix}")
    return exit_codes.OK


def _speed(speedup: float | None) -> str:
    return "does not run" if speedup is None else f"is {speedup:.2g} times as fast as float32 in one convolution"
