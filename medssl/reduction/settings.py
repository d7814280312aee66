"""What a reduction is asked to do, and which wishes contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.data.manifest import PARTS, Part
from medssl.reduction.items import Unit, Window

Method = Literal["all", "every_n", "dhash", "ssim", "nmi", "embedding"]
Scope = Literal["volume", "patient", "dataset"]

METHODS: tuple[Method, ...] = ("all", "every_n", "dhash", "ssim", "nmi", "embedding")
SCOPES: tuple[Scope, ...] = ("volume", "patient", "dataset")
UNITS: tuple[Unit, ...] = ("slice", "volume")
HASH_6 = 6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How items are compared and which stay.

    Attributes:
        method: "dhash" is HASH of the paper; "all" and "every_n" are its controls.
        threshold: Largest number of differing bits of a near duplicate (dhash, 6 by default), or the similarity above
            which one is a near duplicate (others; by default calibrated to what HASH-6 keeps).
        every: Keep every n-th item (every_n).
        budget: Keep this many items of each group: the most different ones, or evenly spaced ones (every_n); "given"
            takes the number for each case from elsewhere, as a control with the same budget does.
        scope: Which items are compared: those of a volume, of a patient, or all.
        unit: Slices (also 2D images), or whole volumes.
        window: How values become 8 bits; see `ItemTask`.
        parts: Parts of the manifest that are reduced.
        allow_labelled: Also reduce parts that have labels or classes; they are few, and meant to stay.
        protect: Ids of cases that are never dropped.
        size: Side of the thumbnails of ssim, nmi and embedding in pixels.
        bins: Steps of grey of nmi.
    """

    method: Method = "dhash"
    threshold: float | None = None
    every: int | None = None
    budget: int | Literal["given"] | None = None
    scope: Scope = "volume"
    unit: Unit = "slice"
    window: Window = "auto"
    parts: tuple[Part, ...] = ("unlabeled",)
    allow_labelled: bool = False
    protect: tuple[str, ...] = ()
    size: int = 128
    bins: int = 64

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: If any does; all are named.
        """
        problems = list(_problems(self))
        if problems:
            raise ConfigError("\n".join(problems))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def _problems(settings: Settings) -> Iterator[str]:
    words = list(_unknown_words(settings))
    if words:
        yield from words
        return
    method, threshold = settings.method, settings.threshold
    yield from _threshold_problems(method, threshold)
    if settings.unit == "volume" and method != "dhash":
        yield f"unit volume: expected the method dhash, found {method}. Whole volumes are compared by hashes only."
    if settings.unit == "volume" and settings.scope == "volume":
        yield "unit volume: expected the scope patient or dataset, found volume, in which there is nothing to compare."
    if (method == "every_n") != (settings.every is not None) and settings.budget is None:
        yield "every_n needs --every N or --budget K, and no other method takes --every."
    given = sum(value is not None for value in (threshold, settings.every, settings.budget))
    if given > (0 if method == "all" else 1):
        yield f"method {method}: expected one of threshold, every and budget at most, found {given}. Leave one out."
    yield from _amount_problems(settings)


def _unknown_words(settings: Settings) -> Iterator[str]:
    known = {"method": METHODS, "scope": SCOPES, "unit": UNITS}
    for name, choices in known.items():
        given = getattr(settings, name)
        if given not in choices:
            yield f"{name}: expected one of {', '.join(choices)}, found {given!r}.{did_you_mean(str(given), choices)}"
    for part in sorted(set(settings.parts) - set(PARTS)):
        yield f"part: expected some of {', '.join(PARTS)}, found {part!r}.{did_you_mean(part, PARTS)}"


def _amount_problems(settings: Settings) -> Iterator[str]:
    for name, value in (("every", settings.every), ("budget", settings.budget)):
        if isinstance(value, int) and value < 1:
            yield f"{name}: expected at least 1, found {value}."
    if settings.budget == "given" and settings.scope != "volume":
        yield f"budgets of each case: expected the scope volume, found {settings.scope}. Use --budget K."
    if not 16 <= settings.size <= 512 or not 2 <= settings.bins <= 256:
        yield f"expected a size of 16 to 512 and 2 to 256 bins, found {settings.size} and {settings.bins}."


def _threshold_problems(method: Method, threshold: float | None) -> Iterator[str]:
    highest = 64 if method == "dhash" else 1
    if threshold is not None and not 0 <= threshold <= highest:  # nor is NaN
        yield f"threshold: expected 0 to {highest} for {method}, found {threshold:g}."
    elif method == "dhash" and threshold is not None and threshold != int(threshold):
        yield f"threshold: expected whole bits for dhash, found {threshold:g}."
