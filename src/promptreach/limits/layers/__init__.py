"""Lipschitz bounds of whole layers, and their inverses where they contract."""
