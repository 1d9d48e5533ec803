"""Attention computed to a stated tolerance: a planner over exact, polynomial and sampled methods."""
