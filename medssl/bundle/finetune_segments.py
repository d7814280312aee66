"""Fine-tune a bundle that segments: the new bundle, predictions, scores, description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.bundle.config import read_json
from medssl.bundle.dataset_plan import Plan
from medssl.bundle.describe import Description, describe
from medssl.bundle.predictor import load_predictor
from medssl.bundle.prepare import prepare_bundle
from medssl.core.findings import Finding
from medssl.data.manifest import Case, Manifest
from medssl.evaluation import Evaluation, evaluate_segmentations
from medssl.inference.batch import run_batch
from medssl.inference.cases import image_cases

if TYPE_CHECKING:
    from medssl.bundle.finetune import Request


class Segmenting:
    """A bundle that makes label maps.

    Args:
        request: What to fine-tune.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.plan: Plan | None = None

    def prepare(self, manifest: Manifest, anonymous: Manifest) -> Sequence[Finding]:
        """Copy the bundle and adapt it to the dataset, once."""
        request = self.request
        self.plan, findings = prepare_bundle(
            request.bundle,
            request.out,
            manifest,
            request.data_root,
            wishes=request.wishes,
            settings=_continual_settings(request.bundle),
            overrides=request.overrides,
            from_scratch=request.from_scratch or request.overrides.get("finetune") is False,
            trust=request.trust,
        )
        return findings

    def predict(self, bundle: Path, cases: Sequence[Case], predictions: Path) -> None:
        """Segment cases into a folder."""
        images = image_cases(cases, self.request.data_root)
        with load_predictor(bundle, trust=self.request.trust) as predictor:
            run_batch(predictor, images, predictions)

    def evaluate(self, manifest: Manifest, cases: Sequence[Case], predictions: Path) -> Evaluation:
        """Score the predictions of cases."""
        held_out = manifest.model_copy(update={"training": (), "validation": (), "unlabeled": (), "test": tuple(cases)})
        return evaluate_segmentations(held_out, root=self.request.data_root, predictions=predictions, part="test")

    def describe(self, manifest: Manifest, evaluation: Any, meaning: str) -> None:
        """Write metadata and documents of the new bundle."""
        if self.plan is not None:
            request = self.request
            describe(Description(request.out, manifest, self.plan, evaluation, meaning, source=request.bundle.name))


def _continual_settings(bundle: Path) -> dict[str, Any]:
    """Return the bundle's settings for fine-tuning, but for where the weights lie: that belongs to the run."""
    path = bundle / "configs" / "train_continual.json"
    settings = read_json(path) if path.is_file() else {}
    return {key: value for key, value in settings.items() if not key.startswith("finetune")}
