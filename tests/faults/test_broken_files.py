"""The broken files are broken in the way their name says."""

import gzip
import io
import os

import nibabel as nib
import numpy as np
import pytest
from faults.broken_files import make_broken_files, run_without_root, write_good_file


@pytest.fixture
def broken(tmp_path):
    return make_broken_files(tmp_path / "broken")


def test_there_are_twelve_faults(broken):
    assert len(broken) == 12
    assert all(os.path.lexists(path) for path in broken.values())


def test_the_good_file_is_good(tmp_path):
    image = nib.load(write_good_file(tmp_path / "good.nii.gz"))
    assert image.shape == (12, 10, 8)
    assert np.isfinite(image.get_fdata()).all()


def test_truncated_gzip_ends_early(broken):
    with pytest.raises(EOFError), gzip.open(broken["truncated"]) as stream:
        stream.read()


def test_headers_carry_the_planted_fault(broken):
    headers = {
        name: nib.Nifti1Header.from_fileobj(io.BytesIO(gzip.decompress(path.read_bytes())), check=False)
        for name, path in broken.items()
        if name in {"two_d", "four_d", "rgb", "zero_spacing", "singular_affine", "huge_header"}
    }
    assert headers["two_d"].get_data_shape() == (12, 10)
    assert headers["four_d"].get_data_shape() == (6, 5, 4, 3)
    assert headers["rgb"].get_data_dtype().names == ("R", "G", "B")
    assert headers["zero_spacing"]["pixdim"][3] == 0
    assert np.linalg.det(headers["singular_affine"].get_best_affine()) == 0
    assert np.prod(np.array(headers["huge_header"].get_data_shape(), dtype=np.int64)) == 10**12


def test_dangling_link_points_nowhere(broken):
    assert broken["dangling_link"].is_symlink()
    assert not broken["dangling_link"].exists()


def test_no_permission_is_refused_without_roots_rights(broken):
    path = broken["no_permission"]
    source = f"try:\n    open({str(path)!r}, 'rb')\nexcept PermissionError:\n    print('refused')"
    assert run_without_root(source, folder=path.parent).strip() == "refused"
