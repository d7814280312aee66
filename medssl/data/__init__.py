"""Floor 1: manifests, splits, checks, fingerprints, datasets and the few transforms MONAI lacks."""
