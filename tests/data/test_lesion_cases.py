"""Cases with a lesion are found by their labels."""

import numpy as np
import pytest
from faults.small_dataset import label, save

from medssl.core.errors import ImageError
from medssl.data.lesion_cases import cases_with_lesion


def test_labels_say_which_cases_have_a_lesion(tmp_path):
    paths = [save(tmp_path / "a.nii.gz", label()), save(tmp_path / "b.nii.gz", np.zeros((4, 4, 4), np.uint8))]
    assert cases_with_lesion([{"label": str(path)} for path in paths]) == [True, False]
    assert cases_with_lesion([]) == []


def test_a_label_that_cannot_be_read_names_its_case(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match="case x: expected a readable label"):
        cases_with_lesion([{"label": str(tmp_path / "a.nii.gz"), "case_id": "x"}])
