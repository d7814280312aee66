"""Floor 1: the few transforms that MONAI lacks."""
