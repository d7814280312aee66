"""Split a manifest by patient: held-out parts, folds, and nested draws of the cases that keep their labels.

Groups are ordered by a hash of (seed, purpose, group). So a draw depends neither on the order of the manifest nor
on the other cases, and a smaller draw of one seed is always part of the larger one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Literal

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.data.manifest import Case, Manifest

Amount = int | float
HeldOut = Literal["validation", "test"]
_Group = tuple[Case, ...]


def parse_amount(text: str, *, option: str) -> Amount:
    """Read a number of cases ("20") or a share of them ("0.2", "20%").

    Args:
        text: What the user wrote.
        option: Name of the option, for the message.

    Raises:
        ConfigError: If it is neither a whole number from 1 nor a share between 0 and 1.
    """
    try:
        amount: Amount = int(text) if text.isdigit() else _share(text)
    except ValueError:
        amount = 0
    if (isinstance(amount, int) and amount >= 1) or 0 < amount < 1:
        return amount
    message = f"{option} {text}: expected a number of cases (20) or a share of them (0.2 or 20%). Correct it."
    raise ConfigError(message)


def _share(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def hold_out(manifest: Manifest, *, part: HeldOut, amount: Amount, seed: int) -> Manifest:
    """Move whole patients from `training` to a held-out part, until it has gained that many cases.

    Patients who also have cases in another part stay where they are: moving them would tear them apart.

    Args:
        manifest: What to split.
        part: Where the cases go.
        amount: Number of cases, or share of the training cases; the last patient may exceed it.
        seed: Seed of the draw.

    Raises:
        ConfigError: If that would leave nothing to train on, or not enough patients can be moved.
    """
    elsewhere = {case.group for other, case in manifest.cases() if other != "training"}
    groups = _ranked([case for case in manifest.training if case.group not in elsewhere], seed=seed, purpose=part)
    wanted = _count(amount, len(manifest.training))
    drawn = _draw(groups, wanted)
    if len(drawn) < wanted or len(drawn) == len(manifest.training):
        movable = sum(len(group) for group in groups)
        message = (
            f"{part}: expected {wanted} of {len(manifest.training)} training cases to be moved with some left, found "
            f"{len(groups)} patients with {movable} cases that are in no other part. Ask for fewer."
        )
        raise ConfigError(message)
    ids = {case.id for case in drawn}
    moved = tuple(case.model_copy(update={"fold": None}) for case in manifest.training if case.id in ids)
    kept = tuple(case for case in manifest.training if case.id not in ids)
    return manifest.model_copy(update={"training": kept, part: (*manifest.part(part), *moved)})


def keep_labeled(manifest: Manifest, *, amount: Amount, seed: int) -> Manifest:
    """Keep the labels of some training cases, whole patients; move the others to `unlabeled` without labels.

    Draws are nested: with one seed, the cases of a smaller amount are among those of a larger one.

    Args:
        manifest: What to draw from.
        amount: Number of cases that keep their labels, or share; the last patient may exceed it.
        seed: Seed of the draw.

    Raises:
        ConfigError: If there are fewer labelled training cases.
    """
    labeled = [case for case in manifest.training if _is_labeled(case)]
    wanted = _count(amount, len(labeled))
    if wanted > len(labeled):
        message = f"--labeled: expected {wanted} labelled training cases, found {len(labeled)}. Ask for fewer."
        raise ConfigError(message)
    drawn = _draw(_ranked(labeled, seed=seed, purpose="labeled"), wanted)
    return _strip_others(manifest, {case.id for case in drawn})


def keep_labeled_cases(manifest: Manifest, *, ids: Sequence[str]) -> Manifest:
    """Keep the labels of the named training cases; move the others to `unlabeled` without labels.

    Args:
        manifest: What to draw from.
        ids: Case ids.

    Raises:
        ConfigError: If an id is not that of a labelled training case.
    """
    known = {case.id for case in manifest.training if _is_labeled(case)}
    unknown = [case_id for case_id in ids if case_id not in known]
    if unknown or not ids:
        hint = did_you_mean(unknown[0], known) if unknown else ""
        found = ", ".join(repr(case_id) for case_id in unknown[:5]) or "none"
        message = f"--labeled-cases: expected ids of labelled training cases, found {found}.{hint} Correct the list."
        raise ConfigError(message)
    return _strip_others(manifest, set(ids))


def unlabeled_case(case: Case) -> Case:
    """Return a case of which nothing but the image is known; what learns from it must not be able to peek."""
    return case.model_copy(update={"label": None, "class_": None, "fold": None})


def assign_folds(manifest: Manifest, *, folds: int, seed: int) -> Manifest:
    """Write a fold, 0 to K - 1, into each training case: whole patients, and as many cases in each fold as can be.

    Where cases have classes, each class is spread evenly over the folds, the rarest first; a patient's cases count as
    the rarest of their classes.

    Args:
        manifest: What to split.
        folds: Number of folds, at least 2.
        seed: Seed of the draw.

    Raises:
        ConfigError: If there are fewer patients than folds.
    """
    groups = _ranked(manifest.training, seed=seed, purpose="folds")
    if not 2 <= folds <= len(groups):
        message = (
            f"--folds {folds}: expected from 2 to {len(groups)}, the number of patients with training cases. "
            "Ask for fewer folds, or add patients."
        )
        raise ConfigError(message)
    counts = Counter(case.class_ for case in manifest.training)
    kinds = {group: min((case.class_ for case in group), key=lambda kind: counts[kind]) for group in groups}
    sizes, of_kind = [0] * folds, Counter[tuple[int, object]]()
    fold_of: dict[str, int] = {}
    # The largest of the rarest first, each into the fold with fewest of its kind; sorting is stable, so what is equal
    # stays in random order
    for group in sorted(groups, key=lambda group: (counts[kinds[group]], -len(group))):
        kind = kinds[group]
        fold = min(range(folds), key=lambda number: (of_kind[number, kind], sizes[number]))
        sizes[fold] += len(group)
        of_kind[fold, kind] += len(group)
        fold_of[group[0].group] = fold
    training = tuple(case.model_copy(update={"fold": fold_of[case.group]}) for case in manifest.training)
    return manifest.model_copy(update={"training": training})


def _is_labeled(case: Case) -> bool:
    return case.label is not None or case.class_ is not None


def _count(amount: Amount, total: int) -> int:
    return amount if isinstance(amount, int) else max(1, round(amount * total))


def _ranked(cases: Collection[Case], *, seed: int, purpose: str) -> list[_Group]:
    """Group cases by patient, and order the groups by a hash of what they are drawn for."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case)
    return [tuple(groups[name]) for name in sorted(groups, key=lambda name: (_rank(seed, purpose, name), name))]


def _rank(seed: int, purpose: str, group: str) -> bytes:
    return hashlib.blake2b(f"{seed}/{purpose}/{group}".encode(), digest_size=16).digest()


def _draw(groups: list[_Group], wanted: int) -> list[Case]:
    """Take groups in their order until there are enough cases; always a beginning of the list, hence nested."""
    drawn: list[Case] = []
    for group in groups:
        if len(drawn) >= wanted:
            break
        drawn.extend(group)
    return drawn


def _strip_others(manifest: Manifest, keep: set[str]) -> Manifest:
    kept = tuple(case for case in manifest.training if case.id in keep)
    stripped = tuple(unlabeled_case(case) for case in manifest.training if case.id not in keep)
    return manifest.model_copy(update={"training": kept, "unlabeled": (*manifest.unlabeled, *stripped)})
