"""Show the library's progress lines on the terminal."""

from __future__ import annotations

import logging
import sys


def show_progress() -> None:
    """Print progress and warnings of medssl to standard error, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    library = logging.getLogger("medssl")
    library.handlers[:] = [handler]
    library.setLevel(logging.INFO)
    library.propagate = False
    # MONAI warns of a decoder for DICOM that no bundle of ours uses
    logging.getLogger("monai.data").setLevel(logging.ERROR)
    # ignite repeats at info level, for each epoch, what the progress lines say
    logging.getLogger("ignite").setLevel(logging.WARNING)
