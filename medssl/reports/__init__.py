"""Floor 4: the HTML report and its figures."""
