"""Write data_manifests/ from the splits.json of each shared data set: cases, parts and checksums, no pixels.

python tools/studies/make_manifests.py --data ../shared/data --out data_manifests
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from medssl.core.files import sha256_file
from medssl.data.manifest import Case, Manifest, save_manifest

_LABELLED_COUNTS = ("1", "2", "4", "20")
ACDC_REPEATED = "patient074"  # voxel for voxel the test case patient076, with other labels


def hippocampus(data: Path) -> Manifest:
    """Make the manifest of the one hippocampus split: 130 training, 30 development (validation), 40 test."""
    splits = json.loads((data / "hippocampus" / "splits.json").read_text())

    def case(case_id: str) -> Case:
        image = f"imagesTr/{case_id}.nii.gz"
        return Case(
            id=case_id,
            image=(image,),
            label=f"labelsTr/{case_id}.nii.gz",
            sha256=sha256_file(data / "hippocampus" / image),
        )

    return Manifest(
        name="hippocampus",
        description="Medical Segmentation Decathlon Task04, 200 labelled cases; validation is the development part",
        licence="CC-BY-SA 4.0",
        modality="MR",
        labels={"0": "background", "1": "anterior", "2": "posterior"},
        training=tuple(case(i) for i in splits["training"]),
        validation=tuple(case(i) for i in splits["development"]),
        test=tuple(case(i) for i in splits["test"]),
    )


def brains(data: Path) -> Manifest:
    """Make the manifest of the one split of the brains: 24 training, 3 development (validation), 8 test."""
    folder = data / "brains"
    splits = json.loads((folder / "splits.json").read_text())

    def case(case_id: str) -> Case:
        (image,) = (folder / "images").glob(f"*{case_id}*")
        (label,) = (folder / "labels").glob(f"*{case_id}*")
        return Case(
            id=case_id,
            image=(str(image.relative_to(folder)),),
            label=str(label.relative_to(folder)),
            sha256=sha256_file(image),
        )

    return Manifest(
        name="brains",
        description="MICCAI 2012 multi-atlas brains at 1.5 mm, 14 structures; validation is the development part",
        licence="CC BY-NC",
        modality="MR",
        labels=json.loads((folder / "labels.json").read_text()),
        training=tuple(case(i) for i in splits["training"]),
        validation=tuple(case(i) for i in splits["development"]),
        test=tuple(case(i) for i in splits["test"]),
    )


def acdc(data: Path) -> Manifest:
    """Make the manifest of the one split of ACDC at end-diastole: 51 training, 8 validation, 20 test patients.

    One of the 52 training patients is left out, because a test patient has the same images.
    """
    folder = data / "acdc"
    splits = json.loads((folder / "splits.json").read_text())

    def case(patient: str) -> Case:
        image = min((folder / "images").glob(f"{patient}_frame*.nii.gz"))  # end-diastole is the first of the two
        label = folder / "labels" / image.name
        return Case(
            id=patient,
            image=(str(image.relative_to(folder)),),
            label=str(label.relative_to(folder)),
            sha256=sha256_file(image),
        )

    return Manifest(
        name="acdc",
        description="ACDC at end-diastole; patients are ordered by diagnosis, so the split is drawn inside the blocks; "
        f"the spacing is nominal: Dice only. {ACDC_REPEATED} is left out, its images are those of a test patient",
        licence="CC BY-NC-SA 4.0",
        modality="MR",
        labels={"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        training=tuple(case(i) for i in splits["pretraining"] if i != ACDC_REPEATED),
        validation=tuple(case(i) for i in splits["validation"]),
        test=tuple(case(i) for i in splits["test"]),
    )


def with_labels(manifest: Manifest, labelled: list[str]) -> Manifest:
    """Keep the labels of the named training cases; the others become unlabelled."""
    keep = set(labelled)
    return manifest.model_copy(
        update={
            "training": tuple(case for case in manifest.training if case.id in keep),
            "unlabeled": tuple(
                case.model_copy(update={"label": None}) for case in manifest.training if case.id not in keep
            ),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    save_manifest(options.out / "brains.json", brains(options.data))
    save_manifest(options.out / "acdc.json", acdc(options.data))
    manifest = hippocampus(options.data)
    save_manifest(options.out / "hippocampus.json", manifest)
    draws = json.loads((options.data / "hippocampus" / "splits.json").read_text())["labelled_draws"]
    for count in _LABELLED_COUNTS:
        few = with_labels(manifest, draws[count][0])
        save_manifest(options.out / f"hippocampus_labelled{count}_draw0.json", few)


if __name__ == "__main__":
    main()
