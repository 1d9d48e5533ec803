"""Prefixes with fewer slots and the loss that this costs."""
