"""Attention by a polynomial of the scores, with a proved error."""
