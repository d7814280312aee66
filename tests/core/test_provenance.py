"""What made a result, without what identifies a machine or a person."""

from __future__ import annotations

import platform

from medssl.core.provenance import package_versions, provenance


def test_a_result_names_its_versions_and_inputs_but_no_machine() -> None:
    record = provenance("evaluate", manifest="abc")
    assert record["command"] == "evaluate"
    assert record["inputs"] == {"manifest": "abc"}
    assert {"python", "medssl", "torch", "monai"} <= package_versions().keys()
    assert platform.node() not in str(record) or not platform.node()
