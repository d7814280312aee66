"""Floor 1: metrics on arrays, without input or output."""
