"""Floor 5: the command line. No torch at import time."""
