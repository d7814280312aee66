"""A manifest of the 2D images in a folder, so that they are reduced as volumes are."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

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
    files = sorted((path for path in folder.rglob("*") if _is_image(path, folder)), key=_natural)
    if not files:
        message = f"{folder}: expected images ({', '.join(IMAGE_SUFFIXES)}) or a manifest, found none."
        raise ConfigError(message, fix="Name a folder of 2D images, or make a manifest with medssl import.")
    cases = []
    for file in files:
        path = file.relative_to(folder)
        patient = None if path.parent == Path() else path.parent.as_posix()
        try:
            cases.append(Case(id="--".join(path.parts), image=(path.as_posix(),), patient=patient))
        except ValidationError as error:
            message = f"{file}: expected a name that can be the id of a case, found {error.errors()[0]['msg']}."
            raise ConfigError(message, fix="Rename the file, or take it out of the folder.") from error
    name = folder.resolve().name or "images"
    try:
        return Manifest(name=name, modality=modality, labels={"0": "background"}, unlabeled=tuple(cases))
    except ValidationError as error:
        message = f"{folder}: expected names that differ, found: {error.errors()[0]['msg']}."
        raise ConfigError(message, fix="Rename the files that are named there.") from error


def _is_image(path: Path, folder: Path) -> bool:
    """Tell images from what systems leave beside them, such as ._slice.png."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


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
