import json
from pathlib import Path

import pytest

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.verify import verify_bundle


@pytest.mark.parametrize("bundle", shipped_bundles().values(), ids=shipped_bundles().keys())
def test_shipped_bundle_verifies(bundle: Path) -> None:
    found = [finding for finding in verify_bundle(bundle).findings if finding.severity == "error"]
    assert not found, "\n".join(f"{finding.code} {finding.where}: {finding.text}" for finding in found)


@pytest.mark.parametrize("method", ["mean_teacher", "ua_mt", "cps"])
def test_baselines_keep_the_handlers_of_the_bundle_but_for_the_network_they_deploy(method: str) -> None:
    configs = shipped_bundles()["hippocampus_mri_umct"] / "configs"
    plain, changed = (json.loads((configs / f"{name}.json").read_text()) for name in ("train", f"train_{method}"))
    for part in ("train", "validate"):
        pairs = zip(plain[part]["handlers"], changed[f"{part}#handlers"], strict=True)
        for own, other in pairs:
            differ = {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
            assert differ <= {"network", "parts"}, own["_target_"]
            if "parts" in differ:
                assert own["parts"].items() <= other["parts"].items()
