"""Exit codes of every command."""

OK = 0
USAGE = 1
"""Usage or configuration error, or a bundle that does not verify."""
NOTHING_DONE = 2
"""Nothing could be done."""
SOME_FAILED = 3
"""Done, but some cases failed or errors were found; they are listed."""
STOPPED = 143
"""Stopped by SIGTERM; the same command resumes."""
