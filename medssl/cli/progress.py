"""Show the library's progress lines on the terminal."""

from __future__ import annotations

import logging
import sys
import warnings

# Of MONAI and torch, on what no user of a command can change: a decoder for DICOM that no bundle of ours uses, and the
# scaler that MONAI's trainer makes on every machine and that medssl's steps do not use
_IDLE = ("NvImgCodecPydicomReader", r"`torch\.cuda\.amp\.GradScaler\(", r"torch\.cuda\.amp\.GradScaler is enabled")


def show_progress() -> None:
    """Print progress and warnings of medssl to standard error, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    library = logging.getLogger("medssl")
    library.handlers[:] = [handler]
    library.setLevel(logging.INFO)
    library.propagate = False
    logging.getLogger("monai.data").setLevel(logging.ERROR)
    for message in _IDLE:
        warnings.filterwarnings("ignore", message=message)
    # ignite repeats at info level, for each epoch, what the progress lines say
    logging.getLogger("ignite").setLevel(logging.WARNING)
