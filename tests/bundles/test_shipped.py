from pathlib import Path

import pytest

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.verify import verify_bundle


@pytest.mark.parametrize("bundle", shipped_bundles().values(), ids=shipped_bundles().keys())
def test_shipped_bundle_verifies(bundle: Path) -> None:
    found = [finding for finding in verify_bundle(bundle).findings if finding.severity == "error"]
    assert not found, "\n".join(f"{finding.code} {finding.where}: {finding.text}" for finding in found)
