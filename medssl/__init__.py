"""medssl: medical image segmentation when labels are scarce."""

from importlib.metadata import version

__version__ = version("medssl")
