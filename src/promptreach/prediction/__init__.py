"""Held-out loss and accuracy before any training; the front door is `promptreach.tuning.predict`."""
