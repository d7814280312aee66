"""From what a user names (files, folders, patterns, a manifest) to the cases of one run."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.core.errors import ConfigError
from medssl.data.manifest import PARTS, Case, load_manifest, resolve_image

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
# What may follow the id in the name of an output; maps of uncertainty are in no one's way
_ENDINGS = ("", "_probabilities", "_lesion_probability", "_detection_map")


@dataclass(frozen=True, kw_only=True)
class ImageCase:
    """One case of a run.

    Attributes:
        id: Names the outputs; unique in a run, also on file systems that ignore case.
        paths: Image files, one for each channel.
        names: How the run record calls them: relative to the folder the user gave, or bare names.
    """

    id: str
    paths: tuple[Path, ...]
    names: tuple[str, ...]


def gather_cases(
    inputs: Sequence[str | Path],
    *,
    part: str | None = None,
    data_root: Path | None = None,
    outside: Path | None = None,
    suffixes: tuple[str, ...] = SUFFIXES,
) -> list[ImageCase]:
    """Return the cases behind the inputs, in the order given, folders sorted.

    Args:
        inputs: Image files, folders (searched through), patterns such as "scans/*.nii.gz", or manifests (.json).
        part: Only this part of the manifests.
        data_root: Folder that manifest paths start from; by default the manifest's own.
        outside: Folder whose files are no inputs, because the run writes there.
        suffixes: Of the image files in folders and patterns.

    Raises:
        ConfigError: If an input names nothing, or two cases would write the same output.
        ManifestError: If a manifest is not valid.
    """
    if part is not None and part not in PARTS:
        message = f"--part: expected one of {', '.join(PARTS)}, found {part!r}."
        raise ConfigError(message)
    listed: list[ImageCase] = []
    files: dict[Path, str] = {}
    for given in inputs:
        if str(given).lower().endswith(".json"):
            listed += _manifest_cases(Path(given), part, data_root)
        else:
            for path, name in _image_files(given, outside, suffixes):
                files.setdefault(path, name)
    cases = listed + [
        ImageCase(id=case_id, paths=(path,), names=(files[path],)) for path, case_id in _file_ids(list(files)).items()
    ]
    _refuse_equal_outputs(cases)
    return cases


def _manifest_cases(path: Path, part: str | None, data_root: Path | None) -> list[ImageCase]:
    manifest = load_manifest(path)
    root = path.parent if data_root is None else data_root
    return image_cases((case for found, case in manifest.cases() if part in (None, found)), root)


def image_cases(cases: Iterable[Case], root: Path) -> list[ImageCase]:
    """Return the images of a manifest's cases, whose paths start from `root`."""
    return [ImageCase(id=case.id, paths=resolve_image(root, case), names=case.image) for case in cases]


def _image_files(given: str | Path, outside: Path | None, suffixes: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Yield (absolute path, name in the record)."""
    path = Path(given)
    if path.is_dir():
        found = [
            (child, child.relative_to(path).as_posix())
            for child in sorted(path.rglob("*"))
            if _is_image(child, suffixes)
        ]
        if outside is not None:
            found = [(child, name) for child, name in found if not _absolute(child).is_relative_to(_absolute(outside))]
    elif glob.has_magic(str(given)) and not path.exists():
        children = [Path(name) for name in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207  (patterns may be absolute)
        found = [(child, child.name) for child in children if _is_image(child, suffixes)]
    else:
        # A single file is taken as it is: if it is missing or no image, the case says so and the others go on.
        found = [(path, path.name)]
    if not found:
        message = (
            f"input {str(given)!r}: expected image files ({', '.join(suffixes)}), found none. "
            "Check the path; DICOM folders are converted first with: medssl import FOLDER"
        )
        raise ConfigError(message)
    for child, name in found:
        yield _absolute(child), name


def _is_image(path: Path, suffixes: tuple[str, ...]) -> bool:
    # a link that leads nowhere is no file, but it is an input that the user must hear about
    return (
        path.name.lower().endswith(suffixes)
        and not path.name.startswith(".")
        and (path.is_symlink() or not path.is_dir())
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow links)


def _stem(path: Path) -> str:
    name = path.name
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), path.suffix)
    return name[: len(name) - len(suffix)] or name


def _file_ids(paths: Sequence[Path]) -> dict[Path, str]:
    """Name each file by its stem; files with equal stems get the folders below their common one in front."""
    by_stem = defaultdict(list)
    for path in paths:
        by_stem[_stem(path).casefold()].append(path)
    ids = {}
    for path in paths:
        twins = by_stem[_stem(path).casefold()]
        folders: tuple[str, ...] = ()
        if len(twins) > 1:
            common = Path(os.path.commonpath([twin.parent for twin in twins]))
            folders = path.parent.relative_to(common).parts
        ids[path] = "__".join((*folders, _stem(path)))
    return ids


def _refuse_equal_outputs(cases: Sequence[ImageCase]) -> None:
    owners: dict[str, ImageCase] = {}
    for case in cases:
        for output in (f"{case.id}{ending}" for ending in _ENDINGS):
            other = owners.setdefault(output.casefold(), case)
            if other is not case:
                message = (
                    f"cases {other.id!r} ({other.names[0]}) and {case.id!r} ({case.names[0]}) would write the same "
                    f"output {output}.nii.gz. Rename one of them, or run them into different folders."
                )
                raise ConfigError(message)


def refuse_to_overwrite(cases: Sequence[ImageCase], out: Path, *, replace: bool = False) -> None:
    """Refuse outputs in the place of files that no run wrote: the images themselves, or label maps of a person.

    A run writes run.json before its first label map, so what lies in a folder without one is not ours.

    Args:
        cases: From `gather_cases`.
        out: Output folder.
        replace: Whether what lies there may be replaced; images of the run never are.

    Raises:
        ConfigError: If an output exists and is an image of this run, or not known to be ours.
    """
    images = {_identity(path) for case in cases for path in case.paths} - {None}
    ours = replace or (out / "run.json").is_file()
    for case in cases:
        for target in (out / f"{case.id}{ending}.nii.gz" for ending in _ENDINGS):
            identity = _identity(target)
            if identity is not None and (identity in images or not ours):
                found = "an image of this run" if identity in images else "a file that no run.json there speaks of"
                message = f"--out {out}: {target.name} would take the place of {found}. Choose a new folder."
                raise ConfigError(message)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what is equal for two names of one file, or None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return status.st_dev, status.st_ino
