import pytest

from medssl.bundle.expressions import has_control_flow, leading_literals, references, refusal


@pytest.mark.parametrize(
    "expression",
    [
        "$import os",
        "$import torch.distributed as dist",
        "$@bundle_root + '/models/model.pt'",
        "$os.path.join(@bundle_root, 'data')",
        "$sorted(glob.glob(@dataset_dir + '/*.nii.gz'))",
        "$[{'image': i} for i in @datalist]",
        "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "$torch.device('cuda:' + os.environ['LOCAL_RANK'])",
        "$torch.bfloat16",
        "$numpy.uint8",
        "$@network_def.to(@device)",
        "$@network.parameters()",
        "$@train#trainer.run()",
        "$not @flag",
        "$@iterations * @batch_size // 2",
        "$-@a[0] < 3 and @b is not None",
        "$torch.distributed.init_process_group(backend='nccl')",
        "$dist.get_rank() == 0",
        "$monai.utils.set_determinism(seed=@seed)",
    ],
)
def test_what_bundles_need_is_allowed(expression: str) -> None:
    assert refusal(expression) is None


@pytest.mark.parametrize(
    "expression",
    ["$eval('1')", "$getattr(@a, 'b')", "$@a.b", "$torch.load", "$os", "$@", "$1; 2", "$x", "$2 ** 999", "$b'x'",
     "$...", "$[*@a]", "${**@a}", "$'%s' if 1 else os.remove('x')", "$@a.to(@b, @c)", "$@a.run(1)", "$(" * 5000, "$",
     "$a = 1", "$[sorted(1) for sorted in @a]"],
)  # fmt: skip
def test_what_bundles_do_not_need_is_refused(expression: str) -> None:
    assert refusal(expression)


def test_references_are_found_as_monai_finds_them() -> None:
    assert list(references("$@a#b + @c::0")) == ["a::b", "c::0"]
    assert list(references("@a#b")) == ["a::b"]
    assert list(references("mail@host")) == []


def test_choice_of_a_device_and_a_plain_list_are_no_control_flow() -> None:
    assert not has_control_flow("$torch.device('cuda' if torch.cuda.is_available() else 'cpu')")
    assert not has_control_flow("$[{'image': i} for i in @datalist]")
    assert has_control_flow("$[i for i in @a for j in @b]")


def test_appended_literals_do_not_begin_a_path() -> None:
    assert leading_literals("$@root + '/data'") == ["root"]
    assert "/etc" in leading_literals("$os.path.join(@root, '/etc')")
