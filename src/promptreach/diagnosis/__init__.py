"""Expressivity, optimisation or data; the front door is `promptreach.tuning.diagnose`."""
