"""Floor 4: one HTML file from runs, predictions, metrics, checks and manifests, that opens without a network."""
