"""MONAI's own bundle commands on every shipped bundle, offline."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_metadata, verify_net_in_out

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.checks.description import SCHEMA_FILE
from medssl.bundle.checks.running import network_with_weights, runnable_copy
from medssl.bundle.checks.subject import Subject


@pytest.fixture
def deployable(bundle: Path) -> Iterator[Path]:
    """The bundle with weights: its own, or random ones where none are shipped."""
    with runnable_copy(Subject(bundle)) as copy:
        yield copy


every_bundle = pytest.mark.parametrize("bundle", shipped_bundles().values(), ids=shipped_bundles().keys())


def _configs(bundle: Path) -> tuple[str, str]:
    return str(bundle / "configs" / "metadata.json"), str(bundle / "configs" / "inference.json")


@every_bundle
def test_verify_metadata_takes_our_schema_without_a_network(bundle: Path) -> None:
    verify_metadata(meta_file=_configs(bundle)[0], filepath=str(SCHEMA_FILE), create_dir=False)


@every_bundle
def test_verify_metadata_with_our_schema_can_fail(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "metadata.json"
    content = json.loads(Path(_configs(bundle)[0]).read_text(encoding="utf-8"))
    broken.write_text(json.dumps({**content, "version": 5}), encoding="utf-8")
    with pytest.raises(ValueError, match="not of type 'string'"):
        verify_metadata(meta_file=str(broken), filepath=str(SCHEMA_FILE), create_dir=False)


@every_bundle
def test_verify_net_in_out_finds_what_metadata_declares(bundle: Path) -> None:
    meta, config = _configs(bundle)
    verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, device="cpu")


@every_bundle
def test_ckpt_export_makes_the_file_that_deploy_loads(deployable: Path, tmp_path: Path) -> None:
    meta, config = _configs(deployable)
    out, subject = tmp_path / "model.ts", Subject(deployable)
    options = {} if _scripts(deployable) else {"use_trace": True, "input_shape": [1, subject.channels, *subject.patch]}
    if options:  # whoever runs the command has to know
        assert "--use_trace true" in (deployable / "docs" / "README.md").read_text(encoding="utf-8")
    weights = str(deployable / "models" / "model.pt")
    ckpt_export(
        net_id="network_def", filepath=str(out), ckpt_file=weights, meta_file=meta, config_file=[config], **options
    )
    _compare(torch.jit.load(str(out)), deployable)


def _scripts(bundle: Path) -> bool:
    try:
        torch.jit.script(network_with_weights(bundle))
    except Exception:  # the compiler raises many kinds
        return False
    return True


@every_bundle
def test_onnx_export_computes_what_the_network_computes(deployable: Path, tmp_path: Path) -> None:
    import onnxruntime

    meta, config = _configs(deployable)
    out = tmp_path / "model.onnx"
    onnx_export(
        net_id="network_def",
        filepath=str(out),
        ckpt_file=str(deployable / "models" / "model.pt"),
        meta_file=meta,
        config_file=config,
        input_shape=[1, Subject(deployable).channels, *Subject(deployable).patch],
    )
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    _compare(lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0]), deployable)


def _compare(run, bundle: Path) -> None:
    subject = Subject(bundle)
    image = torch.randn(1, subject.channels, *subject.patch)
    with torch.inference_mode():
        expected = network_with_weights(bundle)(image)
        assert torch.allclose(run(image), expected, atol=1e-4 * max(1.0, float(expected.abs().max())))
