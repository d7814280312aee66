"""Floor 1: networks and the transfer of weights between them."""
