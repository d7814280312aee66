"""A data set as a study sees it: its manifest and links to its volumes in one folder, so that all are called alike."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.data.manifest import load_manifest, save_manifest

# In so few steps only large structures are learnt; the 14 of brains are merged
MERGED = {
    "deep grey matter": (1, 2, 3, 4, 5, 6, 7, 8),
    "brain stem and cerebellum": (9, 12),
    "ventricles": (10, 11),
    "cerebral white matter": (13,),
    "cerebral cortex": (14,),
}


def working_copy(dataset: str, data: Path, out: Path) -> None:
    """Put images, labels and manifest of hippocampus, acdc or brains into a folder; structures of brains are merged."""
    source, root = Path("data_manifests") / f"{dataset}.json", (data / dataset).resolve()
    if dataset == "brains":
        merge_labels(source, root, out)
    else:
        manifest = load_manifest(source)
        files = (file for _, case in manifest.cases() for file in (*case.image, case.label) if file)
        _link(out, root, *sorted({Path(file).parts[0] for file in files}))
        save_manifest(out / "manifest.json", manifest)


def merge_labels(source: Path, root: Path, out: Path) -> tuple[Path, Path]:
    """Write label maps of merged structures and their manifest; return manifest and root."""
    manifest = load_manifest(source)
    table = np.zeros(256, np.uint8)
    for value, structures in enumerate(MERGED.values(), 1):
        table[list(structures)] = value
    _link(out, root, "images")
    for _, case in manifest.cases():
        if not (out / case.label).is_file():
            label = nib.load(root / case.label)
            (out / case.label).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(table[np.asarray(label.dataobj).astype(np.uint8)], label.affine), out / case.label)
    labels = {"0": "background", **{str(value): name for value, name in enumerate(MERGED, 1)}}
    save_manifest(out / "manifest.json", manifest.model_copy(update={"labels": labels}))
    return out / "manifest.json", out


def _link(out: Path, root: Path, *folders: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        if not (out / folder).is_symlink():
            (out / folder).symlink_to(root / folder, target_is_directory=True)
