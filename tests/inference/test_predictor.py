"""One case through a bundle gives what stock MONAI gives."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from inference.tiny_bundle import make_tiny_bundle, stock_label_map, write_image

from medssl.bundle.predictor import load_predictor
from medssl.core.errors import GeometryError, ResourceError
from medssl.data.grids import Grid
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.inference.memory import require_memory
from medssl.inference.predictor import Working

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([-1.2, 0.8, 1.4]), [9, -3, 4])
AFFINES = {"identity": np.eye(4), "LPS": np.diag([-1.0, -1.0, 1.0, 1.0]), "oblique": OBLIQUE}


def _label_map(bundle, paths, **options):
    with load_predictor(bundle, device="cpu", workers=2, **options) as predictor:
        return predictor.labels(predictor.score(predictor.read(paths)))


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.6, 1.1)])
def test_label_map_is_that_of_stock_monai(tmp_path, affine, spacing):
    bundle = make_tiny_bundle(tmp_path / "bundle", spacing=spacing)
    image = write_image(tmp_path / "x.nii.gz", affine=AFFINES[affine])
    ours, stock = _label_map(bundle, [image]), stock_label_map(bundle, image)
    assert len(np.unique(stock)) > 1
    assert (ours != stock).mean() < 1e-3  # rounding decides where two classes are equal


@pytest.mark.parametrize("shape", [(15, 16, 17), (16, 16, 16), (33, 20, 9)])
def test_tiles_and_padding_are_those_of_stock_monai(tmp_path, shape):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    image = write_image(tmp_path / "x.nii.gz", shape=shape)
    assert (_label_map(bundle, [image]) != stock_label_map(bundle, image)).mean() < 1e-3


def test_postprocessing_on_the_label_map_is_applied(tmp_path):
    only = {"_target_": "LabelFilterd", "keys": "pred", "applied_labels": [2]}
    bundle = make_tiny_bundle(tmp_path / "bundle", after=(only,))
    image = write_image(tmp_path / "x.nii.gz")
    ours, stock = _label_map(bundle, [image]), stock_label_map(bundle, image)
    assert ours.dtype == np.uint8
    assert set(np.unique(ours)) == {0, 2}
    assert (ours != stock).mean() < 1e-3


def test_channels_are_stacked_in_order(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle", channels=2)
    images = [write_image(tmp_path / f"{seed}.nii.gz", seed=seed) for seed in (1, 2)]
    stock = stock_label_map(bundle, [str(image) for image in images])
    assert (_label_map(bundle, images) != stock).mean() < 1e-3
    assert (_label_map(bundle, images[::-1]) != stock).mean() > 1e-2


def test_channels_on_different_grids_are_refused(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle", channels=2)
    images = [write_image(tmp_path / "1.nii.gz"), write_image(tmp_path / "2.nii.gz", affine=AFFINES["LPS"])]
    with pytest.raises(GeometryError, match="grid of 1"):
        _label_map(bundle, images)


def test_other_formats_and_integers_are_read(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    image = write_image(tmp_path / "x.nii.gz", dtype=np.int16, affine=AFFINES["oblique"])
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(image)), str(tmp_path / "x.mha"))
    assert (_label_map(bundle, [image]) != _label_map(bundle, [tmp_path / "x.mha"])).mean() < 1e-3


def test_orientation_and_spacing_are_left_out_only_when_they_change_nothing(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with load_predictor(bundle, device="cpu") as predictor:
        assert predictor.read([write_image(tmp_path / "x.nii.gz")]).steps == ()
        turned = predictor.read([write_image(tmp_path / "y.nii.gz", affine=np.diag([-1.0, 2.0, 1.0, 1.0]))])
        assert len(turned.steps) == 2


def test_probabilities_sum_to_one_and_agree_with_the_labels(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle", spacing=(0.9, 1.1, 1.2))
    with load_predictor(bundle, device="cpu") as predictor:
        case = predictor.read([write_image(tmp_path / "x.nii.gz")])
        case = predictor.score(case, keep_probabilities=True)
        probabilities, labels = predictor.probabilities(case), predictor.labels(case)
    assert probabilities.shape == (*labels.shape, 3)
    assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(-1), labels)


def _probabilities(bundle, flips, volume):
    path = bundle / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"flip_axes": flips}))
    with load_predictor(bundle, device="cpu", workers=1) as predictor:
        case = Working(volume=volume, native=Grid(shape=(18, 15, 20), affine=np.eye(4)), steps=(), place=None)
        return predictor.score(case, keep_probabilities=True).volume


@pytest.mark.parametrize(("flips", "mirrors"), [([0], [[1]]), ([0, 2], [[1], [3], [1, 3]])])
def test_mirror_images_are_averaged_as_probabilities(tmp_path, flips, mirrors):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    volume = torch.randn(1, 18, 15, 20, generator=torch.Generator().manual_seed(0))
    plain = _probabilities(bundle, [], volume)
    turned = [_probabilities(bundle, [], volume.flip(axes)).flip(axes) for axes in mirrors]
    expected = sum(turned, plain) / (1 + len(mirrors))
    torch.testing.assert_close(_probabilities(bundle, flips, volume), expected)
    assert (expected - plain).abs().max() > 1e-3


def test_the_mean_of_mirror_images_is_recorded_and_stock_monai_still_runs_the_bundle(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    image = write_image(tmp_path / "x.nii.gz", affine=AFFINES["LPS"])
    stock = stock_label_map(bundle, image)
    _probabilities(bundle, [0], torch.zeros(1, 18, 15, 20))  # writes the setting
    assert np.array_equal(stock_label_map(bundle, image), stock)
    with load_predictor(bundle, device="cpu") as predictor:
        run_batch(predictor, gather_cases([image]), tmp_path / "out")
        assert "mean over 2 mirror images" in predictor.describe()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["mirrors"] == [[0]]


def test_the_plan_needs_headers_only_and_covers_the_working_grid(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle", spacing=(0.5, 0.5, 0.5))
    image = write_image(tmp_path / "x.nii.gz", shape=(40, 40, 40))
    with load_predictor(bundle, device="cpu") as predictor:
        need = predictor.plan([image])
        working = predictor.read([image]).volume
    assert need.working >= working.nbytes
    assert predictor.plan([image], keep_probabilities=True).restore > need.restore


def test_settings_of_the_command_replace_those_of_the_bundle(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with load_predictor(bundle, device="cpu", overlap=0.25, batch_size=3, workers=2) as predictor:
        assert (predictor.tiles.overlap, predictor.tiles.batch_size, predictor.lanes) == ((0.25,) * 3, 3, 2)
        assert "overlap 0.25" in predictor.describe()
        assert json.dumps(predictor.facts.labels) == json.dumps({"0": "background", "1": "front", "2": "back"})


def test_an_absurd_spacing_is_refused_at_once(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle", spacing=(1.0, 1.0, 1.0))
    image = write_image(tmp_path / "x.nii.gz", shape=(10, 10, 10), affine=np.diag([1e9, 1e9, 1e9, 1.0]))
    with load_predictor(bundle, device="cpu") as predictor:
        need = predictor.plan([image])  # laying the tiles of 10^30 voxels would never end
    with pytest.raises(ResourceError, match="expected at most"):
        require_memory(need)
