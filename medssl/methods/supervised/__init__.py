"""The supervised baseline: labelled data only."""
