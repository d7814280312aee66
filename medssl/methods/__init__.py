"""Floor 3: one room for each method."""
