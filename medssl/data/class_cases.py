"""2D images with the class of the whole image, for a bundle's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medssl.core.errors import ConfigError, ManifestError
from medssl.core.suggest import did_you_mean
from medssl.data.datasets import CaseDict
from medssl.data.manifest import Case, Manifest, load_manifest, resolve_image


def class_of(case: Case, labels: Mapping[str, str]) -> str:
    """Return the name of a case's class; the manifest gives the name, or its value among the labels.

    Args:
        case: A case with a class.
        labels: The manifest's labels, value to name.

    Raises:
        ManifestError: If it has none, or one that the labels do not name.
    """
    if case.class_ is None:
        message = f"case {case.id}: expected a class, found none. Add it, or move the case to unlabeled."
        raise ManifestError(message)
    names = {name.casefold(): name for name in labels.values()}
    found = labels.get(str(case.class_)) or names.get(str(case.class_).casefold())
    if found is None:
        hint = did_you_mean(str(case.class_), list(labels.values()))
        known = ", ".join(f"{value} {name}" for value, name in labels.items())
        message = f"case {case.id}: expected a class of the labels ({known}), found {case.class_!r}.{hint}"
        raise ManifestError(message + " Correct the class, or add it to the labels.")
    return found


def training_images(
    *, manifest: str, class_names: Sequence[str], data_root: str | None = None, fold: int | None = None
) -> list[CaseDict]:
    """List the training images with their classes, without those of the validation fold.

    Args:
        manifest: Manifest file.
        class_names: Names in the order of the network's scores.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        fold: Fold held out for validation, or None to train on all training cases.

    Returns:
        One dict for each case: `image` (path), `label` (position of its class) and `case_id`.

    Raises:
        ConfigError: If nothing is left to train on, or a class is not among `class_names`.
        ManifestError: If a case has no known class.
    """
    content = load_manifest(Path(manifest))
    cases = [case for case in content.training if fold is None or case.fold != fold]
    if not cases:
        message = f"{manifest}: no training case is left (fold {fold}). Add cases with a class, or set fold to null."
        raise ConfigError(message)
    return _listed(content, cases, manifest, class_names, data_root)


def validation_images(
    *, manifest: str, class_names: Sequence[str], data_root: str | None = None, fold: int | None = None
) -> list[CaseDict]:
    """List the images of the validation fold, or the manifest's validation part if `fold` is None.

    Arguments, dicts and errors are those of `training_images`; without validation cases the list is empty.
    """
    content = load_manifest(Path(manifest))
    cases = list(content.validation) if fold is None else [case for case in content.training if case.fold == fold]
    return _listed(content, cases, manifest, class_names, data_root)


def _listed(
    content: Manifest, cases: Sequence[Case], manifest: str, class_names: Sequence[str], data_root: str | None
) -> list[CaseDict]:
    root = Path(manifest).parent if data_root is None else Path(data_root)
    places = {name.casefold(): place for place, name in enumerate(class_names)}
    listed = []
    for case in cases:
        name = class_of(case, content.labels)
        if name.casefold() not in places:
            message = f"case {case.id}: expected one of the classes {', '.join(class_names)}, found {name!r}."
            raise ConfigError(message, fix="Set class_names to the classes of the manifest, or use medssl finetune.")
        image = str(resolve_image(root, case)[0])
        listed.append({"image": image, "label": places[name.casefold()], "case_id": case.id})
    return listed
