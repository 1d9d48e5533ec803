"""Findings of the command line's other verbs, as functions."""
