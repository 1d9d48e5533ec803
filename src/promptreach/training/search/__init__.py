"""Which learning rate and start: sweeps and successive halving."""
