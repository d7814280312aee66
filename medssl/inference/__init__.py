"""Floor 2: tiles, restoring to the native grid, memory budget and the batch runner."""
