import json

import pytest

from medssl.cli.main import run


def test_doctor_names_devices_versions_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    shown = capsys.readouterr().out
    for part in ("cores", "GiB", "device    cpu", "trains in", "torch", "extras"):
        assert part in shown


def test_doctor_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"][0]["device"] == "cpu"
