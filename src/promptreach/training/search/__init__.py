"""Searches for a learning rate and a start: sweeps and successive halving."""
