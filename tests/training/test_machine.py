import dataclasses
import json

import pytest
import torch

from medssl.training.machine import Machine, examine_machine, gradient_error, machine_findings


@pytest.fixture(scope="module")
def machine() -> Machine:
    return examine_machine()


def test_every_device_is_measured_and_the_cpu_comes_first(machine: Machine) -> None:
    assert machine.devices[0].device == "cpu"
    assert len(machine.devices) == 1 + torch.cuda.device_count()
    assert machine.devices[0].bfloat16_speedup > 0
    json.dumps(machine.to_json())


def test_gradients_on_maps_that_are_long_enough_are_right() -> None:
    assert gradient_error(torch.device("cpu"), depth=8) < 0.1


def test_wrong_gradients_are_told(machine: Machine) -> None:
    cpu = dataclasses.replace(machine.devices[0], gradient_error=float("inf"))
    broken = dataclasses.replace(machine, devices=(cpu,))
    assert "bfloat16-gradients" in {finding.code for finding in machine_findings(broken)}


def test_missing_extra_comes_with_its_command(machine: Machine) -> None:
    lacking = dataclasses.replace(machine, extras={"export": ("onnx",)})
    (found,) = [each for each in machine_findings(lacking) if each.code == "extra-missing"]
    assert 'pip install "medssl[export]"' in found.fix


def test_little_memory_is_a_warning(machine: Machine) -> None:
    cpu = dataclasses.replace(machine.devices[0], memory_bytes=2**30)
    codes = {each.code for each in machine_findings(dataclasses.replace(machine, devices=(cpu,)))}
    assert "memory" in codes
