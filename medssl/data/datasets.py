"""Lists of cases for a bundle's configuration, and a cached dataset whose randomness belongs to each sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from monai.data import CacheDataset
from monai.transforms import Compose, MapLabelValued

from medssl.core.errors import ConfigError, ImageError, MedsslError
from medssl.core.seeding import derive_seed
from medssl.core.strict_json import parse_json
from medssl.data.images import is_image_file
from medssl.data.manifest import PARTS, Case, Manifest, load_manifest, resolve_image, resolve_label
from medssl.data.volume_checks import size_of_regular_file
from medssl.data.volumes import read_header, read_volume

CaseDict = dict[str, Any]
_LEARNT_FROM = ("unlabeled", "training")


class SampleKey(NamedTuple):
    """Which item to take, and the position in the stream that its random transforms are keyed by."""

    item: int
    position: int


def training_cases(*, manifest: str, data_root: str | None = None, fold: int | None = None) -> list[CaseDict]:
    """List the labelled training cases, without those of the validation fold.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        fold: Fold held out for validation, or None to train on all training cases.

    Returns:
        One dict for each case: `image` (path, or list of paths for several channels), `label` and `case_id`.

    Raises:
        ConfigError: If nothing is left to train on, or a training case has no label.
    """
    content, root = _open(manifest, data_root)
    cases = [case for case in content.training if fold is None or case.fold != fold]
    _require_labels(cases, manifest)
    if not cases:
        message = f"{manifest}: no training case is left (fold {fold}). Add labelled cases, or set fold to null."
        raise ConfigError(message)
    return [_as_dict(root, case) for case in cases]


def validation_cases(*, manifest: str, data_root: str | None = None, fold: int | None = None) -> list[CaseDict]:
    """List the cases of the validation fold, or the manifest's validation cases if `fold` is None.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        fold: Fold held out for validation, or None to take the manifest's validation part.

    Returns:
        Dicts as `training_cases` makes them; empty if there are none.

    Raises:
        ConfigError: If the fold is empty, or a case has no label.
    """
    content, root = _open(manifest, data_root)
    cases = list(content.validation) if fold is None else _of_fold(content, fold, manifest)
    _require_labels(cases, manifest)
    return [_as_dict(root, case) for case in cases]


def unlabeled_cases(*, manifest: str, data_root: str | None = None, required: bool = False) -> list[CaseDict]:
    """List the unlabelled cases; no label path is ever read, also where the manifest gives one.

    Args:
        manifest: Manifest file.
        data_root: Folder the paths start from; the manifest's own by default.
        required: Whether there must be one, because nothing else is learnt from.

    Raises:
        ConfigError: If one is required and there is none.
    """
    content, root = _open(manifest, data_root)
    if required and not content.unlabeled:
        message = f"{manifest}: no unlabelled case to learn from. List images in the unlabeled part."
        raise ConfigError(message)
    return [_as_dict(root, case.model_copy(update={"label": None})) for case in content.unlabeled]


def refuse_held_out(parts: Sequence[str]) -> None:
    """Refuse parts that are not learnt from.

    Raises:
        ConfigError: If one of `parts` is neither unlabeled nor training.
    """
    wrong = [part for part in parts if part not in _LEARNT_FROM]
    if wrong:
        message = f"parts: expected {' or '.join(_LEARNT_FROM)}, got {wrong[0]!r}. Held-out cases are not learnt from."
        raise ConfigError(message)


def image_cases(
    *,
    manifest: str,
    data_root: str | None = None,
    parts: Sequence[str] = ("unlabeled", "training"),
    exclude_fold: int | None = None,
) -> list[CaseDict]:
    """List the cases of some parts as images alone; no label path is ever read, also where the manifest gives one.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        parts: Parts of the manifest.
        exclude_fold: Fold that will be scored, whose patients are left out of every part; None leaves out none.

    Raises:
        ConfigError: If a part is named that is not learnt from, or no training case is in the fold.
    """
    refuse_held_out(parts)
    content, root = _open(manifest, data_root)
    scored = set() if exclude_fold is None else {case.group for case in _of_fold(content, exclude_fold, manifest)}
    return [
        _as_dict(root, case.model_copy(update={"label": None}))
        for part, case in content.cases()
        if part in set(parts) and case.group not in scored
    ]


def labelled_cases(*, manifest: str, data_root: str | None = None, parts: Sequence[str] = PARTS) -> list[CaseDict]:
    """List the cases of some parts that have a label; empty if there are none."""
    content, root = _open(manifest, data_root)
    return [_as_dict(root, case) for part, case in content.cases() if part in set(parts) and case.label is not None]


def pseudo_labelled_cases(*, manifest: str, data_root: str | None = None, predictions: str) -> list[CaseDict]:
    """List the unlabelled cases with the label maps that `medssl infer` made of them, for self-training.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        predictions: Folder with `<case id>.nii.gz`, whose values are the bundle's channels, and the run's run.json.

    Raises:
        ConfigError: If a case has no prediction, or they are of other classes.
    """
    _require_same_classes(load_manifest(Path(manifest)), Path(predictions) / "run.json")
    found = [
        {**case, "label": str(Path(predictions) / f"{case['case_id']}.nii.gz")}
        for case in unlabeled_cases(manifest=manifest, data_root=data_root)
    ]
    missing = [case["case_id"] for case in found if not Path(case["label"]).is_file()]
    if missing:
        message = (
            f"{predictions}: expected a label map of every unlabelled case, found none of {', '.join(missing[:5])}. "
            "Make them: medssl infer BUNDLE MANIFEST --part unlabeled --out PREDICTIONS"
        )
        raise ConfigError(message)
    return found


def _require_same_classes(manifest: Manifest, record: Path) -> None:
    """Refuse predictions whose run tells other classes; a folder without a record is taken at its word."""
    if not record.is_file():
        return
    try:
        labels = {
            int(value): str(name) for value, name in parse_json(record.read_text(encoding="utf-8"))["labels"].items()
        }
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        message = f"{record}: expected the record of medssl infer with its labels, found something else ({error})."
        raise ConfigError(message, fix="Write the predictions again, or remove the file.") from error
    found = [name.casefold() for _, name in sorted(labels.items())]
    wanted = [manifest.labels[str(value)].casefold() for value in manifest.label_values()]
    # A bundle that is trained on classes of other names keeps its own, which is warned of there
    moved = [name for name in wanted if name in found and found.index(name) != wanted.index(name)]
    if len(found) != len(wanted) or moved:
        message = (
            f"{record}: expected predictions of {', '.join(wanted)}, as the manifest has, found {', '.join(found)}."
        )
        raise ConfigError(message, fix="Predict with a network that was trained on this manifest's classes.")


def for_pseudo_labels(*, preprocessing: Compose) -> Compose:
    """Return the transforms of labelled cases for cases whose label map a network of the same bundle made.

    Such a map has the bundle's channels already, which a dataset of other label values has still to be mapped to.

    Args:
        preprocessing: Transforms of the labelled stream.
    """
    return Compose([each for each in preprocessing.transforms if not isinstance(each, MapLabelValued)])


def cases_with_lesion(data: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Tell for each case whether its label map has any voxel above 0; each label is read once, one at a time.

    Args:
        data: Cases as `training_cases` lists them.

    Raises:
        ImageError: If a label cannot be read.
    """
    return [_has_lesion(case) for case in data]


def _has_lesion(case: Mapping[str, Any]) -> bool:
    try:
        return bool((read_volume(Path(case["label"])).voxels > 0).any())
    except MedsslError as error:
        text = f"case {case.get('case_id', '?')}: expected a readable label, found: {error.text}"
        fix = "Run medssl check on the manifest; repair the case or take it out."
        raise ImageError(text, fix=fix, code=error.code) from error


def _open(manifest: str, data_root: str | None) -> tuple[Manifest, Path]:
    path = Path(manifest)
    return load_manifest(path), path.parent if data_root is None else Path(data_root)


def _of_fold(content: Manifest, fold: int, manifest: str) -> list[Case]:
    cases = [case for case in content.training if case.fold == fold]
    if not cases:
        known = sorted({case.fold for case in content.training if case.fold is not None})
        message = f"{manifest}: no training case is in fold {fold}; the folds are {known}. Run: medssl split"
        raise ConfigError(message)
    return cases


def _require_labels(cases: list[Case], manifest: str) -> None:
    missing = [case.id for case in cases if case.label is None]
    if missing:
        message = f"{manifest}: cases without a label: {', '.join(missing[:5])}. Label them or move them to unlabeled."
        raise ConfigError(message)


def _as_dict(root: Path, case: Case) -> CaseDict:
    images = [str(path) for path in resolve_image(root, case)]
    label = resolve_label(root, case)
    entry: CaseDict = {"image": images[0] if len(images) == 1 else images, "case_id": case.id}
    return entry if label is None else entry | {"label": str(label)}


class SeededCacheDataset(CacheDataset):
    """Cache the deterministic transforms; key the random ones by the sample's position in the stream.

    The augmentation of a sample depends on (seed, stream, position) and on nothing else: not on the number of
    workers, not on what was drawn before. That is what makes an interrupted run continue exactly.

    Args:
        data: List of dicts.
        transform: MONAI `Compose`; what stands before its first random transform is cached.
        seed: Seed of the run.
        stream: Name of the stream, so that two streams of one run draw differently.
        cache_rate: Share of the cases kept in memory, 0 to 1.
        num_workers: Threads that fill the cache.
    """

    def __init__(
        self,
        data: list[CaseDict],
        transform: Any,
        *,
        seed: int = 0,
        stream: str = "labeled",
        cache_rate: float = 1.0,
        num_workers: int = 2,
    ) -> None:
        self.seed = seed
        self.stream = stream
        super().__init__(data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=False)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, SampleKey):
            return super().__getitem__(key)
        self.transform.set_random_state(seed=derive_seed(self.seed, self.stream, key.position))
        return super().__getitem__(key.item)

    def _load_cache_item(self, idx: int) -> Any:
        with _case_named(self.data[idx]):
            _require_volumes(self.data[idx])
            # Threads fill the cache, and MONAI's readers keep the names of the files they are at: a label that is read
            # meanwhile would cut an image of several files down to the first one
            alone = copy(self)
            alone.transform = deepcopy(self.transform)
            return CacheDataset._load_cache_item(alone, idx)

    def _transform(self, index: int) -> Any:
        if index < self.cache_num:
            return super()._transform(index)
        with _case_named(self.data[index]):
            _require_volumes(self.data[index])
            return super()._transform(index)


def _require_volumes(entry: CaseDict) -> None:
    """Look at the headers first: MONAI's readers wait for ever on a pipe and believe any size."""
    for key in ("image", "label"):
        value = entry.get(key, ())
        for path in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if is_image_file(path):
                size_of_regular_file(Path(path))
            else:
                read_header(Path(path))


@contextmanager
def _case_named(entry: CaseDict) -> Iterator[None]:
    """Name the case where MONAI would report the transform that failed."""
    try:
        yield
    except Exception as error:
        reason = error.text if isinstance(error, MedsslError) else error.__cause__ or error
        text = f"case {entry.get('case_id', '?')}: expected a readable image and label, found: {reason}"
        fix = "Run medssl check on the manifest; repair the case or take it out."
        raise ImageError(text, fix=fix, code=error.code if isinstance(error, MedsslError) else None) from error
