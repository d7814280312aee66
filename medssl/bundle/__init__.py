"""Floor 4: resolve, trust, run, adapt and verify MONAI bundles."""
