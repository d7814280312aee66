"""A bundle small enough for tests: stock MONAI classes, random weights, a few thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

LABELS = {"0": "background", "1": "front", "2": "back"}


def make_tiny_bundle(
    folder: Path,
    *,
    spacing=(1.0, 1.0, 1.0),
    roi=(16, 16, 16),
    classes: int = 3,
    after: tuple = (),
    channels: int = 1,
    network=None,
) -> Path:
    """Write a bundle whose inference.json has the shape of the shipped ones."""
    import torch
    from monai.bundle import ConfigParser

    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = inference_config(spacing=spacing, roi=roi, classes=classes, after=after, channels=channels)
    config |= {"network_def": network} if network else {}
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    labels = {str(value): LABELS.get(str(value), f"label {value}") for value in range(classes)}
    outputs = {"pred": {"num_channels": classes, "channel_def": labels}}
    metadata = {"name": "tiny", "version": "0.1.0", "network_data_format": {"inputs": {}, "outputs": outputs}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    torch.manual_seed(0)
    network = ConfigParser(config=dict(config)).get_parsed_content("network_def")
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def tiny_views() -> dict:
    """Return the `network_def` of three small views with dropout."""
    part = {"_target_": "medssl.networks.SplitSegResNet", "_mode_": "callable"}
    part |= {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}
    return {"_target_": "medssl.networks.MultiViewNet", "in_channels": 1, "out_channels": 3, "network": part}


def inference_config(*, spacing, roi, classes: int, after: tuple, channels: int) -> dict:
    norm = ["instance", {"affine": True}]
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "device": "$torch.device('cpu')",
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": channels,
            "out_channels": classes,
            "channels": [4, 8],
            "strides": [2],
            "num_res_units": 1,
            "norm": norm,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
                {"_target_": "Spacingd", "keys": "image", "pixdim": list(spacing), "mode": "bilinear"},
                {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(roi),
            "sw_batch_size": 2,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                *after,
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_postfix": "seg",
                    "separate_folder": False,
                },
            ],
        },
    }


def stock_label_map(bundle: Path, image: Path | list[str]) -> np.ndarray:
    """Run one case as `python -m monai.bundle run` would, and return the label map before it is saved."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    data = parser.get_parsed_content("preprocessing")({"image": image if isinstance(image, list) else str(image)})
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    for transform in parser.get_parsed_content("postprocessing").transforms[:-1]:
        data = transform(data)
    return data["pred"][0].numpy()


def write_image(path: Path, *, shape=(18, 15, 20), affine=None, seed: int = 0, dtype=np.float32) -> Path:
    """Write a smooth random image, so that a random network gives label maps with structure."""
    from scipy.ndimage import gaussian_filter

    voxels = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5) * 300 + 500
    nib.save(nib.Nifti1Image(voxels.astype(dtype), np.eye(4) if affine is None else affine), path)
    return path
