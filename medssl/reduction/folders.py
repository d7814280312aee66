"""A manifest of the 2D images in a folder, so that they are reduced as volumes are."""

from __future__ import annotations

from pathlib import Path

from medssl.core.errors import ConfigError
from medssl.data.images import IMAGE_SUFFIXES
from medssl.data.manifest import Case, Manifest


def manifest_of_images(folder: Path, *, modality: str) -> Manifest:
    """List the 2D images below a folder as unlabelled cases, sorted so that slice 2 comes before slice 10.

    The id of a case is its path with "--" between the folders; the folder it lies in stands for the patient, except
    for images that lie in `folder` itself.

    Args:
        folder: Holds .png, .jpg, .bmp or .tif files, in subfolders too.
        modality: Such as "CT" or "X-ray".

    Raises:
        ConfigError: If there are none.
    """
    files = sorted((p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()), key=_natural)
    if not files:
        message = f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}) or a manifest, found none."
        raise ConfigError(message, fix="Name a folder of 2D images, or make a manifest with medssl import.")
    cases = []
    for file in files:
        path = file.relative_to(folder)
        patient = None if path.parent == Path() else path.parent.as_posix()
        cases.append(Case(id="--".join(path.parts), image=(path.as_posix(),), patient=patient))
    name = folder.resolve().name or "images"
    return Manifest(name=name, modality=modality, labels={"0": "background"}, unlabeled=tuple(cases))


def _natural(path: Path) -> list[tuple[tuple[int, int, str], ...]]:
    """Sort numbers in names by value."""
    return [tuple(_words(part)) for part in path.parts]


def _words(name: str) -> list[tuple[int, int, str]]:
    words: list[tuple[int, int, str]] = []
    digits = ""
    for letter in [*name, ""]:
        if letter.isdecimal() and letter.isascii():
            digits += letter
            continue
        if digits:
            words.append((0, int(digits), digits))
            digits = ""
        words.append((1, 0, letter))
    return words
