"""What a study compares: arms, numbers of labelled cases, draws and seeds, written down before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_json
from medssl.core.strict_json import parse_json
from medssl.core.suggest import did_you_mean
from medssl.data.manifest import Manifest

_LATER_KEYS = frozenset({"single_views_of", "pretrain", "budget"})
_LAST = "every network of a study is its last checkpoint, so that the scored cases choose nothing"
_PLANNED = "length and seeds are the plan's: budget, iterations_per_epoch and seeds"
# Why an arm cannot set some keys
_NOT_TO_SET = {_LAST: ("select_best", "val_interval"), _PLANNED: ("epochs", "iterations_per_epoch", "seed")}
_NAME = r"^[a-z0-9]+(_[a-z0-9]+)*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pretraining(_Strict):
    """A pre-training on all images of the training part, without labels, shared by all runs of a study.

    Attributes:
        stages: Configurations of the arm's bundle that are run, in this order; by default its pretrain*.json.
        set: Overrides of configuration ids.
        iterations: Iterations of each stage, rounded down to whole epochs.
        seed: Seed of the pre-training.
    """

    stages: tuple[str, ...] = ()
    set: dict[str, Any] = {}
    iterations: int = Field(ge=1)
    seed: int = 0


class Recipe(_Strict):
    """Hashes of the configurations that an arm's networks come from.

    Attributes:
        training: Those of its training and its inference.
        pretraining: Those of its stages of pre-training, if it has any.
    """

    training: str
    pretraining: str | None = None


class Arm(_Strict):
    """One way to make a network.

    Attributes:
        name: Its name in tables; lower case, digits and "_".
        bundle: Bundle that is trained: a folder, or the name of a shipped one. None for an ensemble.
        config_files: Files of the bundle's configs/, merged in this order.
        set: Overrides of configuration ids; none that chooses among checkpoints.
        patches_per_iteration: Patches that one iteration passes forward and back, over all networks of the arm.
            Divides the study's budget into iterations; what really passed is counted and told where it differs.
        members: For an ensemble: the arm whose networks, trained with different seeds, are fused. They are trained
            with an equal part of the budget each, so an ensemble costs what any other arm costs.
        single_views_of: The arm whose trained views are scored one by one; the Dice of a case is the mean of theirs.
            Trains nothing of its own.
        size: Number of networks of an ensemble.
        group: "single" or "ensemble"; each is compared with the baseline of its own group.
        pretrain: Pre-training whose encoder the arm's networks start from. Arms with the same one share it, and it is
            carried out once; its time is recorded beside each run and is not part of the budget.
        budget: Patches that this arm may pass forward and back instead of the study's, such as those that other arms
            have spent on their pre-training.
    """

    name: str = Field(pattern=_NAME)
    bundle: str | None = None
    config_files: tuple[str, ...] = ("train",)
    set: dict[str, Any] = {}
    patches_per_iteration: int = Field(default=1, ge=1)
    members: str | None = None
    single_views_of: str | None = None
    size: int = Field(default=1, ge=1)
    group: Literal["single", "ensemble"] = "single"
    pretrain: Pretraining | None = None
    budget: int | None = Field(default=None, ge=1)

    def to_json(self) -> dict[str, Any]:
        """Return the arm as plain JSON values; keys that came later are left out where they say nothing.

        So runs of studies that were begun before keep the hash of what decides them.
        """
        content = self.model_dump(mode="json")
        return {key: value for key, value in content.items() if key not in _LATER_KEYS or value is not None}

    @property
    def source(self) -> str | None:
        """Name of the arm whose networks this one takes, or None if it trains its own."""
        return self.members or self.single_views_of

    @model_validator(mode="after")
    def _sets_what_is_its_own(self) -> Arm:
        for why, keys in _NOT_TO_SET.items():
            found = [key for key in keys if key in self.set]
            if found:
                message = f"arm {self.name}: set: expected no {' and no '.join(found)}; {why}. Take it out"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _has_one_source(self) -> Arm:
        if sum(each is not None for each in (self.bundle, self.members, self.single_views_of)) != 1:
            message = f"arm {self.name}: expected a bundle to train, members to fuse, or views to score, one of them"
            raise ValueError(message)
        if self.pretrain is not None and self.bundle is None:
            message = f"arm {self.name}: expected a bundle beside pretrain, which is what is pre-trained"
            raise ValueError(message)
        if self.members is not None and self.size < 2:
            message = f"arm {self.name}: an ensemble needs a size of 2 or more"
            raise ValueError(message)
        return self


@dataclass(frozen=True, kw_only=True)
class Run:
    """One cell of a study: an arm on one draw of labelled cases with one seed.

    Attributes:
        arm: The arm.
        labelled: Number of labelled cases.
        draw: Number of the draw.
        ids: The labelled cases.
        seed: Seed of the training.
        iterations: Iterations of each network's training.
        recipe: Hashes of the configurations that it is trained by, where they are known.
    """

    arm: Arm
    labelled: int
    draw: int
    ids: tuple[str, ...]
    seed: int
    iterations: int
    recipe: Recipe | None = None

    @property
    def key(self) -> str:
        """Name of the run's folder."""
        return f"{self.arm.name}/labelled{self.labelled}_draw{self.draw}_seed{self.seed}"


class StudyPlan(_Strict):
    """A whole study.

    Attributes:
        name: Title of the tables.
        about: What it asks, which contrast is the primary one, and what was fixed before it ran.
        part: Part of the manifest that is scored.
        draws: Number of labelled cases (as a string) to the draws: each a list of case ids of the training part.
        seeds: Seeds of every cell.
        budget: Patches that each arm may pass forward and back; rounded down to whole epochs of each arm.
        iterations_per_epoch: Length of an epoch in iterations.
        baseline: Arm that the others of group "single" are compared with.
        ensemble_baseline: The same for group "ensemble".
        arms: What is compared, in the order in which it runs.
        recipes: Arm to the hashes of its bundle's configurations. Filled in when the study runs, so that what a bundle
            gave before it was changed is not taken for what it gives now.
    """

    name: str
    about: str = ""
    part: Literal["validation", "test"]
    draws: dict[str, Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    budget: int = Field(ge=1)
    iterations_per_epoch: int = Field(default=25, ge=1)
    baseline: str
    ensemble_baseline: str | None = None
    arms: tuple[Arm, ...]
    recipes: dict[str, Recipe] = {}

    @model_validator(mode="after")
    def _names_fit(self) -> StudyPlan:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            message = f"arms: names must differ, found {', '.join(names)}"
            raise ValueError(message)
        members = {f"{arm.name}_members" for arm in self.arms if arm.members is not None}
        if taken := members & set(names):
            message = f"arms: the name {taken.pop()} is that of an ensemble's own networks. Choose another"
            raise ValueError(message)
        wanted = [self.baseline, self.ensemble_baseline, *(arm.source for arm in self.arms)]
        for name in wanted:
            if name is not None and name not in names:
                message = f"arms: no arm {name!r}.{did_you_mean(name, names)}"
                raise ValueError(message)
        for arm in self.arms:
            if arm.source is not None and self.arm(arm.source).source is not None:
                message = f"arm {arm.name}: expected an arm that trains a network, got {arm.source}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _draws_are_draws(self) -> StudyPlan:
        for count, draws in self.draws.items():
            if not count.isdigit() or count != str(int(count)) or any(len(set(ids)) != int(count) for ids in draws):
                message = f"draws, {count}: expected lists of {count} different case ids each"
                raise ValueError(message)
            if len({frozenset(ids) for ids in draws}) < len(draws):
                message = f"draws, {count}: a draw repeats another one; it would count twice in every interval"
                raise ValueError(message)
        return self

    def arm(self, name: str) -> Arm:
        """Return the arm of a name."""
        return next(arm for arm in self.arms if arm.name == name)

    def runs(self) -> Iterator[Run]:
        """Yield every run, draw by draw, so that what is done at any time is a whole comparison of fewer draws."""
        most = max(len(draws) for draws in self.draws.values())
        for draw in range(most):
            for count, draws in self.draws.items():
                if draw < len(draws):
                    for seed in self.seeds:
                        for arm in self.arms:
                            yield self._run(arm, int(count), draw, draws[draw], seed)

    def member_runs(self, run: Run) -> list[Run]:
        """Return the runs whose networks an ensemble fuses: its members on the same draw, each with its own seed."""
        if run.arm.members is None:
            return []
        arm, size = self.arm(run.arm.members), run.arm.size
        share = arm.model_copy(update={"name": f"{run.arm.name}_members"})
        return [
            Run(
                arm=share,
                labelled=run.labelled,
                draw=run.draw,
                ids=run.ids,
                seed=run.seed * size + number,
                iterations=run.iterations,
                recipe=run.recipe,
            )
            for number in range(size)
        ]

    def families(self, runs: Iterable[Run]) -> list[list[Run]]:
        """Return runs in groups that can be carried out at the same time: a run's views are scored after it is trained.

        Groups and the runs in them keep their order.
        """
        found: dict[str, list[Run]] = {}
        for run in runs:
            found.setdefault((self.trained_run(run) or run).key, []).append(run)
        return list(found.values())

    def trained_run(self, run: Run) -> Run | None:
        """Return the run whose network's views a run scores, or None if it does nothing of the kind."""
        if run.arm.single_views_of is None:
            return None
        return self._run(self.arm(run.arm.single_views_of), run.labelled, run.draw, run.ids, run.seed)

    def budget_of(self, arm: Arm) -> int:
        """Return the patches that an arm, with all its networks, may pass forward and back."""
        return self._trained(arm).budget or self.budget

    def length(self, iterations: int) -> tuple[int, int]:
        """Return iterations, rounded down to whole epochs, and those of an epoch."""
        per_epoch = min(self.iterations_per_epoch, iterations)
        return iterations - iterations % per_epoch, per_epoch

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**self.model_dump(mode="json"), "arms": [arm.to_json() for arm in self.arms]}

    def require_cases(self, manifest: Manifest) -> None:
        """Refuse draws of cases that a dataset does not have labelled in its training part.

        Raises:
            ConfigError: If there are some.
        """
        labelled = [case.id for case in manifest.training if case.label is not None or case.class_ is not None]
        for count, draws in self.draws.items():
            for number, ids in enumerate(draws):
                for name in sorted({*ids} - {*labelled}):
                    message = (
                        f"draws, {count}, draw {number}: expected ids of labelled training cases of "
                        f"{manifest.name!r}, found {name!r}.{did_you_mean(name, labelled)}"
                    )
                    raise ConfigError(message, fix="Correct the draw.")

    def sha256(self) -> str:
        """Return the hash of everything in it that decides a run; its recipes hash what lies beside it."""
        aside = {"name", "about", "recipes"}
        return sha256_json({key: value for key, value in self.to_json().items() if key not in aside})

    def _trained(self, arm: Arm) -> Arm:
        return self.arm(arm.source) if arm.source is not None else arm

    def _run(self, arm: Arm, labelled: int, draw: int, ids: tuple[str, ...], seed: int) -> Run:
        patches = self._trained(arm).patches_per_iteration * arm.size
        # a run is whole epochs, and states what it really did
        iterations, _ = self.length(max(1, self.budget_of(arm) // patches))
        recipe = self.recipes.get(self._trained(arm).name)
        return Run(arm=arm, labelled=labelled, draw=draw, ids=ids, seed=seed, iterations=iterations, recipe=recipe)


def load_plan(path: Path) -> StudyPlan:
    """Read a study's plan.

    Raises:
        ConfigError: If it is no JSON or does not describe a study; every problem is named.
    """
    try:
        return StudyPlan.model_validate(parse_json(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            lines = [f"  {'#'.join(map(str, each['loc'])) or 'plan'}: {_said(each)}" for each in error.errors()]
            message = f"{path}: the plan of the study does not fit:\n" + "\n".join(lines)
        else:
            message = f"{path}: expected the plan of a study as JSON, found none that can be read ({error})."
        raise ConfigError(message, fix="Correct the file; docs/studies.md shows an example.") from error


def _said(problem: Any) -> str:
    """Return what pydantic says of a value as a sentence, in our words where its own would not help."""
    if problem["type"] == "extra_forbidden":
        known = [*StudyPlan.model_fields, *Arm.model_fields, *Pretraining.model_fields]
        return f"unknown key.{did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "string_pattern_mismatch":
        return f"expected lower-case words and digits joined by _, found {problem['input']!r}."
    return f"{problem['msg'].removeprefix('Value error, ').rstrip('.')}."
