"""The manifest: which images, labels and patients a dataset has, and which part each case belongs to.

The format is the datalist JSON of the Medical Segmentation Decathlon (what
`monai.data.load_decathlon_datalist` reads), made strict.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from medssl.core.errors import ManifestError
from medssl.core.files import inside_root, sha256_json, write_json
from medssl.core.strict_json import parse_json
from medssl.core.suggest import did_you_mean

Part = Literal["training", "unlabeled", "validation", "test"]
PARTS: tuple[Part, ...] = ("training", "unlabeled", "validation", "test")

_NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f]")
# File systems allow 255 bytes, of which outputs need some for "_probabilities.nii.gz"
_LONGEST_ID = 200

# "01" and digits of other scripts are numbers too, but not those that a label file's values are looked up by
_LABEL_VALUE = re.compile(r"0|[1-9][0-9]{0,4}")
# Where scores are kept by label name, this one holds the mean over the classes
_TAKEN_NAME = "mean"


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_File = Annotated[str, Field(pattern=r"^[^\x00]+$")]
_Images = Annotated[tuple[_File, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def id_fault(value: str) -> str | None:
    """Return why a text cannot be the id of a case, which names its outputs, or None if it can."""
    if _NO_FILE_NAME.search(value):
        return f"id {value!r} cannot name a file; ids must not hold a slash, a backslash or a control character"
    if value.startswith("."):
        return f"id {value!r} cannot name a file; ids must not begin with a dot"
    if len(value.encode()) > _LONGEST_ID:
        return f"an id of {len(value.encode())} bytes cannot name a file; expected at most {_LONGEST_ID}"
    return None


class Case(_Strict):
    """One study: its image files (one per channel), and what is known about it.

    Attributes:
        image: Paths relative to the data root, one for each channel.
        label: Path of the label map, or None.
        class_: Class of the whole case (`class` in JSON), or None.
        id: Unique name of the case; names its outputs.
        patient: Who it is; groups splits and intervals and never reaches an output.
        site: Where it was acquired.
        fold: Validation fold, 0 to K - 1, or None.
        sha256: Hash of the first image file, or None.
    """

    image: _Images
    label: _File | None = None
    class_: int | str | None = Field(default=None, alias="class")
    id: str = Field(min_length=1)
    patient: str | None = Field(default=None, min_length=1)
    site: str | None = None
    fold: int | None = Field(default=None, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("id")
    @classmethod
    def _id_is_a_file_name(cls, value: str) -> str:
        if fault := id_fault(value):
            raise ValueError(fault)
        return value

    @property
    def group(self) -> str:
        """The unit that splits and intervals must not tear apart: the patient, or else the case itself."""
        return self.patient if self.patient is not None else self.id


class Reduction(_Strict):
    """Where the audit of a redundancy reduction lies, and its hash."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Strict):
    """A dataset. `labels` maps label values (as strings, "0" is background) to names."""

    name: str
    description: str | None = None
    licence: str | None = None
    modality: str
    labels: dict[str, str]
    training: tuple[Case, ...] = ()
    unlabeled: tuple[Case, ...] = ()
    validation: tuple[Case, ...] = ()
    test: tuple[Case, ...] = ()
    reduction: Reduction | None = None

    @model_validator(mode="after")
    def _labels_and_ids_are_sound(self) -> Manifest:
        for value in self.labels:
            if not _LABEL_VALUE.fullmatch(value) or int(value) > 65535:
                message = f"label value {value!r} is not a whole number from 0 to 65535 in plain digits"
                raise ValueError(message)
        names = [name.casefold() for name in self.labels.values()]
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        if _TAKEN_NAME in self.labels.values():
            message = f"the label name {_TAKEN_NAME!r} is taken: scores have the mean over the classes there"
            raise ValueError(message)
        if repeated:
            message = f"label names must differ; repeated: {', '.join(repeated)}"
            raise ValueError(message)
        ids = Counter(case.id for _, case in self.cases())
        twice = sorted(case_id for case_id, count in ids.items() if count > 1)
        if twice:
            message = f"case ids must be unique; repeated: {', '.join(twice[:5])}"
            raise ValueError(message)
        return self

    def cases(self) -> Iterator[tuple[Part, Case]]:
        """Yield (part, case) for every case, in the order of the file."""
        for part in PARTS:
            for case in self.part(part):
                yield part, case

    def part(self, part: Part) -> tuple[Case, ...]:
        """Return the cases of one part."""
        cases: tuple[Case, ...] = getattr(self, part)
        return cases

    def label_values(self) -> list[int]:
        """Return the label values in ascending order."""
        return sorted(int(value) for value in self.labels)

    def channels(self) -> int:
        """Return the number of channels, the same for all cases.

        Raises:
            ManifestError: If cases list different numbers of image files, or there are none.
        """
        examples = {len(case.image): f"{case.id} ({part})" for part, case in self.cases()}
        if len(examples) != 1:
            found = "; ".join(f"{number} in {case}" for number, case in sorted(examples.items())) or "no case"
            message = f"manifest {self.name!r}: expected one number of image files in all cases, found {found}."
            raise ManifestError(f"{message} Complete the cases that lack a channel.")
        return next(iter(examples))

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values; single-channel images are plain strings."""
        content = self.model_dump(by_alias=True, exclude_none=True, mode="json")
        for part in PARTS:
            for case in content[part]:
                if len(case["image"]) == 1:
                    case["image"] = case["image"][0]
        return content

    def sha256(self) -> str:
        """Return the hash of the content, independent of formatting."""
        return sha256_json(self.to_json())


def load_manifest(path: Path) -> Manifest:
    """Read and validate a manifest.

    Args:
        path: JSON file.

    Raises:
        ManifestError: If the file is missing, is no JSON or breaks the schema; every problem is listed.
    """
    path = Path(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path}: no such manifest. Make one with: medssl import FOLDER --out {path}"
        raise ManifestError(message) from error
    except (OSError, ValueError, RecursionError) as error:  # also a number of 5000 digits, or 100,000 brackets
        message = f"{path}: expected a manifest in JSON, found something unreadable ({error}). Check the file."
        raise ManifestError(message) from error
    if not isinstance(content, dict):
        found = type(content).__name__
        message = f"{path}: expected a JSON object with name, modality, labels and cases, found a {found}."
        raise ManifestError(message)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        raise ManifestError(_explain(path, error)) from error


def save_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    write_json(Path(path), manifest.to_json())


def anonymous_patients(manifest: Manifest) -> Manifest:
    """Replace patients by ordinals, which keep the grouping: the copy stays beside results."""
    names = list(dict.fromkeys(case.patient for _, case in manifest.cases() if case.patient is not None))
    ordinals = {name: f"p{number:04d}" for number, name in enumerate(names, 1)}

    def anonymous(case: Case) -> Case:
        return case if case.patient is None else case.model_copy(update={"patient": ordinals[case.patient]})

    return manifest.model_copy(update={part: tuple(anonymous(case) for case in manifest.part(part)) for part in PARTS})


def resolve_image(root: Path, case: Case) -> tuple[Path, ...]:
    """Return the paths of a case's image files below `root`.

    Raises:
        ManifestError: If a path leaves `root`.
    """
    return tuple(_resolve(root, case, path) for path in case.image)


def resolve_label(root: Path, case: Case) -> Path | None:
    """Return the path of a case's label map below `root`, or None if it has none.

    Raises:
        ManifestError: If the path leaves `root`.
    """
    return None if case.label is None else _resolve(root, case, case.label)


def _resolve(root: Path, case: Case, path: str) -> Path:
    try:
        return inside_root(root, path)
    except ManifestError as error:
        message = f"case {case.id}: {error}"
        raise ManifestError(message) from error


def _explain(path: Path, error: ValidationError) -> str:
    known = [*Manifest.model_fields, *Case.model_fields, "class"]
    lines = []
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"]) or "manifest"
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = f"unknown key.{did_you_mean(str(problem['loc'][-1]), known)}"
        lines.append(f"  {where}: {text}")
    return f"{path}: not a valid manifest ({len(lines)} problems):\n" + "\n".join(lines)
