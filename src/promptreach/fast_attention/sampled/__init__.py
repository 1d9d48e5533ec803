"""Attention through few landmark or clustered keys, with an error bounded from held-out rows."""
