import pydoc

import pytest

from medssl.bundle.targets import find_target, known_names, target_refusal


@pytest.mark.parametrize(
    "target",
    [
        "UNet", "LoadImaged", "Compose", "DiceCELoss", "SupervisedTrainer", "ValidationHandler", "SlidingWindowInferer",
        "CacheDataset", "MeanDice", "CheckpointLoader", "torch.optim.AdamW", "torch.optim.lr_scheduler.OneCycleLR",
        "torch.nn.parallel.DistributedDataParallel", "torch.utils.data.DataLoader", "torch.device",
        "ignite.metrics.Loss", "ignite.handlers.EarlyStopping", "monai.handlers.from_engine",
        "monai.utils.set_determinism", "monai.networks.nets.SwinUNETR", "medssl.core.seeding.seed_everything",
    ],
)  # fmt: skip
def test_what_bundles_need_is_on_the_list(target: str) -> None:
    assert target_refusal(target) is None
    assert find_target(target) is not None


def test_misspelt_name_is_not_a_matter_of_trust() -> None:
    assert target_refusal("UNte") is None
    assert find_target("UNte") is None
    assert "UNet" in known_names("UNte")


def test_module_name_outside_the_list_is_never_imported() -> None:
    import sys

    assert target_refusal("antigravity.fly")
    assert find_target("antigravity.fly") is None
    assert "antigravity" not in sys.modules


def test_trusted_name_outside_the_list_is_found() -> None:
    import json

    assert find_target("json.loads", trusted=True) is json.loads


def test_a_target_is_found_where_monai_finds_it() -> None:
    assert find_target("medssl.losses.DiceCE") is not None
    # The package exports a function of the module's name, behind which pydoc, MONAI's lookup, sees the module in newer
    # versions of Python only
    hidden = "medssl.losses.dice_ce.DiceCE"
    assert find_target(hidden) is pydoc.locate(hidden)


@pytest.mark.parametrize(
    "target",
    [
        "medssl.networks.MultiViewNet", "medssl.networks.ViewNet", "medssl.networks.SplitSegResNet",
        "medssl.losses.DiceCE", "medssl.training.Ramp", "medssl.methods.umct.UmctStep",
        "medssl.methods.umct.PseudoLabels", "medssl.networks.TwinNet", "medssl.training.EmaTeacher",
        "medssl.methods.baselines.MeanTeacherStep", "medssl.methods.baselines.UaMtStep",
        "medssl.methods.baselines.CpsStep", "medssl.methods.baselines.SelfTrainingStep",
    ],
)  # fmt: skip
def test_parts_of_co_training_are_on_the_list(target: str) -> None:
    assert target_refusal(target) is None
    assert find_target(target) is not None


@pytest.mark.parametrize("target", ["medssl.networks.fusion.math", "medssl.networks.split.nn.Linear"])
def test_what_a_module_of_ours_imports_is_not_reached_through_it(target: str) -> None:
    assert target_refusal(target)
