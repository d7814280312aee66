"""Floor 0: errors, findings, whole files, provenance, seeds. No torch except in seeding."""
