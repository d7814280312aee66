"""Floor 1: losses as pure tensor functions with a thin module on top."""
