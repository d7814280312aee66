"""What `medssl bundle verify` checks: one function for each code, in files by subject."""
