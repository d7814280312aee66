"""Bring the bundles of the repository into the wheel, as medssl/bundles; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_PARTS = ("LICENSE", "large_files.yml", "configs", "models", "docs")
_NOT_SHIPPED = shutil.ignore_patterns("monailabel_train.json", ".tmp-*", "__pycache__")


class BuildWithBundles(build_py):
    """Copy what a bundle is made of; runs, checkpoints and results stay behind."""

    def run(self) -> None:
        """Build the package, then copy the bundles into it."""
        super().run()
        if self.editable_mode:
            return  # a checkout reads bundles/ where it lies
        target = Path(self.build_lib) / "medssl" / "bundles"
        shutil.rmtree(target, ignore_errors=True)
        for bundle in sorted(Path("bundles").iterdir()):
            for part in (bundle / name for name in _PARTS):
                if part.is_dir():
                    shutil.copytree(part, target / bundle.name / part.name, ignore=_NOT_SHIPPED)
                elif part.is_file():
                    (target / bundle.name).mkdir(parents=True, exist_ok=True)
                    shutil.copy2(part, target / bundle.name / part.name)


setup(cmdclass={"build_py": BuildWithBundles})
