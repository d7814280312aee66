"""Going back to the native grid: equal to MONAI's Invertd, to a slow float64 reference, and slab by slab."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Invertd, Orientationd, Spacingd, SpatialPadd
from scipy.ndimage import map_coordinates

from medssl.data.grids import Grid
from medssl.inference.geometry import Resample, steps_back
from medssl.inference.restore import Decision, label_dtype, restore_labels, restore_scores

ARGMAX = Decision()
ORIENTATIONS = [
    "".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)
]


def _image(shape, affine, seed=0):
    voxels = torch.from_numpy(np.random.default_rng(seed).random((1, *shape)).astype(np.float32))
    return MetaTensor(voxels + 0.1, affine=torch.from_numpy(np.asarray(affine, dtype=np.float64)))


def _grids_through(image, transforms):
    data, grids = {"image": image}, [Grid(shape=tuple(image.shape[1:]), affine=image.affine.numpy())]
    for transform in transforms:
        data = transform(data)
        grids.append(Grid(shape=tuple(data["image"].shape[1:]), affine=data["image"].affine.numpy()))
    return data, grids


def _compare_with_stock(image, transforms, classes=4):
    """Return the label map of ours and that of Invertd with argmax, after comparing the scores."""
    data, grids = _grids_through(image, transforms)
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand((classes, *data["image"].shape[1:]), generator=generator).softmax(0)
    ours = restore_labels(scores, steps=steps_back(grids), decision=ARGMAX, slab_bytes=1 << 12)
    data["pred"] = MetaTensor(scores.clone())
    inverted = Invertd(keys="pred", transform=Compose(transforms), orig_keys="image", nearest_interp=False)(data)[
        "pred"
    ]
    inverted = torch.as_tensor(np.asarray(inverted))
    probabilities = restore_scores(scores, steps=steps_back(grids))
    torch.testing.assert_close(probabilities, inverted, atol=1e-5, rtol=1e-4)
    return ours, inverted.argmax(0)


def _oblique(seed, *, scale=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.asarray(scale)
    affine[:3, 3] = rng.normal(size=3) * 50
    return affine


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_orientation_comes_back_as_with_stock_invertd(code):
    axes = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(code))
    )
    affine = np.diag([1.0, 1.5, 2.0, 1.0]) @ nib.orientations.inv_ornt_aff(axes, (6, 7, 8))
    ours, stock = _compare_with_stock(
        _image((6, 7, 8), affine), [Orientationd(keys="image", axcodes="RAS", labels=None)]
    )
    assert torch.equal(ours.long(), stock)


@pytest.mark.parametrize("seed", range(6))
def test_resampled_oblique_volumes_come_back_as_with_stock_invertd(seed):
    transforms = [
        Orientationd(keys="image", axcodes="RAS", labels=None),
        Spacingd(keys="image", pixdim=(1.3, 0.8, 1.1), mode="bilinear"),
    ]
    image = _image((11, 9, 14), _oblique(seed, scale=(0.7, 1.9, 1.2)), seed)
    ours, stock = _compare_with_stock(image, transforms)
    # Labels may differ only where two classes are equal to the last bits of float32
    assert (ours.long() != stock).float().mean() < 1e-3


def test_cropped_and_padded_volumes_come_back_as_with_stock_invertd():
    image = _image((12, 10, 11), np.diag([-1.0, 1.0, 2.0, 1.0]))
    image[:, :3] = 0
    image[:, :, :, 8:] = 0
    transforms = [
        Orientationd(keys="image", axcodes="RAS", labels=None),
        CropForegroundd(keys="image", source_key="image", allow_smaller=True),
        Spacingd(keys="image", pixdim=(1.5, 1.5, 1.5), mode="bilinear"),
        SpatialPadd(keys="image", spatial_size=(16, 4, 16)),
    ]
    ours, stock = _compare_with_stock(image, transforms)
    assert ours.shape == (12, 10, 11)
    assert (ours.long() != stock).float().mean() < 1e-3
    assert not ours[:3].any()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("separable", [True, False])
def test_slabs_equal_the_argmax_of_the_whole_volume_in_float64(seed, separable):
    rng = np.random.default_rng(seed)
    scores = rng.random((7, 9, 8, 10)).astype(np.float32)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(rng.uniform(0.4, 1.6, 3)) if separable else np.eye(3) + rng.normal(size=(3, 3)) * 0.2
    matrix[:3, :3] = matrix[rng.permutation(3), :3]
    matrix[:3, 3] = rng.uniform(-1, 2, 3)
    shape = tuple(int(side) for side in rng.integers(5, 16, 3))
    labels = restore_labels(
        torch.from_numpy(scores), steps=[Resample(matrix=matrix, shape=shape)], decision=ARGMAX, slab_bytes=4000
    )
    assert np.array_equal(labels.numpy(), _slow_labels(scores.astype(np.float64), matrix, shape))


def _slow_labels(scores, matrix, shape):
    target = np.stack(np.meshgrid(*[np.arange(side) for side in shape], indexing="ij"), -1)
    position = np.moveaxis(target @ matrix[:3, :3].T + matrix[:3, 3], -1, 0)
    return np.stack([map_coordinates(channel, position, order=1, mode="nearest") for channel in scores]).argmax(0)


def test_peak_memory_is_a_slab_whatever_the_number_of_classes(monkeypatch):
    from medssl.inference import restore

    largest = []
    original = restore._decide
    monkeypatch.setattr(restore, "_decide", lambda slab, rule: (largest.append(slab.nbytes), original(slab, rule))[1])
    step = Resample(matrix=np.diag([0.1, 0.1, 0.1, 1.0]), shape=(40, 30, 20))
    restore_labels(torch.rand(30, 4, 3, 2), steps=[step], decision=ARGMAX, slab_bytes=200_000)
    assert max(largest) <= 200_000
    assert sum(largest) == 30 * 40 * 30 * 20 * 4


def test_label_type_is_the_narrowest():
    assert label_dtype(256) is torch.uint8
    assert label_dtype(257) is torch.int16
    labels = restore_labels(torch.eye(300)[:, :, None, None].contiguous(), steps=(), decision=ARGMAX)
    assert labels.dtype is torch.int16
    assert torch.equal(labels[:, 0, 0], torch.arange(300, dtype=torch.int16))


def test_threshold_makes_two_labels():
    labels = restore_labels(torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1), steps=(), decision=Decision(threshold=0.5))
    assert labels.flatten().tolist() == [0, 1, 1]


def test_ties_go_to_the_first_class():
    assert not restore_labels(torch.ones(5, 2, 2, 2), steps=(), decision=ARGMAX).any()
