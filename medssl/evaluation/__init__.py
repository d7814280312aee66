"""Floor 2: scores of cases, their policy for empty structures, and intervals."""
